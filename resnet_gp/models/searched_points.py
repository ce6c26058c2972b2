"""The protocol of a search for the nearest of many points."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


class SearchedPoints(ABC):
    """Points among which the nearest are found, in Euclidean distance.

    Of points at the same distance, those of the smaller number are nearer.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, numbers: Indices) -> Array:
        """The points of these numbers, ``m x d``."""

    @abstractmethod
    def nearest(self, points: Array, k: int) -> Indices:
        """Numbers of the k nearest, the nearest first, ``m x k``.

        Args:
            points: ``m x d``.
            k: at most the number of points.
        """

    def append(self, points: Array) -> SearchedPoints:
        """The same with further points, ``m x d``, whose numbers follow."""
        raise NotImplementedError

    def nearest_others(self, numbers: Indices, k: int) -> Indices:
        """Numbers of the k points nearest to some of the points, which do not count themselves.

        Args:
            numbers: ``m``.
            k: less than the number of points.
        """
        found = self.nearest(self.take(numbers), k + 1)
        own = found == numbers[:, None]
        own[~own.any(1), k] = True  # more than k coincide with it: leave out the last
        return found[~own].reshape(len(numbers), k)
