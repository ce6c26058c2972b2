"""Checks of means over data draws.

Draws are few, so that standard errors are judged by Student's t instead of the normal distribution.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from scipy import stats

from resnet_gp.report.checks import Check


def draws_check(
    name: str,
    estimate: Any,
    error: Any,
    prediction: float,
    draws: int,
    kind: Literal["equals", "at most"] = "equals",
    group: str = "",
) -> Check:
    """Check an estimate whose standard error comes from this number of independent draws."""
    t = (estimate - prediction) / error
    tail = 2 * stats.t.sf(abs(t), draws - 1) if kind == "equals" else stats.t.sf(t, draws - 1)
    p_value = 0.0 if math.isnan(t) else float(tail)
    return Check(name, float(estimate), float(error), prediction, kind, p_value, group)


def factor_check(
    name: str, value: Any, error: Any, target: float, factor: float, draws: int
) -> Check:
    """Check that a positive value is within a factor of its target: max(v/t, t/v) <= factor."""
    ratio = max(value / target, target / value)
    words = f"{name}, {value:.3f} ± {error:.3f}, against {target:g}: ratio"
    return draws_check(words, ratio, ratio * error / value, factor, draws, "at most")
