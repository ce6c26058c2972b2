"""Dask collections as checked partitions that workers hold and can recompute."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from dask.delayed import delayed
from distributed import Client, Future
from numpy.typing import NDArray

from resnet_gp.fitting.standardise import FarInputError, Standardiser

Array = NDArray[np.float64]
Pair: TypeAlias = tuple[Array, Array]


class Partitions:
    """Inputs and targets by partition, in the memory of the workers.

    The scheduler knows each partition as a task with its dependencies: if a worker dies, another
    one computes its partitions again.

    Args:
        client: client of the cluster.
        x: dask.array ``n x d``, or a dask.dataframe with d columns.
        y: dask.array ``n`` or ``n x p``, or a dask.dataframe or series; partitioned as x.

    Attributes:
        pairs: for each partition a future of x and y as arrays.
        num_dims: d.
        num_outputs: p.
        is_vector: whether y has no second dimension.
        column_names, output_names: names of the columns of x and of y; None of an array or series.

    Raises:
        TypeError: x or y is not a Dask collection.
        ValueError: x and y do not match. Errors inside a partition (missing values, other columns)
            are raised when it is first used.
    """

    def __init__(self, client: Client, x: Any, y: Any) -> None:
        for name, collection in (("X", x), ("y", y)):
            if not is_collection(collection):
                raise TypeError(
                    f"{name} must be a dask.array or dask.dataframe, "
                    f"got {type(collection).__name__}"
                )
        if x.ndim != 2 or y.ndim not in (1, 2):
            raise ValueError(f"X must be n x d and y n or n x p, got {x.ndim} and {y.ndim} dims")
        x, y = one_block_of_columns(x), one_block_of_columns(y)
        if hasattr(x, "chunks") and hasattr(y, "chunks"):
            y = _like_rows_of(x, y)
        blocks, targets = blocks_of(x), blocks_of(y)
        if len(blocks) != len(targets):
            raise ValueError(f"X has {len(blocks)} partitions, and y has {len(targets)}")
        self.client = client
        self.num_dims, self.is_vector = int(x.shape[1]), y.ndim == 1
        self.num_outputs = 1 if self.is_vector else int(y.shape[1])
        names = self.column_names, self.output_names = column_names(x), column_names(y)
        shape = self.num_dims, None if self.is_vector else self.num_outputs
        check = delayed(checked_pair, pure=False)
        pairs = [
            check(k, *pair, names, shape)
            for k, pair in enumerate(zip(blocks, targets, strict=True))
        ]
        self.pairs: list[Future] = client.compute(pairs)


def is_collection(values: Any) -> bool:
    """Whether these are a dask.array or a dask.dataframe."""
    return hasattr(values, "to_delayed")


def one_block_of_columns(collection: Any) -> Any:
    """The same collection; an array's chunks hold all columns."""
    if hasattr(collection, "chunks") and collection.ndim == 2 and collection.numblocks[1] > 1:
        return collection.rechunk({1: -1})
    return collection


def _like_rows_of(x: Any, y: Any) -> Any:
    """Rechunk the rows of y like those of x if the sizes of both are known."""
    sizes = x.chunks[0] + y.chunks[0]
    if any(math.isnan(size) for size in sizes):
        return y
    if len(x) != len(y):
        raise ValueError(f"X has {len(x)} rows, and y has {len(y)}")
    return y if x.chunks[0] == y.chunks[0] else y.rechunk({0: x.chunks[0]})


def blocks_of(collection: Any) -> list[Any]:
    """The partitions of a collection in their order, each a task."""
    return list(np.ravel(np.asarray(collection.to_delayed(), dtype=object)))


def column_names(table: Any) -> list[Any] | None:
    """Names of the columns of a data frame; None for an array or a series."""
    return list(table.columns) if hasattr(table, "columns") else None


def checked_pair(
    k: int,
    x: Any,
    y: Any,
    names: tuple[list[Any] | None, list[Any] | None],
    shape: tuple[int, int | None],
) -> Pair:
    """Partition k as float64 arrays; raises as ``checked_block``, or if lengths differ."""
    x = checked_block(f"partition {k} of X", x, names[0], shape[0])
    y = checked_block(f"partition {k} of y", y, names[1], shape[1])
    if len(x) != len(y):
        raise ValueError(f"partition {k} has {len(x)} rows of X and {len(y)} of y")
    return x, y


def checked_block(
    title: str, block: Any, names: list[Any] | None, num_columns: int | None
) -> Array:
    """Rows as a float64 array.

    Args:
        title: names the block in messages.
        block: an array or a data frame.
        names: names of the columns in their order; None if they are not known.
        num_columns: None for a vector.

    Raises:
        ValueError: other columns than expected, values that are not numbers, or not finite.
    """
    found = column_names(block)
    if names is not None and found is not None and found != names:
        raise ValueError(f"{title} has columns {found}, not {names}")
    if any(str(one) == "category" for one in np.ravel(getattr(block, "dtypes", ()))):
        raise ValueError(f"{title} must be numeric: a column is of categories")
    values = np.asarray(block)
    wanted = "one column" if num_columns is None else f"{num_columns} columns"
    if values.shape[1:] != (() if num_columns is None else (num_columns,)) or values.ndim == 0:
        raise ValueError(f"{title} is of shape {values.shape}, not {wanted}")
    try:
        if values.dtype.kind not in "biufO":
            raise TypeError(f"its values are of type {values.dtype}")
        if values.dtype.kind == "O" and any(isinstance(one, str) for one in values.flat):
            raise TypeError("it holds text")
        values = values.astype(np.float64)  # a copy
    except (TypeError, ValueError) as error:
        raise ValueError(f"{title} must be numeric: {error}") from error
    if np.ma.is_masked(block) or not np.isfinite(values).all():
        raise ValueError(f"{title} has values that are missing or not finite")
    return values


def in_standard_units(title: str, values: Array, scaler: Standardiser) -> Array:
    """Standardised values; ValueError that names the block if one is too far away."""
    try:
        return np.asarray(scaler(values).numpy())
    except FarInputError as error:
        raise ValueError(f"{title}: {error}") from error
