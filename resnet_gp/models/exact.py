"""Gaussian process regression by one Cholesky factor: the model and its marginal likelihood."""

from __future__ import annotations

import math
from typing import Any

import torch
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import Kernel
from gpytorch.means import ZeroMean
from gpytorch.models import ExactGP
from gpytorch.settings import lazily_evaluate_kernels
from linear_operator import to_dense
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from resnet_gp.models.exact_posterior import ExactPosterior
from resnet_gp.models.network_likelihood import network_log_likelihood, networks_of
from resnet_gp.models.regression import (
    RegressionModel,
    extended,
    gaussian_likelihood,
    row_noise,
    scaled,
)
from resnet_gp.threads import threads_for


class ExactRegression(ExactGP, RegressionModel):
    """y = f(x) + e with f ~ GP(0, outputscale kernel) and e ~ N(0, noise), a plain GPyTorch model.

    Several outputs are independent draws of one process: they share all hyperparameters. Output
    scale and noise are optimised in logarithms and start at 1 and 0.1, which suits targets of unit
    variance.

    Args:
        train_x: ``n x d``.
        train_y: ``n`` or, for p outputs, ``n x p``.
        kernel: any GPyTorch kernel without an output scale of its own.
        extra_variance: ``n``, known variances that the noise has beyond the learned one.
        sample_weight: ``n``, positive; divides the variance of the noise. None for 1.
        robust_weight: ``n``, divides it too, but not that of a target which is left out: as for new
            rows, it is not known then whether it is an outlier. None for 1.
    """

    extra_variance: Tensor | None
    sample_weight: Tensor | None
    robust_weight: Tensor | None

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        kernel: Kernel,
        extra_variance: Tensor | None = None,
        sample_weight: Tensor | None = None,
        robust_weight: Tensor | None = None,
    ) -> None:
        likelihood = gaussian_likelihood()
        super().__init__(train_x, train_y, likelihood)
        self.mean_module = ZeroMean()
        self.covar_module = scaled(kernel)
        self.register_buffer("extra_variance", extra_variance)
        self.register_buffer("sample_weight", sample_weight)
        self.register_buffer("robust_weight", robust_weight)
        self.to(train_x)

    def forward(self, x: Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def row_noise(self) -> Tensor:
        """Noise variance of each training target, ``n``."""
        noise = self._left_out_noise()
        return noise if self.robust_weight is None else noise / self.robust_weight

    def _left_out_noise(self) -> Tensor:
        """The same of each training target when it is left out."""
        noise, n = self.likelihood.noise, len(self.train_targets)
        return row_noise(noise, n, self.extra_variance, self.sample_weight)

    def unscaled_covariance(self) -> Tensor:
        """Covariance of f at the training inputs over the output scale, ``n x n``."""
        with lazily_evaluate_kernels(False):  # a lazy matrix would cost as much as a small one
            return to_dense(self.covar_module.base_kernel(self.train_inputs[0]))

    def noisy_covariance(self) -> Tensor:
        """Covariance of the training targets, ``n x n``."""
        covariance = self.covar_module(self.train_inputs[0]).to_dense()
        return covariance.diagonal_scatter(covariance.diagonal() + self.row_noise())

    def log_marginal_likelihood(self) -> Tensor:
        networks = networks_of(self.covar_module)
        if networks is not None:
            (x,) = self.train_inputs
            return network_log_likelihood(networks, x, self.train_targets, self.row_noise())
        return gaussian_log_likelihood(
            self.unscaled_covariance(),
            self.train_targets,
            self.row_noise(),
            self.covar_module.outputscale,
        )

    @torch.no_grad()
    def posterior(self) -> ExactPosterior:
        """The process given its training data; raises as ``log_marginal_likelihood``."""
        with threads_for(len(self.train_targets)):
            return self.posterior_from(torch.linalg.cholesky(self.noisy_covariance()))

    @torch.no_grad()
    def posterior_from(self, cholesky: Tensor, weights: Tensor | None = None) -> ExactPosterior:
        """The posterior whose factors are known, see ``ExactPosterior``."""
        return ExactPosterior(
            self.covar_module,
            self.train_inputs[0],
            self.train_targets,
            self.likelihood.noise.detach().squeeze(),
            self.row_noise(),
            cholesky,
            weights,
            None if self.robust_weight is None else self._left_out_noise(),
        )

    def _known_noise(self) -> dict[str, Tensor | None]:
        names = ("extra_variance", "sample_weight", "robust_weight")
        return {name: getattr(self, name) for name in names}

    @torch.no_grad()
    def extend(self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None) -> None:
        train_x: Tensor = self.train_inputs[0]
        self.extra_variance, self.sample_weight = extended(
            self.extra_variance, self.sample_weight, train_x, x, extra_variance
        )
        if self.robust_weight is not None:
            self.robust_weight = torch.cat([self.robust_weight, torch.ones_like(x[:, 0])])
        targets = torch.cat([self.train_targets, y])
        self.set_train_data(torch.cat([train_x, x]), targets, strict=False)


def gaussian_log_likelihood(
    covariance: Tensor, y: Tensor, noise: Tensor | None = None, scale: Tensor | None = None
) -> Tensor:
    """log N(y; 0, scale covariance + diag(noise)) in nats, at the cost of one n x n inverse.

    Differentiable once. Scale and noise come apart from the covariance to save copies of it.

    Args:
        covariance: ``n x n``, symmetric.
        y: ``n``, or ``n x p`` for the sum over p vectors.
        noise: ``n``; None for none.
        scale: a scalar; None for 1.

    Raises:
        torch.linalg.LinAlgError: the sum is not positive definite in this precision.
    """
    if scale is None:
        return _GaussianLogLikelihood.apply(covariance, y, noise)
    relative = None if noise is None else noise / scale
    value = _GaussianLogLikelihood.apply(covariance, y / scale.sqrt(), relative)
    return value - 0.5 * y.numel() * scale.log()


class _GaussianLogLikelihood(Function):
    """The gradient in K is (a a' - K^{-1}) / 2 with a = K^{-1} y (R&W 2006, eq. 5.9)."""

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, y: Tensor, noise: Tensor | None) -> Tensor:
        if noise is not None:
            covariance = covariance.clone()
            covariance.diagonal().add_(noise)
        factor = torch.linalg.cholesky(covariance)
        columns = y.reshape(len(y), -1)
        white = torch.linalg.solve_triangular(factor, columns, upper=False)
        weights = torch.linalg.solve_triangular(factor.mT, white, upper=True)
        ctx.save_for_backward(factor, weights)
        log_determinant = 2 * factor.diagonal().log().sum()
        constant = log_determinant + len(y) * math.log(2 * math.pi)
        ctx.shape = y.shape
        return -0.5 * ((columns * weights).sum() + columns.shape[1] * constant)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        factor, weights = ctx.saved_tensors
        inverse = torch.cholesky_inverse(factor).mT  # symmetric, and now row by row in memory
        half = 0.5 * grad
        inner = inverse.mul_(-weights.shape[1] * half).addmm_(half * weights, weights.mT)
        of_noise = inner.diagonal().clone() if ctx.needs_input_grad[2] else None
        return inner, (-grad * weights).reshape(ctx.shape), of_noise
