"""Student-t laws of location 0 and scale 1; ``df = inf`` is the standard normal law.

Arrays in and out, element by element.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

_NODES = 48  # over the shares of two variances
_FAR = 1e100  # its square still is a number


def cdf(z: Array, df: float) -> Array:
    """P(T <= z)."""
    return np.asarray(special.ndtr(z) if math.isinf(df) else special.stdtr(df, z))


def quantile(p: Array | float, df: float) -> Array:
    """The inverse of ``cdf``."""
    return np.asarray(special.ndtri(p) if math.isinf(df) else special.stdtrit(df, p))


def log_density(z: Array, df: float) -> Array:
    """Log density, in nats."""
    if math.isinf(df):
        return np.asarray(-0.5 * (z * z + math.log(2 * math.pi)))
    size = np.abs(z)
    near = np.log1p(np.minimum(size, _FAR) ** 2 / df)
    far = 2 * np.log(np.maximum(size, _FAR) / _FAR)
    return _log_height(df) - (df + 1) / 2 * (near + far)


def density(z: Array, df: float) -> Array:
    """The density."""
    return np.asarray(np.exp(log_density(z, df)))


def mean_distance(shift: Array, scale: Array, df: float) -> Array:
    """E|shift + scale T|, for scales from 0 on and ``df`` > 1.

    The closed form in the CRPS of normal and Student-t laws (Jordan, Krueger & Lerch 2019).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(shift) / scale
    z = np.where(np.isfinite(z), np.minimum(z, _FAR), _FAR)
    inside = 1 - 2 * cdf(-z, df)
    tail = 1.0 if math.isinf(df) else (df + z * z) / (df - 1)
    outside = 2 * scale * tail * density(z, df)
    return np.asarray(np.abs(shift) * inside + np.where(z < _FAR, outside, 0.0))


def mean_difference(shift: Array, first: Array, second: Array, df: float) -> Array:
    """E|shift + first T - second T'|, T and T' independent, for scales from 0 on.

    Normal laws: ``mean_distance`` (Grimit et al. 2006). Student-t laws: T = Z / sqrt(2 G / df) with
    G a gamma variable of shape df / 2. Two such variables are (S B, S (1 - B)) with S and B
    independent, so given B the difference is a Student-t variable with 2 df degrees of freedom and
    squared scale (first^2 / B + second^2 / (1 - B)) / 2; Gauss-Jacobi quadrature integrates over B.
    """
    if math.isinf(df):
        return mean_distance(shift, np.hypot(first, second), df)
    total = np.zeros(np.broadcast_shapes(shift.shape, first.shape, second.shape))
    for share, weight in zip(*_shares(df), strict=True):
        scale = np.sqrt((first**2 / share + second**2 / (1 - share)) / 2)
        total += weight * mean_distance(shift, scale, 2 * df)
    return total


@lru_cache(maxsize=64)
def _shares(df: float) -> tuple[Array, Array]:
    """Nodes and weights of a mean over the Beta(df / 2, df / 2) law.

    The integrand has square-root poles at both ends, which the weight function takes over.
    """
    power = (df - 3) / 2
    nodes, weights = special.roots_jacobi(_NODES, power, power)
    share = (1 + nodes) / 2
    weights = weights * np.sqrt(share * (1 - share))
    shape = df / 2
    log_total = special.betaln(shape, shape) + (2 * power + 1) * math.log(2)
    return share, weights * math.exp(-log_total)


def _log_height(df: float) -> float:
    """Log density at 0."""
    return float(-special.betaln(0.5, df / 2) - 0.5 * math.log(df))
