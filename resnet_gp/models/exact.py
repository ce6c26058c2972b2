"""Gaussian process regression by one Cholesky factor."""

from __future__ import annotations

import math
from typing import Any

import torch
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import ZeroMean
from gpytorch.models import ExactGP
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from resnet_gp.kernels.constraints import log_positive

_PREDICTION_ROWS = 4096


class ExactRegression(ExactGP):
    """y = f(x) + e with f ~ GP(0, outputscale kernel) and e ~ N(0, noise), a plain GPyTorch model.

    Output scale and noise are optimised in logarithms and start at 1 and 0.1, which suits targets
    of unit variance.

    Args:
        train_x: ``n x d``.
        train_y: ``n``.
        kernel: any GPyTorch kernel without an output scale of its own.
    """

    def __init__(self, train_x: Tensor, train_y: Tensor, kernel: Kernel) -> None:
        likelihood = GaussianLikelihood(noise_constraint=log_positive(0.1))
        super().__init__(train_x, train_y, likelihood)
        self.mean_module = ZeroMean()
        self.covar_module = ScaleKernel(kernel, outputscale_constraint=log_positive(1.0))
        self.to(train_x)

    def forward(self, x: Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def noisy_covariance(self) -> Tensor:
        """Covariance of the training targets, ``n x n``."""
        covariance = self.covar_module(self.train_inputs[0]).to_dense()
        return covariance.diagonal_scatter(covariance.diagonal() + self.likelihood.noise)

    def log_marginal_likelihood(self) -> Tensor:
        """log p(y | X, hyperparameters) in nats.

        Raises:
            torch.linalg.LinAlgError: the covariance is not positive definite in this precision.
        """
        return gaussian_log_likelihood(self.noisy_covariance(), self.train_targets)

    def posterior(self) -> ExactPosterior:
        return ExactPosterior(self)


class ExactPosterior:
    """The Gaussian process given its training data; hyperparameters are taken as they are now.

    Raises:
        torch.linalg.LinAlgError: the covariance is not positive definite in this precision.
    """

    def __init__(self, model: ExactRegression) -> None:
        self.covar_module = model.covar_module
        self.train_x = model.train_inputs[0]
        with torch.no_grad():
            self.cholesky = torch.linalg.cholesky(model.noisy_covariance())
            self.weights = torch.cholesky_solve(model.train_targets[:, None], self.cholesky)[:, 0]

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of f at ``n x d`` points, in slices, so that memory stays bounded."""
        slices = x.split(_PREDICTION_ROWS)
        means, variances = zip(*map(self._mean_and_variance, slices), strict=True)
        return torch.cat(means), torch.cat(variances)

    def _mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.covar_module(x, self.train_x).to_dense()
        explained = self._whiten(cross).square().sum(0)
        prior = self.covar_module(x, diag=True)
        return cross @ self.weights, (prior - explained).clamp_(min=0)

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """Mean of f at ``n x d`` points."""
        return torch.cat(
            [
                self.covar_module(part, self.train_x).to_dense() @ self.weights
                for part in x.split(_PREDICTION_ROWS)
            ]
        )

    @torch.no_grad()
    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of f, ``n`` and ``n x n``."""
        cross = self.covar_module(x, self.train_x).to_dense()
        whitened = self._whiten(cross)
        covariance = self.covar_module(x).to_dense() - whitened.mT @ whitened
        return cross @ self.weights, covariance

    def _whiten(self, cross: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.cholesky, cross.mT, upper=False)


def gaussian_log_likelihood(covariance: Tensor, y: Tensor) -> Tensor:
    """log N(y; 0, covariance) in nats, differentiable once, at the cost of one n x n inverse.

    Args:
        covariance: ``n x n``, symmetric.
        y: ``n``.

    Raises:
        torch.linalg.LinAlgError: ``covariance`` is not positive definite in this precision.
    """
    return _GaussianLogLikelihood.apply(covariance, y)


class _GaussianLogLikelihood(Function):
    """The gradient in K is (a a' - K^{-1}) / 2 with a = K^{-1} y (Rasmussen & Williams, eq. 5.9).

    Through torch's own derivative of the factorisation it would cost three times as much.
    """

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, y: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(covariance)
        weights = torch.cholesky_solve(y[:, None], factor)[:, 0]
        ctx.save_for_backward(factor, weights)
        log_determinant = 2 * factor.diagonal().log().sum()
        return -0.5 * (y @ weights + log_determinant + len(y) * math.log(2 * math.pi))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        factor, weights = ctx.saved_tensors
        inner = torch.cholesky_inverse(factor).neg_().addr_(weights, weights)
        return inner.mul_(0.5 * grad), -grad * weights
