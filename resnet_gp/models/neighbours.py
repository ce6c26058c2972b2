"""The nearest of many points, exactly, by SciPy's k-d tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

# Appended points that wait beside the tree: at most this many, or this share of all points.
_WAITING, _WAITING_SHARE = 1000, 0.02


class Neighbours:
    """Points among which the nearest are found, in Euclidean distance.

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

    def nearest(self, points: Array, k: int) -> Rows:
        """Rows of the k nearest, the nearest first, ``m x k``.

        Args:
            points: ``m x d``.
            k: at most the number of points.
        """
        count = min(k, self._tree.n)
        distances, rows = self._tree.query(points, k=[*range(1, count + 1)], workers=-1)
        waiting = self.points[self._tree.n :]
        if len(waiting):
            distances = np.concatenate([distances, cdist(points, waiting)], axis=1)
            added = np.broadcast_to(np.arange(self._tree.n, len(self)), (len(points), len(waiting)))
            rows = np.concatenate([rows, added], axis=1)
            order = np.argsort(distances, axis=1, kind="stable")[:, :k]
            rows = np.take_along_axis(rows, order, axis=1)
        return np.asarray(rows, dtype=np.intp)

    def nearest_others(self, rows: Rows, k: int) -> Rows:
        """Rows of the k points nearest to some of the points, which do not count themselves.

        Args:
            rows: ``m``.
            k: less than the number of points.
        """
        found = self.nearest(self.points[rows], k + 1)
        own = found == rows[:, None]
        own[~own.any(1), k] = True  # more than k coincide with it: leave out any one
        return found[~own].reshape(len(rows), k)
