"""The nearest rows of all partitions, from searches of each.

A partition with a share s of the rows is first asked for a few more than s k of its nearest rows.
The k nearest of all that were found are candidates, the last of which is at some distance r. Only
a partition whose last answer is within r may hold more, and is asked for k. Where rows are in
random order, this moves some 2k candidates a point, instead of k from each partition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resnet_gp.models.neighbours import Neighbours, nearest_first

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_TREE = 40  # bytes of the k-d tree for each point


class Near(NamedTuple):
    """Rows near to some points, the nearest first.

    Attributes:
        distances: ``m x k``.
        rows: ``m x k``, their numbers among all rows.
    """

    distances: Array
    rows: Indices


class More(NamedTuple):
    """Further rows near to some of the points.

    Attributes:
        points: numbers of these points.
        near: further rows, beyond the first answer.
    """

    points: Indices
    near: Near


class PartitionIndex:
    """The index of one partition.

    Args:
        points: of its rows, ``n x d``, n at least 1.
        first: the number of its first row.
    """

    def __init__(self, points: Array, first: int) -> None:
        self.neighbours, self.first = Neighbours(points), first

    def __sizeof__(self) -> int:
        """Dask moves what is small to what is large."""
        return int(self.neighbours.points.nbytes + _TREE * len(self.neighbours))

    def nearest(self, points: Array, k: int) -> Near:
        """The k nearest rows of the partition; k at most their number."""
        distances, rows = self.neighbours.query(points, k)
        return Near(distances, rows + self.first)


def first_counts(sizes: list[int], k: int) -> list[int]:
    """How many of the nearest rows to ask of each partition first; at least k in all.

    Three standard deviations more than a random partition holds.
    """
    shares = [k * size / sum(sizes) for size in sizes]
    return [
        min(k, size, math.ceil(share + 3 * math.sqrt(share)))
        for size, share in zip(sizes, shares, strict=True)
    ]


def further(index: PartitionIndex, points: Array, found: Near, within: Array, k: int) -> More:
    """What a partition holds beyond its first answer.

    Args:
        index: of the partition.
        points: ``m x d``.
        found: its first answer, ``m x j``.
        within: distances beyond which rows do not count, ``m``.
        k: how many of its nearest rows count, with those of the first answer.
    """
    first, k = found.distances.shape[1], min(k, len(index.neighbours))
    chosen = np.flatnonzero(found.distances[:, -1] <= within) if first < k else np.arange(0)
    if len(chosen) == 0:
        return More(chosen, Near(np.empty((0, 0)), np.empty((0, 0), dtype=np.intp)))
    near = index.nearest(points[chosen], k)
    return More(chosen, Near(near.distances[:, first:], near.rows[:, first:]))


def merged(parts: list[Near], k: int) -> Near:
    """The k nearest of all."""
    distances, rows = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    order = np.argsort(distances, axis=1)
    distances, rows = (np.take_along_axis(each, order, axis=1) for each in (distances, rows))
    return Near(*nearest_first(distances, rows, k))


def with_more(near: Near, more: list[More]) -> Near:
    """The nearest of candidates and further rows, as many as there were."""
    distances, rows = near.distances.copy(), near.rows.copy()
    for points, further_rows in more:
        if len(points):
            both = [Near(distances[points], rows[points]), further_rows]
            distances[points], rows[points] = merged(both, distances.shape[1])
    return Near(distances, rows)
