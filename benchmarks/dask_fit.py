"""How much time and memory does a fit on Dask workers take, and how much do its predictions?

    python benchmarks/dask_fit.py [--rows 1000000] [--workers 2] [--partitions 20]
    python benchmarks/dask_fit.py --quick

Synthetic rows (d = 8), up to ten million, that are made and held by the workers alone. Prints the
seconds and the processor time of the fit and of 100,000 predictions that stay distributed, the
peaks of resident memory of the caller and of each worker until the end of both, and the error to
the function. The results keep one measurement for each number of rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from harness import high_water_mark, output, parser_of, save

from resnet_gp.distributed import fit
from resnet_gp.distributed.fit import DEFAULT

D, NOISE = 8, 0.3


@contextmanager
def local_client(workers: int, processes: bool) -> Iterator[Client]:
    """A client of workers on this machine that have one thread each."""
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=processes, dashboard_address=":0"
    )
    with cluster, Client(cluster) as client:
        yield client


def processor_seconds(client: Client) -> tuple[float, float]:
    """Of the caller and of all workers, which do not depend on other processes of the machine."""
    return time.process_time(), sum(client.run(time.process_time).values())


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) + np.abs(x[:, 1]) + np.cos(x[:, 2] + x[:, 3])


def rows_of_block(
    block: np.ndarray, block_id: tuple[int, ...], size: int, seed: int = 0
) -> np.ndarray:
    """Inputs and, in the last column, targets; the same each time they are made."""
    rng = np.random.default_rng([seed, block_id[0]])
    x = rng.normal(size=(size, D))
    y = truth(x) + NOISE * rng.normal(size=size)
    return np.column_stack([x, y])


def simulated(rows: int, partitions: int, seed: int = 0) -> tuple[da.Array, da.Array]:
    size = rows // partitions
    numbers = da.zeros((partitions, 1), chunks=1)
    chunks = ((size,) * partitions, (D + 1,))
    table = da.map_blocks(rows_of_block, numbers, size=size, seed=seed, chunks=chunks, dtype=float)
    return table[:, :D], table[:, D]


def main(arguments: list[str] | None = None) -> dict:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    rows, partitions, new, settings = options.rows, options.partitions, 100_000, {}
    if options.quick:
        rows, partitions, new = 1000, 4, 200
        settings = {"kernels": DEFAULT[:1], "n_neighbors": 32, "max_iter": 5}
    with local_client(options.workers, processes=not options.quick) as client:
        x, y = simulated(rows, partitions)
        start, *used = time.perf_counter(), *processor_seconds(client)
        found = fit(client, x, y, **settings)
        fitted, *used_by_fit = time.perf_counter(), *processor_seconds(client)
        points, targets = simulated(new, 10, seed=1)
        mean, std = found.predict(points)
        error, covered, deviation = dask.compute(
            ((mean - points.map_blocks(truth, drop_axis=1, dtype=float)) ** 2).mean(),
            (abs(targets - mean) < 2 * std).mean(),
            std.mean(),
        )
        predicted, *used_by_both = time.perf_counter(), *processor_seconds(client)
        peaks = list(client.run(high_water_mark).values())
    ones = truth(np.random.default_rng(2).normal(size=(5000, D)))
    result = {
        "rows": rows, "d": D, "workers": options.workers, "partitions": partitions,
        "seconds of the fit": fitted - start,
        "processor seconds of caller and workers": list(np.subtract(used_by_fit, used)),
        "iterations": found.result.iterations,
        "kernel": found.kernel.name, "neighbors": found.n_neighbors,
        "predictions": new, "seconds of the predictions": predicted - fitted,
        "processor seconds of these": list(np.subtract(used_by_both, used_by_fit)),
        "caller peak MiB": high_water_mark() / 2**20,
        "worker peaks MiB": [peak / 2**20 for peak in peaks],
        "rmse to the truth": float(np.sqrt(error)), "rmse of the mean": float(np.std(ones)),
        "noise": NOISE, "deviation": float(deviation), "within two deviations": float(covered),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    path = output(options, "dask_fit")
    known = json.loads(path.read_text()) if path and path.exists() else []
    kept = [one for one in known if one["rows"] != rows]
    save(sorted([*kept, result], key=lambda one: one["rows"]), path)
    return result


if __name__ == "__main__":
    main()
