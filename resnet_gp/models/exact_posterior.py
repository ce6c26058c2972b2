"""The posterior of Gaussian process regression, from a Cholesky factor.

Shapes: targets and means are ``n`` or, for p outputs, ``n x p``; the outputs share their variance.
"""

from __future__ import annotations

import math

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

_PREDICTION_ROWS = 4096
# Pairs of points whose gradients are alive at a time.
_GRADIENT_PAIRS = 200_000


class ExactPosterior:
    """The Gaussian process given its training data.

    Args:
        covar_module: the prior covariance, at the hyperparameters to use.
        train_x: ``n x d``.
        train_y: ``n`` or ``n x p``.
        cholesky: lower factor of the covariance of the training targets, ``n x n``.
        weights: inverse of that covariance times ``train_y``, if known.
    """

    def __init__(
        self,
        covar_module: Kernel,
        train_x: Tensor,
        train_y: Tensor,
        cholesky: Tensor,
        weights: Tensor | None = None,
    ) -> None:
        self.covar_module = covar_module
        self.train_x = train_x
        self.train_y = train_y
        self.cholesky = cholesky
        if weights is None:
            columns = train_y.reshape(len(train_y), -1)
            weights = torch.cholesky_solve(columns, cholesky).reshape(train_y.shape).contiguous()
        self.weights = weights

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (``n``) of f at ``n x d`` points, in slices that bound the memory."""
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
        """Mean and covariance (``n x n``) of f."""
        cross = self.covar_module(x, self.train_x).to_dense()
        whitened = self._whiten(cross)
        covariance = self.covar_module(x).to_dense() - whitened.mT @ whitened
        return cross @ self.weights, covariance

    @torch.no_grad()
    def log_marginal_likelihood(self) -> float:
        """log p(y | X, hyperparameters) in nats, summed over outputs."""
        outputs = self.train_y.numel() // len(self.train_y)
        log_determinant = 2 * self.cholesky.diagonal().log().sum()
        constant = log_determinant + len(self.train_y) * math.log(2 * math.pi)
        return -0.5 * float((self.train_y * self.weights).sum() + outputs * constant)

    @torch.no_grad()
    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (``n``, noise included) of each target given all the others.

        Rasmussen & Williams (2006), equation 5.12.
        """
        precision = torch.cholesky_inverse(self.cholesky).diagonal()
        gap = self.weights / (precision if self.weights.dim() == 1 else precision[:, None])
        return self.train_y - gap, 1 / precision

    @torch.no_grad()
    def condition(self, x: Tensor, y: Tensor, noise_variance: Tensor) -> ExactPosterior:
        """The posterior with further training rows, by a block update of the Cholesky factor.

        Args:
            x: ``k x d``.
            y: ``k`` or ``k x p``.
            noise_variance: ``k``.

        Raises:
            torch.linalg.LinAlgError: the new covariance is not positive definite.
        """
        n, k = len(self.train_x), len(x)
        below = self._whiten(self.covar_module(x, self.train_x).to_dense()).mT
        corner = self.covar_module(x).to_dense() + noise_variance.diag() - below @ below.mT
        factor = self.cholesky.new_zeros(n + k, n + k).mT  # in columns, as torch makes them
        factor[:n, :n] = self.cholesky
        factor[n:, :n] = below
        factor[n:, n:] = torch.linalg.cholesky(corner)
        together = torch.cat([self.train_x, x]), torch.cat([self.train_y, y])
        return ExactPosterior(self.covar_module, *together, factor)

    def gradient(self, x: Tensor, with_variance: bool) -> tuple[Tensor, Tensor | None]:
        """Mean and variance of the gradient of f.

        Args:
            x: ``n x d``.
            with_variance: whether the variances are wanted; they need the kernel's second
                derivatives.

        Returns:
            Mean, ``n x d`` or ``n x d x p``; variance of each component, ``n x d``, or None.

        Raises:
            RuntimeError: with variances, a kernel without second derivatives where its inputs
                coincide.
        """
        rows = max(1, _GRADIENT_PAIRS // len(self.train_x))
        parts = [self._gradient(part, with_variance) for part in x.split(rows)]
        means, variances = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(variances) if with_variance else None

    def _gradient(self, x: Tensor, with_variance: bool) -> tuple[Tensor, Tensor | None]:
        k, d = x.shape
        n = len(self.train_x)
        left = x.detach().repeat_interleave(n, 0).requires_grad_()
        pairs = self.covar_module(left, self.train_x.repeat(k, 1), diag=True)
        (slope,) = torch.autograd.grad(pairs.sum(), left)
        slopes = slope.reshape(k, n, d).mT  # of the covariance with every target
        mean = slopes @ self.weights
        if not with_variance:
            return mean, None
        whitened = self._whiten(slopes.reshape(k * d, n)).square().sum(0).reshape(k, d)
        return mean, (self._prior_slope_variance(x) - whitened).clamp_(min=0)

    def _prior_slope_variance(self, x: Tensor) -> Tensor:
        """d^2 k(a, b) / da_i db_i at a = b = x, ``n x d``."""
        a, b = (x.detach().clone().requires_grad_() for _ in range(2))
        pairs = self.covar_module(a, b, diag=True)
        (slope,) = torch.autograd.grad(pairs.sum(), a, create_graph=True, allow_unused=True)
        if slope is None:  # GPyTorch's stationary kernels return a constant there
            raise RuntimeError("the kernel gives no second derivatives where its inputs coincide")
        mixed = [
            torch.autograd.grad(column.sum(), b, retain_graph=True)[0][:, i]
            for i, column in enumerate(slope.unbind(-1))
        ]
        return torch.stack(mixed, -1)

    def _whiten(self, cross: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.cholesky, cross.mT, upper=False)
