"""Affine maps between the user's units and those of the models: mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

# Rounding errors of a short computation, relative to its result.
_ROUNDING = 32 * np.finfo(np.float64).eps
_ROUNDING_FLOAT32 = 4 * float(np.finfo(np.float32).eps)  # of data that came as float32
# In standard deviations. Kernels square values divided by lengthscales of 0.01, in float32 too.
_FARTHEST = 1e15
HUGE = 1e150  # squares overflow; no unit needs such numbers, but marks of missing values do


class FarInputError(ValueError):
    """A value so far from the others that a kernel would overflow.

    Attributes:
        row: the index of its row, from 0.
        value: in the units of the user.
        column: the index of its column; 0 in a vector.
        place: what holds it, such as an argument.
    """

    def __init__(self, row: int, value: float, column: int = 0, place: str = "") -> None:
        super().__init__(row, value, column, place)  # the arguments from which pickle restores it
        self.row, self.value, self.column, self.place = row, value, column, place

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}row {self.row} (counted from 0) {self.reason}"

    def of(self, argument: str, names: Sequence[str] = ()) -> FarInputError:
        """The error with the name of an argument, and of the column if there are names."""
        place = f"{argument}, column {names[self.column]!r}" if names else argument
        return FarInputError(self.row, self.value, self.column, place)

    @property
    def reason(self) -> str:
        """The message without its row."""
        return (
            f"holds {self.value:.4g}, more than {_FARTHEST:.0e} standard deviations away from the "
            "other values of its column: correct it, or leave the row out"
        )


def is_constant(smallest: Array, largest: Array) -> NDArray[np.bool_]:
    """Whether columns with these extremes vary by rounding errors at most."""
    half_range = largest / 2 - smallest / 2  # does not overflow
    size = np.maximum(np.abs(smallest), np.abs(largest))
    single = _is_float32(smallest) & _is_float32(largest)
    rounding = np.where(single, _ROUNDING_FLOAT32, _ROUNDING)
    return np.asarray(half_range <= rounding * (size / 2))


def _is_float32(values: Array) -> NDArray[np.bool_]:
    """Whether values look like float32 numbers in float64: representable, and no integers."""
    with np.errstate(over="ignore"):
        return np.asarray((values == np.float32(values)) & (values != np.round(values)))


@dataclass(frozen=True)
class Standardiser:
    """x -> (x - mean) / scale, column by column.

    Attributes:
        mean: one for each column.
        scale: standard deviation of each column. It is 1 for constant columns; if they vary by
            rounding errors, it is their size where that is above 1.
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, values: Array) -> Standardiser:
        """Standardise ``n x d`` values by column, or ``n`` values; does not overflow.

        Raises:
            FarInputError: a value is above 1e150 and 1e15 times the smallest of its column that is
                not zero.
        """
        sizes = np.abs(values)
        if (sizes > HUGE).any():
            smallest = np.where(sizes > 0, sizes, np.inf).min(axis=0)
            _refuse(values, (sizes > HUGE) & (sizes / _FARTHEST > smallest))
        smallest, largest = values.min(axis=0), values.max(axis=0)
        middle = smallest / 2 + largest / 2
        half_range = largest / 2 - smallest / 2
        safe = np.where(half_range > 0, half_range, 1.0)
        reduced = (values - middle) / safe
        mean, deviation = middle + safe * reduced.mean(axis=0), safe * reduced.std(axis=0)
        return cls.of_moments(mean, deviation, smallest, largest)

    @classmethod
    def none(cls, columns: int) -> Standardiser:
        """Leaves so many columns as they are."""
        return cls(np.zeros(columns), np.ones(columns))

    @classmethod
    def of_moments(
        cls, mean: Array, deviation: Array, smallest: Array, largest: Array
    ) -> Standardiser:
        """Standardise by the moments and the extremes of each column."""
        constant = is_constant(smallest, largest) | (deviation == 0)
        size = np.maximum(1.0, np.maximum(np.abs(smallest), np.abs(largest)))
        unit = np.where(smallest < largest, size, 1.0)
        return cls(np.where(constant, smallest, mean), np.where(constant, unit, deviation))

    def __call__(self, values: Array) -> Tensor:
        """Standardised values, in float64.

        Raises:
            FarInputError: a value is more than 1e15 standard deviations from the mean.
        """
        with np.errstate(over="ignore"):
            standardised = (values - self.mean) / self.scale
        _refuse(values, ~(np.abs(standardised) <= _FARTHEST))
        return torch.from_numpy(np.ascontiguousarray(standardised))

    def pull_back(self, gradient: Array, values: Array) -> Array:
        """Gradients in the values, from those in the standardised ones; ``n x d`` or ``n x d x p``.

        Args:
            gradient: in the standardised values.
            values: ``n x d``, where.
        """
        return np.asarray(gradient / self.scale.reshape(1, -1, *(1,) * (gradient.ndim - 2)))

    def lengthscale(self, lengthscale: Array) -> Array:
        """Lengthscales in the units of the values, ``d``."""
        return np.asarray(lengthscale * self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """What a file must hold beside mean and scale."""
        return {}


def _refuse(values: Array, far: NDArray[np.bool_]) -> None:
    if far.any():
        place = np.argwhere(far)[0]
        raise FarInputError(int(place[0]), float(values[tuple(place)]), int(place[1:].sum()))
