"""Affine maps between the user's units and those of the models: mean 0 and variance 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Standardiser:
    """x -> (x - mean) / scale, column by column; constant columns have scale 1.

    Attributes:
        mean: one for each column.
        scale: standard deviation of each column.
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, values: Array) -> Standardiser:
        """From the rows of ``n x d`` (or the entries of ``n``) values, without overflow."""
        # A constant column has a computed deviation of rounding size: compare its extremes instead.
        smallest, largest = values.min(axis=0), values.max(axis=0)
        middle = smallest / 2 + largest / 2
        half_range = largest / 2 - smallest / 2
        safe = np.where(half_range > 0, half_range, 1.0)
        reduced = (values - middle) / safe
        mean, deviation = middle + safe * reduced.mean(axis=0), safe * reduced.std(axis=0)
        constant = (half_range == 0) | (deviation == 0)
        return cls(np.where(constant, smallest, mean), np.where(constant, 1.0, deviation))

    def __call__(self, values: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray((values - self.mean) / self.scale))
