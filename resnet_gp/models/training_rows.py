"""Training rows by number, in this process or elsewhere, and what finds the nearest of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.models.neighbours import Neighbours
from resnet_gp.models.posterior import UnsupportedError, to_array
from resnet_gp.models.searched_points import SearchedPoints

Indices = NDArray[np.intp]


def shuffled(n: int) -> Indices:
    """The numbers of n rows in random order, the same each time.

    Whoever takes some of the rows takes the first of these, or those after the first that another
    has taken.
    """
    return np.random.RandomState(0).permutation(n)


class TrainingRows(ABC):
    """Rows with targets, numbered from 0."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, numbers: Tensor) -> Rows:
        """The rows of these numbers, in their order."""

    @abstractmethod
    def searched(self, widths: Tensor) -> SearchedPoints:
        """The points x / widths of all rows, for searches of the nearest."""

    def append(self, rows: Rows) -> TrainingRows:
        """The same with further rows, whose numbers follow.

        Raises:
            UnsupportedError: these cannot take further rows.
        """
        raise UnsupportedError("these rows cannot take further ones: fit to all of them")


@dataclass(frozen=True)
class Rows(TrainingRows):
    """Rows in this process.

    Attributes:
        x: ``n x d``.
        y: ``n x p``.
        noise: variance of the noise of each target, ``n``.
    """

    x: Tensor
    y: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def take(self, numbers: Tensor) -> Rows:
        return Rows(self.x[numbers], self.y[numbers], self.noise[numbers])

    def searched(self, widths: Tensor) -> Neighbours:
        return Neighbours(to_array(self.x / widths))

    def append(self, rows: Rows) -> Rows:
        parts = (self.x, rows.x), (self.y, rows.y), (self.noise, rows.noise)
        return Rows(*map(torch.cat, parts))
