"""Checks of means over data draws: they are few, so that errors are judged by Student's t."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from resnet_gp.report.checks import Check
from resnet_gp.report.fits import mean_and_error

Kind: TypeAlias = Literal["equals", "at most"]


def draws_check(
    name: str,
    estimate: Any,
    error: Any,
    prediction: float,
    draws: int,
    kind: Kind = "equals",
    group: str = "",
) -> Check:
    """Check an estimate whose standard error comes from this number of independent draws."""
    t = (estimate - prediction) / error
    tail = 2 * stats.t.sf(abs(t), draws - 1) if kind == "equals" else stats.t.sf(t, draws - 1)
    p_value = 0.0 if math.isnan(t) else float(tail)
    return Check(name, float(estimate), float(error), prediction, kind, p_value, group)


def mean_check(
    name: str, by_draw: ArrayLike, prediction: float, kind: Kind = "equals", group: str = ""
) -> Check:
    """Check the mean of one value for each draw."""
    mean, error = mean_and_error(by_draw)
    return draws_check(name, mean, error, prediction, np.size(by_draw), kind, group)


def distance_check(name: str, by_draw: ArrayLike, target: float, bound: float) -> Check:
    """Check that a mean is within a bound of its target; the name is formatted with the mean."""
    mean, error = mean_and_error(by_draw)
    distance = abs(mean - target)
    return draws_check(name.format(mean), distance, error, bound, np.size(by_draw), "at most")


def factor_check(
    name: str, value: Any, error: Any, target: float, factor: float, draws: int
) -> Check:
    """Check that a positive value is within a factor of its target: max(v/t, t/v) <= factor."""
    ratio = max(value / target, target / value)
    words = f"{name}, {value:.3f} ± {error:.3f}, against {target:g}: ratio"
    return draws_check(words, ratio, ratio * error / value, factor, draws, "at most")
