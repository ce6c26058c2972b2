"""How much time, and how much of the driver's memory, does a fit on Dask workers take?

    python benchmarks/dask_fit.py [--rows 1000000] [--workers 2]
    python benchmarks/dask_fit.py --quick

Synthetic rows (d = 8) that are made and held by the workers alone; m = 512 inducing points.
Hyperparameters and inducing points are first fitted to 50,000 of the rows, then to all of them by
at most 10 iterations of L-BFGS-B. Prints seconds in all and per evaluation of the bound with its
gradient, the processor time of both (which does not depend on other processes of the machine), the
driver's peak resident memory, and the error on new rows.
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

D, NOISE = 8, 0.3
# Dask makes glibc return the memory of every chunk's matrices at once; requesting it again would
# take a third of the time.
KEEP_MEMORY = {
    f"distributed.nanny.pre-spawn-environ.MALLOC_{name}_THRESHOLD_": 2**30
    for name in ("TRIM", "MMAP")
}


@contextmanager
def local_client(workers: int, processes: bool) -> Iterator[Client]:
    """A client of workers on this machine that have one thread each and keep their memory."""
    dask.config.set(KEEP_MEMORY)
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=processes, dashboard_address=":0"
    )
    with cluster, Client(cluster) as client:
        yield client


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) + np.abs(x[:, 1]) + np.cos(x[:, 2] + x[:, 3])


def rows_of_block(block: np.ndarray, block_id: tuple[int, ...], size: int) -> np.ndarray:
    """Inputs and, in the last column, targets; the same each time they are made."""
    rng = np.random.default_rng(block_id[0])
    x = rng.normal(size=(size, D))
    y = truth(x) + NOISE * rng.normal(size=size)
    return np.column_stack([x, y])


def simulated(rows: int, partitions: int) -> tuple[da.Array, da.Array]:
    size = rows // partitions
    seeds = da.zeros((partitions, 1), chunks=1)
    chunks = ((size,) * partitions, (D + 1,))
    table = da.map_blocks(rows_of_block, seeds, size=size, chunks=chunks, dtype=float)
    return table[:, :D], table[:, D]


def main(arguments: list[str] | None = None) -> dict:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    rows, m, initial = (2000, 50, 500) if options.quick else (options.rows, 512, 50_000)
    evaluations: list[tuple[float, float]] = []
    processor: list[float] = []
    with local_client(options.workers, processes=not options.quick) as client:
        x, y = simulated(rows, options.partitions)
        start, driver = time.perf_counter(), time.process_time()

        def note(count: int, bound: float, seconds: float) -> None:
            evaluations.append((time.perf_counter(), seconds))
            processor.append(sum(client.run(time.process_time).values()))
            since = time.perf_counter() - start
            print(f"{since:6.0f} s  evaluation {count}: {bound:.1f}", flush=True)

        found = fit(
            client, x, y, n_inducing=m, initial_rows=initial,
            hyperparameter_samples=min(2000, initial), on_evaluation=note,
        )  # fmt: skip
        seconds, driver = time.perf_counter() - start, time.process_time() - driver
    new = np.random.default_rng(10**6).normal(size=(5000, D))
    mean, deviation = found.predict(new)
    ends = [end for end, _ in evaluations]
    result = {
        "rows": rows, "d": D, "m": m, "workers": options.workers, "partitions": options.partitions,
        "seconds": seconds,
        "seconds before all rows": ends[0] - evaluations[0][1] - start,
        "evaluations": len(ends), "iterations": found.result.iterations,
        "seconds per evaluation with gradient": float(np.median(np.diff(ends))),
        "processor seconds of the workers per evaluation": float(np.median(np.diff(processor))),
        "processor seconds of the driver": driver,
        "driver peak MiB": high_water_mark() / 2**20,
        "rmse to the truth": float(np.sqrt(np.mean((mean - truth(new)) ** 2))),
        "rmse of zero": float(np.std(truth(new))), "noise": NOISE,
        "deviation": float(deviation.mean()), "bound": found.result.value,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    save(result, output(options, "dask_fit"))
    return result


if __name__ == "__main__":
    main()
