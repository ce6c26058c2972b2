"""Quantiles of mixtures: the cumulative distribution function, inverted at every point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resnet_gp.predictive.standard import Standard

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_STEPS = 400  # far more than Newton's method or bisection takes


def mixture_quantile(
    law: Standard, means: Array, scales: Array, weights: Array, level: Array
) -> Array:
    """Quantiles of ``n`` mixtures of ``means + scales Z``, with Z of a standard law.

    Means, scales and weights are ``S x n``, levels ``n``, above 0 and below 1.

    The equation Q(F(x)) = Q(level) is solved, with Q the quantile function of the standard law: its
    left side is nearly linear in x. Newton's steps that leave the bracket, or do not halve, become
    bisections.
    """
    mirrored = level > 0.5  # the lower tail of the mirrored law keeps its digits
    if mirrored.any():
        sign = np.where(mirrored, -1.0, 1.0)
        tail = np.where(mirrored, 1 - level, level)
        return sign * mixture_quantile(law, sign * means, scales, weights, tail)
    goal = law.quantile(level)
    members = means + goal * scales
    if len(means) == 1:
        return members[0]
    present = weights > 0
    low = np.where(present, members, np.inf).min(0)  # between the members' quantiles lies
    high = np.where(present, members, -np.inf).max(0)  # that of the mixture
    found = high.copy()
    smallest = np.where(present & (scales > 0), scales, np.inf).min(0)
    tolerance = np.where(np.isfinite(smallest), 1e-8 * smallest, 0.0)  # Newton's error squares
    centre, spread = centre_and_spread(means, scales, weights)
    x = np.clip(centre + goal * spread, low, high)
    before, width = high - low, high - low
    active = np.flatnonzero(low < high)
    for _ in range(_STEPS):
        if not active.size:
            break
        at = x[active]
        below, slope = _cdf_and_density(
            law, at, means[:, active], scales[:, active], weights[:, active]
        )
        left = below < level[active]
        low[active], high[active] = (
            np.where(left, at, low[active]),
            np.where(left, high[active], at),
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            transformed = law.quantile(below)
            local = np.exp(law.log_density(transformed)) / slope  # the scale of the law around x
            step = (goal[active] - transformed) * local
        lower, upper = low[active], high[active]
        newton = (np.abs(step) <= before[active] / 2) & (at + step >= lower) & (at + step <= upper)
        done = newton & (np.abs(step) <= tolerance[active])
        rounding = _EPS * (np.abs(at) + _EPS * width[active])
        least = np.copysign(np.maximum(np.abs(step), rounding), step)  # crosses a root close by
        middle = lower + (upper - lower) / 2
        following = np.where(newton, np.clip(at + least, lower, upper), middle)
        stuck = ~done & (upper - lower <= 2 * rounding)
        before[active] = np.abs(following - at)
        x[active] = following
        found[active] = np.where(done, following, upper)
        active = active[~(done | stuck)]
    return found


def centre_and_spread(means: Array, deviations: Array, weights: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of mixtures, from their members' of the same shape.

    In a unit of each point's own: squares of numbers far from 1 overflow or vanish.
    """
    centre = (weights * means).sum(0)
    parts = np.sqrt(weights) * np.hypot(deviations, means - centre)
    largest = parts.max(0)
    unit = np.where(largest > 0, largest, 1.0)
    return centre, unit * np.sqrt(((parts / unit) ** 2).sum(0))


def _cdf_and_density(
    law: Standard, x: Array, means: Array, scales: Array, weights: Array
) -> tuple[Array, Array]:
    gap = x - means
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(scales > 0, gap / scales, np.where(gap >= 0, np.inf, -np.inf))
        below, density = law.cdf_and_density(z)
        density = np.where(scales > 0, density / scales, 0.0)
    return (weights * below).sum(0), (weights * density).sum(0)
