"""Leave-one-out predictions of Gaussian process regression in closed form.

With A = K + noise and weights a = A^{-1} y, the prediction of y_i from all other targets has mean
y_i - a_i / [A^{-1}]_ii and variance 1 / [A^{-1}]_ii (Rasmussen & Williams 2006, eq. 5.12).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LeaveOneOut:
    """Predictions of each training target from all others.

    Attributes:
        mean: ``n x p``, one column for each column of targets.
        variance: of the noisy targets, in units of the kernel, ``n x 1``.
        weights: A^{-1} y, ``n x p``; the mean of f at z is k(z, x) @ weights.
    """

    mean: Tensor
    variance: Tensor
    weights: Tensor

    def squared_error(self, targets: Tensor) -> float:
        """Mean over all entries of (mean - targets)^2."""
        return float((self.mean - targets).square().mean())

    def outputscale(self, targets: Tensor) -> Tensor:
        """Factor of kernel and noise that maximises the leave-one-out density, ``p``.

        At the maximum, the mean ratio of squared errors to their variances is 1.
        """
        return ((self.mean - targets).square() / self.variance).mean(0)


def leave_one_out(covariance: Tensor, targets: Tensor, noise: Tensor | float) -> LeaveOneOut:
    """Leave-one-out predictions at one noise level, by a Cholesky factor.

    Args:
        covariance: K, ``n x n``.
        targets: ``n x p``.
        noise: variance, one number or ``n``.

    Raises:
        torch.linalg.LinAlgError: K + noise is not positive definite in this precision.
    """
    noisy = covariance.diagonal_scatter(covariance.diagonal() + noise)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(noisy))
    return _from_inverse(inverse.diagonal(), inverse @ targets, targets)


class Spectrum:
    """The eigendecomposition of a covariance matrix; each noise level then costs O(n^2).

    Args:
        covariance: ``n x n``.
        targets: ``n x p``.
    """

    def __init__(self, covariance: Tensor, targets: Tensor) -> None:
        values, self.vectors = torch.linalg.eigh(covariance)
        self.values = values.clamp_(min=0)
        self.squares = self.vectors.square()
        self.targets = targets
        self.rotated = self.vectors.mT @ targets

    def leave_one_out(self, noise: float) -> LeaveOneOut:
        """Leave-one-out predictions at one noise variance; ValueError if it is not positive."""
        if not noise > 0:
            raise ValueError(f"noise must be positive, got {noise}")
        inverse = 1 / (self.values + noise)
        weights = self.vectors @ (inverse[:, None] * self.rotated)
        return _from_inverse(self.squares @ inverse, weights, self.targets)


def _from_inverse(diagonal: Tensor, weights: Tensor, targets: Tensor) -> LeaveOneOut:
    variance = 1 / diagonal[:, None]
    return LeaveOneOut(targets - weights * variance, variance, weights)
