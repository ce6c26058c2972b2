"""Whitened features of inducing points: v(x) = L^{-1} k(Z, x) with L L' = k(Z, Z)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

# Relative to the mean variance.
_JITTERS = {torch.float64: (0.0, 1e-12, 1e-10, 1e-8), torch.float32: (0.0, 2e-6, 2e-5, 2e-4)}
_LEAST_PIVOT = {torch.float64: 2.0**-41, torch.float32: 2.0**-19}


@dataclass(frozen=True)
class InducingFeatures:
    """The whitened features of a kernel at its present hyperparameters.

    Attributes:
        covar_module: k.
        inducing_points: Z, ``m x d``.
        factor: L, ``m x m``, lower triangular.
    """

    covar_module: Kernel
    inducing_points: Tensor
    factor: Tensor

    @classmethod
    def at(cls, covar_module: Kernel, inducing_points: Tensor) -> InducingFeatures:
        """Compute the factor; differentiable; raises as ``inducing_factor``."""
        factor = inducing_factor(covar_module(inducing_points).to_dense())
        return cls(covar_module, inducing_points, factor)

    def __call__(self, x: Tensor) -> Tensor:
        """v(x), ``n x m``."""
        return self.whiten(self.cross(x))

    def cross(self, x: Tensor) -> Tensor:
        """k(x, Z), ``n x m``."""
        return self.covar_module(x, self.inducing_points).to_dense()

    def whiten(self, cross: Tensor) -> Tensor:
        """v(x) from k(x, Z), both ``n x m``."""
        return torch.linalg.solve_triangular(self.factor, cross.mT, upper=False).mT

    def variance(self, x: Tensor) -> Tensor:
        """k(x_i, x_i), ``n``."""
        return self.covar_module(x, diag=True)

    def residual_variance(self, x: Tensor, v: Tensor) -> Tensor:
        """Variance of f(x_i) given f(Z), ``n``, from x and v(x)."""
        return (self.variance(x) - v.square().sum(1)).clamp(min=0)

    def conditional(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``n x p`` and variance ``n`` of f(x) given f(Z) = L z, ``m x p``."""
        v = self(x)
        return v @ z, self.residual_variance(x, v)


def learned_parameters(covar_module: Kernel) -> list[Tensor]:
    """The hyperparameters that require a gradient, in the order of ``parameters()``."""
    return [one for one in covar_module.parameters() if one.requires_grad]


def inducing_factor(covariance: Tensor) -> Tensor:
    """Cholesky factor of k(Z, Z), ``m x m``, with a jitter only where a pivot is rounding error.

    With all rows as inducing points and noise 1e-4, a fixed jitter of 1e-8 costs the bound up to 11
    nats, this rule 1e-3. The bound is that of inducing variables f(Z) plus noise.

    Raises:
        torch.linalg.LinAlgError: the largest jitter is not enough.
    """
    jitters, pivot = _JITTERS[covariance.dtype], _LEAST_PIVOT[covariance.dtype]
    scale = covariance.diagonal().mean()
    for jitter in jitters:
        shifted = covariance.diagonal_scatter(covariance.diagonal() + jitter * scale)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        least = factor.diagonal().min().square()
        if not failed and factor.isfinite().all() and least >= pivot * scale:
            return factor
    raise torch.linalg.LinAlgError(
        f"the covariance of inducing_points is not positive definite in {covariance.dtype}, even "
        f"with a relative jitter of {jitters[-1]:.0e}: choose the points with "
        "greedy_inducing_points, or use fewer"
    )
