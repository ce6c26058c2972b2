"""Latent Gaussian processes seen through whitened values at some points."""

from __future__ import annotations

import torch
from gpytorch.kernels import ScaleKernel
from torch import Tensor

# Of the output scale: added to the diagonal, so that factors exist.
_JITTER = 1e-6


def whitening_factor(kernel: ScaleKernel, points: Tensor) -> Tensor:
    """L with L L' = k(points, points), ``m x m``: values there are L z with z standard normal."""
    covariance = kernel(points).to_dense()
    jitter = _JITTER * kernel.outputscale
    return torch.linalg.cholesky(covariance.diagonal_scatter(covariance.diagonal() + jitter))


def conditional(kernel: ScaleKernel, points: Tensor, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``k x latent`` and variance ``k`` at ``k x d`` points.

    They are given whitened values z at the others, ``m x latent``. The variance may be
    negative by rounding.
    """
    cross = kernel(points, x).to_dense()
    white = torch.linalg.solve_triangular(whitening_factor(kernel, points), cross, upper=False)
    return white.mT @ z, kernel(x, diag=True) - white.square().sum(0)
