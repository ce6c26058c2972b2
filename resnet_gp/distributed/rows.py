"""Training rows on Dask's workers, and the search for the nearest of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import dask
import numpy as np
import torch
from dask.delayed import Delayed, delayed
from distributed import Client, Future
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.distributed.merge import (
    Near,
    PartitionIndex,
    first_counts,
    further,
    merged,
    with_more,
)
from resnet_gp.models.searched_points import SearchedPoints
from resnet_gp.models.training_rows import Rows, TrainingRows

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Block: TypeAlias = tuple[Array, Array]  # x, n x d, and y, n x p

# Above this size of a task, Dask warns and advises to scatter; but what a task holds survives the
# loss of a worker, and what is scattered does not.
_LARGE_TASK = "distributed.admin.large-graph-warning-threshold"


def tasks_may_be_large() -> AbstractContextManager[Any]:
    """No warning within the context."""
    return dask.config.set({_LARGE_TASK: sys.maxsize})


@dataclass(frozen=True)
class DaskRows(TrainingRows):
    """Rows in standard units in the memory of workers, numbered through all partitions.

    Attributes:
        client: client of the cluster.
        blocks: for each partition that has rows, a future of x and y.
        sizes: numbers of their rows.
        noise: variance of the noise of all targets, a scalar.
    """

    client: Client
    blocks: list[Future]
    sizes: list[int]
    noise: Tensor

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def bounds(self) -> Indices:
        """Numbers of the first row of each partition and, last, of all rows."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.intp)

    def with_noise(self, noise: Tensor) -> DaskRows:
        """The same rows with another variance of their noise."""
        return replace(self, noise=noise)

    def turned(self, directions: Array) -> DaskRows:
        """The same rows with inputs along other directions, ``d x d``."""
        client = self.client
        return replace(
            self,
            blocks=[client.submit(_turned, block, directions, pure=False) for block in self.blocks],
        )

    def take(self, numbers: Tensor) -> Rows:
        with tasks_may_be_large():
            block = self.client.compute(self.lazily_taken(numbers.numpy())).result()
        return rows_of(block, self.noise)

    def lazily_taken(self, numbers: Indices) -> Delayed:
        """x and y of the rows of these numbers, from the partitions that hold some."""
        order = np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], self.bounds)
        parts = [
            later(_taken, block, numbers[order[start:end]] - first)
            for block, first, start, end in zip(
                self.blocks, self.bounds[:-1], ends[:-1], ends[1:], strict=True
            )
            if end > start
        ]
        return later(_in_order, parts, order)

    def searched(self, widths: Tensor) -> DaskPoints:
        indices = [
            self.client.submit(_index, block, int(first), widths.numpy(), pure=False)
            for block, first in zip(self.blocks, self.bounds[:-1], strict=True)
        ]
        return DaskPoints(self, widths, indices)


@dataclass(frozen=True)
class DaskPoints(SearchedPoints):
    """The points x / widths of rows on workers.

    Attributes:
        rows: of the points.
        widths: ``d``.
        indices: for each partition a future of its ``PartitionIndex``.
    """

    rows: DaskRows
    widths: Tensor
    indices: list[Future]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, numbers: Indices) -> Array:
        taken = self.rows.take(torch.from_numpy(numbers))
        return np.asarray((taken.x / self.widths).numpy())

    def nearest(self, points: Array, k: int) -> Indices:
        with tasks_may_be_large():
            found = self.lazily_nearest(later(np.asarray, points), k)
            near: Near = self.rows.client.compute(found).result()
        return near.rows

    def lazily_nearest(self, points: Delayed, k: int) -> Delayed:
        """The ``k`` nearest rows of points that workers hold, as ``Near``."""
        counts = first_counts(self.rows.sizes, k)
        first = [
            later(_nearest, index, points, count)
            for index, count in zip(self.indices, counts, strict=True)
        ]
        near = later(merged, first, k)
        if len(first) == 1:
            return near
        within = later(_last_distances, near)
        more = [
            later(further, index, points, found, within, k)
            for index, found in zip(self.indices, first, strict=True)
        ]
        return later(with_more, near, more)

    def lazily_members(self, near: Delayed) -> tuple[Delayed, Delayed]:
        """The rows that are near to some point, x and y, and which of these are near to each."""
        used = later(_used, near)
        bounds = self.rows.bounds
        parts = [
            later(_taken_between, block, used, first, end)
            for block, first, end in zip(self.rows.blocks, bounds[:-1], bounds[1:], strict=True)
        ]
        return later(_concatenated, parts), later(_positions, near, used)


def later(function: Callable[..., Any], *arguments: Any) -> Delayed:
    """A call as a task of its own; arguments may be tasks and futures."""
    return delayed(function, pure=False)(*arguments)


def rows_of(block: Block, noise: Tensor) -> Rows:
    """Rows with targets of one variance of the noise."""
    x, y = map(torch.from_numpy, block)
    return Rows(x, y, noise.expand(len(x)))


def _index(block: Block, first: int, widths: Array) -> PartitionIndex:
    return PartitionIndex(block[0] / widths, first)


def _turned(block: Block, directions: Array) -> Block:
    x, y = block
    return x @ directions, y


def _taken(block: Block, rows: Indices) -> Block:
    return block[0][rows], block[1][rows]


def _taken_between(block: Block, rows: Indices, first: int, end: int) -> Block:
    chosen = rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)] - first
    return block[0][chosen], block[1][chosen]


def _in_order(parts: list[Block], order: Indices) -> Block:
    x, y = _concatenated(parts)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return x[back], y[back]


def _concatenated(parts: Sequence[Block]) -> Block:
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)


def _nearest(index: PartitionIndex, points: Array, k: int) -> Near:
    return index.nearest(points, k)


def _last_distances(near: Near) -> Array:
    return near.distances[:, -1]


def _used(near: Near) -> Indices:
    return np.unique(near.rows)


def _positions(near: Near, used: Indices) -> Indices:
    return np.searchsorted(used, near.rows)
