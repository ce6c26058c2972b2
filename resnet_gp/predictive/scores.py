"""Scores of predictive laws against what happened."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LEVEL = 0.9  # probability of central intervals, unless the caller chooses another


class Predicted(Protocol):
    """What scores need of a ``Law``."""

    @property
    def mean(self) -> Array: ...

    def interval(self, level: float = LEVEL) -> tuple[Array, Array]: ...

    def log_density(self, y: ArrayLike) -> Array: ...

    def crps(self, y: ArrayLike) -> Array: ...


class Scores(NamedTuple):
    """Means over targets.

    Attributes:
        rmse: root mean squared error of the means.
        nlpd: mean negative log predictive density, in nats.
        crps: mean continuous ranked probability score, in the units of the targets.
        coverage: share of the targets in their central intervals, whose bounds count as inside.
    """

    rmse: float
    nlpd: float
    crps: float
    coverage: float


def scores_of(law: Predicted, truth: ArrayLike, level: float = LEVEL) -> Scores:
    """Score laws against targets.

    Args:
        law: the predictive laws; of a mean and a standard deviation: ``Law.normal(mean, std)``.
        truth: targets of the shape of ``law.mean``.
        level: probability of the intervals.

    Raises:
        ValueError: the shapes differ.
    """
    y = np.asarray(truth, dtype=np.float64)
    density, crps = law.log_density(y), law.crps(y)
    low, high = law.interval(level)
    return Scores(
        float(np.sqrt(np.mean((y - law.mean) ** 2))),
        float(-np.mean(density)),
        float(np.mean(crps)),
        float(np.mean((low <= y) & (y <= high))),
    )
