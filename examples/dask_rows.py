# %% [markdown]
# # Rows that stay on Dask workers
#
# Two worker processes simulate the rows and keep them; the caller gets a few thousand rows and sums
# over all of them. A first fit to these rows finds the inducing points and initial hyperparameters;
# iterations with all rows follow. The script prints the error of both fits against the known
# function, and the time. Rows that fit in the memory of one machine need no workers:
# `sparse_regression.py` does the same with less setup.
#
#     python examples/dask_rows.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

from resnet_gp import ResNetGPRegressor
from resnet_gp.distributed import fit

D, NOISE = 4, 0.3


# %%
def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) + np.abs(x[:, 1]) + np.cos(x[:, 2] + x[:, 3])


# %% [markdown]
# The rows of a block depend only on its number: a worker that replaces a dead one makes the same
# rows again.


# %%
def rows_of_block(block: np.ndarray, block_id: tuple[int, ...], size: int) -> np.ndarray:
    """Inputs and, in the last column, targets, `size x 5`."""
    rng = np.random.default_rng(block_id[0])
    x = rng.normal(size=(size, D))
    return np.column_stack([x, truth(x) + NOISE * rng.normal(size=size)])


def simulated(rows: int, partitions: int) -> tuple[da.Array, da.Array]:
    size = rows // partitions
    numbers = da.zeros((partitions, 1), chunks=1)
    chunks = ((size,) * partitions, (D + 1,))
    table = da.map_blocks(rows_of_block, numbers, size=size, chunks=chunks, dtype=float)
    return table[:, :D], table[:, D]


# %%
def error(mean: np.ndarray, x: np.ndarray) -> float:
    return float(np.sqrt(np.mean((mean - truth(x)) ** 2)))


def compare(
    client: Client, rows: int, partitions: int, few: int, n_inducing: int
) -> dict[str, float | list]:
    x, y = simulated(rows, partitions)
    new = np.random.default_rng(10**6).normal(size=(5000, D))
    settings = {"n_inducing": n_inducing, "hyperparameter_samples": min(few, 500)}
    bounds: list[float] = []
    start = time.perf_counter()
    found = fit(
        client, x, y, initial_rows=few, max_iter=6,
        on_evaluation=lambda number, bound, seconds: bounds.append(bound), **settings,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    mean, deviation = found.predict(new)
    targets = truth(new) + NOISE * np.random.default_rng(1).normal(size=len(new))
    some = dask.compute(x[:few], y[:few])
    alone = ResNetGPRegressor(
        n_components=1, inference="sparse", learn_inducing=False, **settings
    ).fit(*some)
    return {
        "seconds": seconds,
        "error, all rows": error(mean, new),
        f"error, {few} rows": error(alone.predict(new), new),
        "90 % intervals hold": float(np.mean(np.abs(targets - mean) < 1.645 * deviation)),
        "bounds": bounds,
    }


# %%
def draw(path: Path, bounds: list[float]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(np.arange(1, len(bounds) + 1), bounds, "o-", color="#0b5fa5")
    axis.set(xlabel="evaluation with all rows", ylabel="bound of the log likelihood, nats")
    figure.savefig(path, dpi=90)


# %%
def main(arguments: list[str] | None = None) -> dict[str, float | list]:
    parser = argparse.ArgumentParser(description="Rows that stay on Dask workers")
    parser.add_argument("--quick", action="store_true", help="800 rows, no processes")
    parser.add_argument("--figure", type=Path, help="where to draw the bound")
    options = parser.parse_args(arguments)
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=not options.quick,
        dashboard_address=":0",
    )
    with cluster, Client(cluster) as client:
        result = compare(client, *(800, 2, 100, 30) if options.quick else (60_000, 8, 1000, 128))
    for name, value in result.items():
        if name != "bounds":
            print(f"{name}: {value:.3f}")
    if options.figure:
        draw(options.figure, result["bounds"])
    return result


# %% [markdown]
# Worker processes import this script, so the code that starts them must not run on import.


# %%
if __name__ == "__main__":
    main()
