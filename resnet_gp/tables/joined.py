"""Predictions of rows that different models made, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resnet_gp.predictive.law import Law

Array = NDArray[np.float64]


class JoinedLaw:
    """Laws of ``n`` rows, some from each of several models; one law cannot hold all of them.

    Args:
        parts: laws of some rows each.
        order: where row i lies in the parts, one after the other.
    """

    def __init__(self, parts: Sequence[Law], order: NDArray[np.int64]) -> None:
        self._parts, self._order = parts, order
        self._ends = np.cumsum([len(part.mean) for part in parts])[:-1]

    @property
    def mean(self) -> Array:
        """Means, ``n``."""
        return self._gather(lambda law, _: law.mean)

    @property
    def std(self) -> Array:
        """Standard deviations, ``n``."""
        return self._gather(lambda law, _: law.std)

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Lower and upper bounds of central intervals, ``n`` each."""
        bounds = self._gather(lambda law, _: np.stack(law.interval(level), axis=-1))
        return bounds[:, 0], bounds[:, 1]

    def cdf(self, y: ArrayLike) -> Array:
        """P(Y <= y), ``n``."""
        return self._gather(Law.cdf, y)

    def log_density(self, y: ArrayLike) -> Array:
        """Log densities in nats, ``n``."""
        return self._gather(Law.log_density, y)

    def crps(self, y: ArrayLike) -> Array:
        """Continuous ranked probability scores, ``n``."""
        return self._gather(Law.crps, y)

    def _gather(self, function: Callable[[Law, Array], Array], y: ArrayLike = 0.0) -> Array:
        values = np.empty(len(self._order))
        values[self._order] = y
        pieces = map(function, self._parts, np.split(values, self._ends))
        return np.concatenate(list(pieces))[self._order]
