"""Residuals of training rows of Gaussian processes when one more row is left out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST = 1e-12  # of a conditional precision, relative to that given all rows


def leave_pair_out(members: Iterable[tuple[Array, Array, Array]], weights: Array) -> Array:
    """Standardised residuals of rows j given all rows but i and j.

    In closed form for each member: with Q the inverse covariance of the training targets and
    a = Q y, leaving out row i makes Q_jj - Q_ij^2 / Q_ii of Q_jj and a_j - Q_ij a_i / Q_ii of a_j;
    their inverse and ratio are the variance and the residual of row j (Rasmussen & Williams 2006,
    eq. 5.12). The mixture's residual is standardised by its own standard deviation.

    Args:
        members: Q, ``n x n``, Q y, ``n`` or ``n x p`` for p outputs, and what the noise variance of
            a target that is left out has beyond that in Q, ``n``, of each of S members.
        weights: of the members where row j is left out, ``S x n`` or ``S x n x p``, with a sum of
            1 over the members.

    Returns:
        ``n x n`` or ``n x n x p``: rows are i, columns j. The diagonal is 0.
    """
    total, mean, variance = (np.zeros(1) for _ in range(3))  # of the members so far
    for (precision, solution, further), weight in zip(members, weights, strict=True):
        own = np.diagonal(precision)
        share = precision / own[:, None]  # Q_ij / Q_ii
        rest = np.maximum(own - share * precision, _LEAST * own)
        if solution.ndim == 2:
            share, rest = share[..., None], rest[..., None]
        gap = (solution - share * solution[:, None]) / rest
        own_variance = 1 / rest + (further if solution.ndim == 1 else further[:, None])
        total = total + weight
        part = np.divide(weight, total, out=np.zeros_like(total), where=total > 0)
        variance = (1 - part) * (variance + part * (gap - mean) ** 2) + part * own_variance
        mean = mean + part * (gap - mean)
    return np.asarray(mean / np.sqrt(variance))
