"""Mean and scale of columns in one pass over partitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from distributed import Client, Future
from numpy.typing import NDArray

from resnet_gp.distributed.partitions import Pair
from resnet_gp.distributed.reduction import tree_sum
from resnet_gp.fitting.standardise import Standardiser

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Of columns; ``a + b`` is of the rows of both (Chan, Golub & LeVeque 1983).

    Attributes:
        count: the number of rows.
        mean: of each column.
        squares: sums of squared deviations from the mean.
        smallest, largest: of each column.
    """

    count: int
    mean: Array
    squares: Array
    smallest: Array
    largest: Array

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Of the rows of ``n x d`` (or the entries of ``n``) values; n may be 0."""
        nothing = np.zeros(values.shape[1:])
        mean = values.mean(axis=0) if len(values) else nothing
        return cls(
            len(values),
            mean,
            np.square(values - mean).sum(axis=0),
            values.min(axis=0, initial=np.inf),
            values.max(axis=0, initial=-np.inf),
        )

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        share = other.count / max(count, 1)
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + share * step,
            self.squares + other.squares + share * self.count * np.square(step),
            np.minimum(self.smallest, other.smallest),
            np.maximum(self.largest, other.largest),
        )

    def standardiser(self) -> Standardiser:
        """The same as ``Standardiser.of`` of all rows."""
        deviation = np.sqrt(self.squares / self.count)
        return Standardiser.of_moments(self.mean, deviation, self.smallest, self.largest)


@dataclass(frozen=True)
class _PairMoments:
    x: Moments
    y: Moments

    def __add__(self, other: _PairMoments) -> _PairMoments:
        return _PairMoments(self.x + other.x, self.y + other.y)


def _moments(pair: Pair) -> _PairMoments:
    return _PairMoments(*map(Moments.of, pair))


def moments(client: Client, pairs: list[Future]) -> tuple[Moments, Moments]:
    """Of all inputs and of all targets.

    Raises:
        ValueError: there are no rows.
    """
    both = tree_sum(client, client.map(_moments, pairs, pure=False)).result()
    if both.x.count == 0:
        raise ValueError("X has no rows")
    return both.x, both.y
