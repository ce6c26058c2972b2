"""The nearest of many points, exactly, by SciPy's k-d tree."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from resnet_gp.models.searched_points import SearchedPoints

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

# Appended points that wait beside the tree: at most this many, or this share of all points.
_WAITING, _WAITING_SHARE = 1000, 0.02
# Points at the distance of the last neighbour among which it is the one of the smallest number.
_TIED = 2000


class Neighbours(SearchedPoints):
    """Points in this process.

    Where more than 2000 are as far as the last neighbour, any of them may be it.

    Args:
        points: ``n x d``.
    """

    def __init__(self, points: Array) -> None:
        self.points = points
        self._tree = KDTree(points)

    def __len__(self) -> int:
        return len(self.points)

    def append(self, points: Array) -> Neighbours:
        """The same with further points, whose rows follow; the tree is built again once in a while.

        Args:
            points: ``m x d``.
        """
        both = np.concatenate([self.points, points])
        if len(both) - self._tree.n > max(_WAITING, _WAITING_SHARE * len(both)):
            return Neighbours(both)
        other = Neighbours.__new__(Neighbours)
        other.points, other._tree = both, self._tree
        return other

    def take(self, numbers: Rows) -> Array:
        return self.points[numbers]

    def nearest(self, points: Array, k: int) -> Rows:
        return self.query(points, k)[1]

    def query(self, points: Array, k: int) -> tuple[Array, Rows]:
        """Distances and numbers of the k nearest, the nearest first, both ``m x k``.

        Args:
            points: ``m x d``.
            k: at most the number of points.
        """
        most = min(len(self), k + _TIED)
        width = min(most, k + 1)
        distances, rows = self._sorted(points, width)
        tied = np.flatnonzero(distances[:, k - 1] == distances[:, -1])
        while width < most and len(tied):
            width = min(most, 2 * width)
            wider, more = self._sorted(points[tied], width)
            distances[tied, :k], rows[tied, :k] = wider[:, :k], more[:, :k]
            tied = tied[wider[:, k - 1] == wider[:, -1]]
        return distances[:, :k], rows[:, :k]

    def _sorted(self, points: Array, k: int) -> tuple[Array, Rows]:
        """The k nearest by distance and number; of those as far as the last, any."""
        count = min(k, self._tree.n)
        threads = torch.get_num_threads()
        distances, rows = self._tree.query(points, k=[*range(1, count + 1)], workers=threads)
        waiting = self.points[self._tree.n :]
        if len(waiting):
            distances = np.concatenate([distances, cdist(points, waiting)], axis=1)
            added = np.broadcast_to(np.arange(self._tree.n, len(self)), (len(points), len(waiting)))
            rows = np.concatenate([rows, added], axis=1)
        return nearest_first(distances, rows, k)


def nearest_first(distances: Array, rows: Rows, k: int) -> tuple[Array, Rows]:
    """The first k of each line, ordered by distance and, where these are equal, by number."""
    steps = np.diff(distances, axis=1)
    lines = np.flatnonzero((steps <= 0).any(axis=1))
    if len(lines):
        order = np.lexsort((rows[lines], distances[lines]))
        distances[lines] = np.take_along_axis(distances[lines], order, axis=1)
        rows[lines] = np.take_along_axis(rows[lines], order, axis=1)
    return distances[:, :k], rows[:, :k].astype(np.intp, copy=False)
