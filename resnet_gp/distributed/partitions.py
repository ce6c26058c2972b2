"""Dask collections as checked partitions that workers hold and can compute again."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from dask.delayed import delayed
from distributed import Client, Future
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair: TypeAlias = tuple[Array, Array]


class Partitions:
    """Inputs and targets, partition by partition, in the memory of the workers.

    A partition is the value of a task that the scheduler remembers with all that it depends on: if
    its worker dies, another one computes it again.

    Args:
        client: of the cluster that is to hold the partitions.
        x: dask.array ``n x d``, or a dask.dataframe with d columns.
        y: dask.array ``n`` or ``n x p``, or a dask.dataframe or series; partitioned as x.

    Attributes:
        pairs: one future for each partition, of x and y as arrays.
        num_dims: d.
        num_outputs: p.
        is_vector: whether y has no second dimension.

    Raises:
        TypeError: x or y is no Dask collection.
        ValueError: x and y do not fit each other. What is wrong inside a partition (missing values,
            other columns) is raised when its value is first asked for.
    """

    def __init__(self, client: Client, x: Any, y: Any) -> None:
        for name, collection in (("X", x), ("y", y)):
            if not hasattr(collection, "to_delayed"):
                raise TypeError(
                    f"{name} must be a dask.array or dask.dataframe, "
                    f"got {type(collection).__name__}"
                )
        if x.ndim != 2 or y.ndim not in (1, 2):
            raise ValueError(f"X must be n x d and y n or n x p, got {x.ndim} and {y.ndim} dims")
        x, y = _one_block_of_columns(x), _one_block_of_columns(y)
        if hasattr(x, "chunks") and hasattr(y, "chunks"):
            y = _like_rows_of(x, y)
        blocks, targets = _blocks(x), _blocks(y)
        if len(blocks) != len(targets):
            raise ValueError(f"X has {len(blocks)} partitions, and y has {len(targets)}")
        self.client = client
        self.num_dims, self.is_vector = int(x.shape[1]), y.ndim == 1
        self.num_outputs = 1 if self.is_vector else int(y.shape[1])
        names = _names(x), _names(y)
        shape = self.num_dims, None if self.is_vector else self.num_outputs
        check = delayed(checked_pair, pure=False)
        pairs = [
            check(k, *pair, names, shape)
            for k, pair in enumerate(zip(blocks, targets, strict=True))
        ]
        self.pairs: list[Future] = client.compute(pairs)


def _one_block_of_columns(collection: Any) -> Any:
    if hasattr(collection, "chunks") and collection.ndim == 2 and collection.numblocks[1] > 1:
        return collection.rechunk({1: -1})
    return collection


def _like_rows_of(x: Any, y: Any) -> Any:
    """y with the row chunks of x, where the sizes of both are known."""
    sizes = x.chunks[0] + y.chunks[0]
    if any(math.isnan(size) for size in sizes):
        return y
    if len(x) != len(y):
        raise ValueError(f"X has {len(x)} rows, and y has {len(y)}")
    return y if x.chunks[0] == y.chunks[0] else y.rechunk({0: x.chunks[0]})


def _blocks(collection: Any) -> list[Any]:
    return list(np.ravel(np.asarray(collection.to_delayed(), dtype=object)))


def _names(collection: Any) -> list[Any] | None:
    return list(collection.columns) if hasattr(collection, "columns") else None


def checked_pair(
    k: int,
    x: Any,
    y: Any,
    names: tuple[list[Any] | None, list[Any] | None],
    shape: tuple[int, int | None],
) -> Pair:
    """Partition k as float64 arrays.

    Raises:
        ValueError: other columns than expected, other lengths, or values that are not finite.
    """
    pair = []
    for name, block, expected, columns in zip(("X", "y"), (x, y), names, shape, strict=True):
        found = _names(block)
        if expected is not None and found is not None and found != expected:
            raise ValueError(f"partition {k} of {name} has columns {found}, not {expected}")
        values = np.array(block, dtype=np.float64)
        if values.shape[1:] != (() if columns is None else (columns,)):
            wanted = "one column" if columns is None else f"{columns} columns"
            raise ValueError(f"partition {k} of {name} is of shape {values.shape}, not {wanted}")
        if not np.isfinite(values).all():
            raise ValueError(f"partition {k} of {name} has values that are missing or not finite")
        pair.append(values)
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"partition {k} has {len(pair[0])} rows of X and {len(pair[1])} of y")
    return pair[0], pair[1]
