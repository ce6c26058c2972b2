"""Mean and scale of columns in one pass over the partitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from distributed import Client, Future
from numpy.typing import NDArray

from resnet_gp.distributed.partitions import Pair
from resnet_gp.distributed.reduction import tree_sum
from resnet_gp.fitting.standardise import HUGE, Standardiser

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ColumnMoments:
    """Mean, spread and extremes of each column.

    ``a + b`` are the moments of the rows of both (Chan, Golub & LeVeque 1983).

    Attributes:
        count: number of rows.
        mean: means of the columns.
        squares: sums of squared deviations from the mean.
        smallest, largest: extremes of the columns.
    """

    count: int
    mean: Array
    squares: Array
    smallest: Array
    largest: Array

    @classmethod
    def of(cls, values: Array) -> ColumnMoments:
        """Moments of ``n x d`` (or ``n``) values; n may be 0."""
        nothing = np.zeros(values.shape[1:])
        mean = values.mean(axis=0) if len(values) else nothing
        return cls(
            len(values),
            mean,
            np.square(values - mean).sum(axis=0),
            values.min(axis=0, initial=np.inf),
            values.max(axis=0, initial=-np.inf),
        )

    def __add__(self, other: ColumnMoments) -> ColumnMoments:
        count = self.count + other.count
        share = other.count / max(count, 1)
        step = other.mean - self.mean
        return ColumnMoments(
            count,
            self.mean + share * step,
            self.squares + other.squares + share * self.count * np.square(step),
            np.minimum(self.smallest, other.smallest),
            np.maximum(self.largest, other.largest),
        )

    def standardiser(self, name: str) -> Standardiser:
        """The same as ``Standardiser.of`` of all rows.

        Raises:
            ValueError: a value of ``name`` ("X" or "y") is above 1e150, or a column varies by less
                than 1e-150: no sum of squares can hold them.
        """
        sizes = np.ravel(np.maximum(np.abs(self.smallest), np.abs(self.largest)))
        if (sizes > HUGE).any():
            column = int(sizes.argmax())
            raise ValueError(
                f"{name} holds {sizes[column]:.4g} in column {column} (counted from 0): correct "
                "it, or leave the row out"
            )
        if (tiny := (self.squares == 0) & (self.smallest < self.largest)).any():
            raise ValueError(
                f"{name} varies by less than 1e-150 in column {int(np.argmax(tiny))} (counted from "
                "0): give it in another unit"
            )
        deviation = np.sqrt(self.squares / self.count)
        return Standardiser.of_moments(self.mean, deviation, self.smallest, self.largest)


def column_moments(client: Client, pairs: list[Future]) -> tuple[ColumnMoments, ColumnMoments]:
    """Moments of the inputs and of the targets over all rows; ValueError if there are none."""
    x, y = tree_sum(client, client.map(_pair_moments, pairs, pure=False)).result()
    if x.count == 0:
        raise ValueError("X has no rows")
    return x, y


def _pair_moments(pair: Pair) -> list[ColumnMoments]:
    return [ColumnMoments.of(values) for values in pair]
