"""Scores of Gaussian predictions."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.9  # probability of central intervals, unless the caller chooses another


def gaussian_scores(
    truth: Array, mean: Array, std: Array, level: float = LEVEL
) -> tuple[float, float, float]:
    """RMSE, mean negative log predictive density in nats, and coverage of central intervals.

    Args:
        truth: ``n`` targets.
        mean, std: means and standard deviations of ``n`` normal predictive distributions.
        level: probability of the intervals.
    """
    error = truth - mean
    density = 0.5 * math.log(2 * math.pi) + np.log(std) + 0.5 * (error / std) ** 2
    inside = np.abs(error) <= NormalDist().inv_cdf(0.5 + level / 2) * std
    return float(np.sqrt(np.mean(error**2))), float(np.mean(density)), float(np.mean(inside))
