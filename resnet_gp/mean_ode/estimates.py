"""Means over data draws, and checks of them. No networks here.

Draws are few: their standard errors are judged by Student's t, not by the normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from resnet_gp.report.checks import Check


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of independent values."""
    array = np.asarray(values, float)
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array)))


def draws_check(
    name: str,
    estimate: float,
    error: float,
    prediction: float,
    draws: int,
    kind: Literal["equals", "at most"] = "equals",
    group: str = "",
) -> Check:
    """A check of an estimate whose standard error is that of so many independent draws."""
    t = (estimate - prediction) / error
    tail = 2 * stats.t.sf(abs(t), draws - 1) if kind == "equals" else stats.t.sf(t, draws - 1)
    p_value = 0.0 if math.isnan(t) else float(tail)
    return Check(name, float(estimate), float(error), prediction, kind, p_value, group)


def factor_check(
    name: str, value: float, error: float, target: float, factor: float, draws: int
) -> Check:
    """That a positive value is within a factor of its target: max(v/t, t/v) is at most it."""
    ratio = max(value / target, target / value)
    words = f"{name}, {value:.3f} ± {error:.3f}, against {target:g}: ratio"
    return draws_check(words, ratio, ratio * error / value, factor, draws, "at most")
