"""Hermite coefficients of functions of a Gaussian: the moments of any smooth activation.

With the orthonormal Hermite polynomials h_n and A_n(q) = E[phi(sqrt(q) z) h_n(z)], z ~ N(0, 1),
Mehler's formula gives for a pair (u, v) with variances q_a, q_b and correlation c

    E[phi(u) phi(v)] = sum_n c^n A_n(q_a) A_n(q_b).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

#: Largest sum of the terms left out, relative to max(q, E[phi(u)^2]).
TOLERANCE = 1e-9
#: The same at variances beyond those checked at construction.
LARGE_TOLERANCE = 5e-8
_GOAL = 1e-12
_TERMS = (96, 768, 4096, 16384)
_RANGE = 12.0  # standard deviations
_BLOCK = 256
# Below, phi is its Taylor polynomial; all but its first two terms are lost in rounding.
_SMALL = 4.0**-15
_CHECKED = tuple(10.0**k for k in range(-3, 4))


@dataclass(frozen=True, eq=False)
class HermiteSeries:
    """A_n(q), ``terms x variances``; E[phi(u)^2] and the error estimate, ``variances``."""

    coefficients: Array
    second_moment: Array
    error: Array


def hermite_series(function: Callable[[Tensor], Tensor], variances: Array) -> HermiteSeries:
    """Return the series of ``function`` at some variances, with enough terms for all of them."""
    step = min(0.02, 0.3 / math.sqrt(float(variances.max())))
    z: Array = (np.arange(math.ceil(_RANGE / step), dtype=np.float64) + 0.5) * step
    deviation = variances**0.5
    plus, minus = _values(function, z, deviation), _values(function, -z, deviation)
    weight = step / math.sqrt(2 * math.pi) * np.exp(-(z**2) / 2)
    second_moment: Array = weight @ (plus**2 + minus**2)
    shifted: Array = z + step / 2
    weight_shifted = step / math.sqrt(2 * math.pi) * np.exp(-(shifted**2) / 2)
    other = weight_shifted @ (
        _values(function, shifted, deviation) ** 2 + _values(function, -shifted, deviation) ** 2
    )
    centre = _values(function, np.zeros(1), deviation)[0] ** 2 * step / math.sqrt(2 * math.pi)
    discretisation = np.abs(other + centre - second_moment)
    scale = np.maximum(variances, second_moment)
    for terms in _TERMS:
        coefficients = _coefficients(plus, minus, z, step, terms)
        tail = np.abs(second_moment - (coefficients**2).sum(0))
        if (tail <= _GOAL * scale).all():
            break
    small = variances < _SMALL
    if small.any():
        least = hermite_series(function, np.array([_SMALL])).coefficients[2:]
        orders = np.arange(2, 2 + len(least))[:, None]
        coefficients[2 : 2 + len(least), small] = least * (variances[small] / _SMALL) ** (
            orders / 2
        )
    return HermiteSeries(coefficients, second_moment, tail + discretisation)


def _values(function: Callable[[Tensor], Tensor], z: Array, deviation: Array) -> Array:
    values: Array = function(torch.from_numpy(z[:, None] * deviation)).numpy()
    return values


def _coefficients(plus: Array, minus: Array, z: Array, step: float, terms: int) -> Array:
    envelope = np.exp(-(z**2) / 4)
    weight = (envelope * step / math.sqrt(2 * math.pi))[:, None]
    even, odd = weight * (plus + minus), weight * (plus - minus)
    coefficients = np.empty((terms, plus.shape[1]))
    block = np.empty((_BLOCK, len(z)))
    previous, current = np.zeros_like(z), envelope
    for first in range(0, terms, _BLOCK):
        count = min(_BLOCK, terms - first)
        for k in range(count):
            n = first + k
            block[k] = current
            following = (z * current - math.sqrt(n) * previous) / math.sqrt(n + 1)
            previous, current = current, following
        coefficients[first : first + count : 2] = block[:count:2] @ even
        coefficients[first + 1 : first + count : 2] = block[1:count:2] @ odd
    return coefficients


@functools.lru_cache(maxsize=64)
def checked_steepness(function: Callable[[Tensor], Tensor], name: str) -> float:
    """Check the series at variances from 1e-3 to 1e3; return the largest E[phi'(u)^2] there.

    Raises:
        ValueError: a value is not finite, or the series is not accurate at one of the variances.
    """
    steepness = 0.0
    for variance in _CHECKED:
        series = hermite_series(function, np.array([variance]))
        if message := inaccuracy(series, np.array([variance]), name):
            raise ValueError(message)
        orders = np.arange(len(series.coefficients))[:, None]
        steepness = max(steepness, float((orders * series.coefficients**2).sum(0).max()) / variance)
    return steepness


def inaccuracy(series: HermiteSeries, variances: Array, name: str) -> str:
    """Message that a series is not accurate to TOLERANCE and where; empty if it is."""
    relative = series.error / np.maximum(variances, series.second_moment)
    needed = np.where(variances <= _CHECKED[-1], TOLERANCE, LARGE_TOLERANCE)
    good = relative <= needed  # False for nan
    if good.all():
        return ""
    index = int(np.argmin(good))
    return (
        f"the Gaussian moments of activation {name!r} are known to {relative[index]:.1e} only "
        f"at variance {variances[index]:.3g}, and {needed[index]:g} is needed: use a finite "
        "function that is smooth on the scale of its argument (no jumps and no kinks; for "
        'max(u, 0), |u| and the like there are "relu", "leaky_relu" and "abs"), or rescale '
        "the inputs"
    )
