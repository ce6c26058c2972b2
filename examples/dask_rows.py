# %% [markdown]
# # Rows that stay on Dask workers
#
# Two worker processes simulate the rows and keep them. The caller gets a few thousand rows, from
# which it learns hyperparameters; each prediction is conditioned on the nearest of all rows. The
# rows to predict stay with the workers, too: predictions are collections that are computed where
# they are used. The script prints the error of this fit, and of one to a part of the rows on one
# machine, against the known function.
#
#     python examples/dask_rows.py [--quick]

# %%
from __future__ import annotations

import argparse
import time

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
def rows_of_block(block: np.ndarray, block_id: tuple[int, ...], size: int, seed: int) -> np.ndarray:
    """Inputs and, in the last column, targets, `size x 5`."""
    rng = np.random.default_rng([seed, block_id[0]])
    x = rng.normal(size=(size, D))
    return np.column_stack([x, truth(x) + NOISE * rng.normal(size=size)])


def simulated(rows: int, partitions: int, seed: int) -> tuple[da.Array, da.Array]:
    size = rows // partitions
    numbers = da.zeros((partitions, 1), chunks=1)
    chunks = ((size,) * partitions, (D + 1,))
    table = da.map_blocks(rows_of_block, numbers, size=size, seed=seed, chunks=chunks, dtype=float)
    return table[:, :D], table[:, D]


# %% [markdown]
# `predict` returns at once; `dask.compute` gets three numbers, and no row comes here.


# %%
def compare(client: Client, rows: int, partitions: int, few: int, new: int) -> dict[str, float]:
    x, y = simulated(rows, partitions, seed=0)
    start = time.perf_counter()
    found = fit(client, x, y)
    fitted = time.perf_counter()
    new_x, new_y = simulated(new, 2, seed=1)
    mean, deviation = found.predict(new_x)
    square, held = dask.compute(
        ((mean - new_x.map_blocks(truth, drop_axis=1, dtype=float)) ** 2).mean(),
        (abs(new_y - mean) < 2 * deviation).mean(),
    )
    predicted = time.perf_counter()
    alone = ResNetGPRegressor(inference="nearest").fit(*dask.compute(x[:few], y[:few]))
    here = new_x.compute()
    return {
        "seconds of the fit": fitted - start,
        "seconds of the predictions": predicted - fitted,
        "error, all rows": float(np.sqrt(square)),
        f"error, {few} rows": float(np.sqrt(np.mean((alone.predict(here) - truth(here)) ** 2))),
        "within two deviations": float(held),
    }


# %%
def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Rows that stay on Dask workers")
    parser.add_argument("--quick", action="store_true", help="400 rows, no processes")
    options = parser.parse_args(arguments)
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=not options.quick,
        dashboard_address=":0",
    )
    with cluster, Client(cluster) as client:
        sizes = (400, 2, 40, 200) if options.quick else (200_000, 8, 2000, 5000)
        result = compare(client, *sizes)
    for name, value in result.items():
        print(f"{name}: {value:.3f}")
    return result


# %% [markdown]
# Worker processes import this script, so the code that starts them must not run on import.


# %%
if __name__ == "__main__":
    main()
