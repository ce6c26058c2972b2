"""The posterior of Gaussian process regression from a Cholesky factor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.models.gradient import Gradient, covariance_slopes, in_slices, slope_variance
from resnet_gp.models.posterior import (
    Posterior,
    covariance_for_outputs,
    for_outputs,
    to_array,
)
from resnet_gp.predictive.leave_pair_out import leave_pair_out
from resnet_gp.threads import threads_for

_PREDICTION_ROWS = 4096
_PAIR_ROWS = 2500  # of which all pairs are left out
# Pairs of points whose gradients are alive at a time.
_GRADIENT_PAIRS = 200_000


class ExactPosterior(Posterior):
    """The Gaussian process given its training data.

    Args:
        covar_module: the prior covariance, at the hyperparameters to use.
        train_x: ``n x d``.
        train_y: ``n`` or ``n x p``.
        noise_variance: learned noise variance, a scalar.
        row_noise: total noise variance of each training target, ``n``.
        cholesky: lower factor of the covariance of the training targets, ``n x n``.
        weights: inverse of that covariance times ``train_y``, if known.
        left_out_noise: noise variance of each training target when it is left out, ``n``; None for
            ``row_noise``.
    """

    def __init__(
        self,
        covar_module: Kernel,
        train_x: Tensor,
        train_y: Tensor,
        noise_variance: Tensor,
        row_noise: Tensor,
        cholesky: Tensor,
        weights: Tensor | None = None,
        left_out_noise: Tensor | None = None,
    ) -> None:
        self.covar_module = covar_module
        self.train_x = train_x
        self.train_y = train_y
        self.noise_variance = noise_variance
        self.row_noise = row_noise
        self.left_out_noise = row_noise if left_out_noise is None else left_out_noise
        self.cholesky = cholesky
        if weights is None:
            columns = train_y.reshape(len(train_y), -1)
            weights = torch.cholesky_solve(columns, cholesky).reshape(train_y.shape).contiguous()
        self.weights = weights

    def tensors(self) -> dict[str, Tensor]:
        return {"cholesky": self.cholesky, "weights": self.weights}

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        slices = x.split(_PREDICTION_ROWS)
        means, variances = zip(*map(self._mean_and_variance, slices), strict=True)
        mean = torch.cat(means)
        return mean, for_outputs(torch.cat(variances), mean)

    def _mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.covar_module(x, self.train_x).to_dense()
        explained = self._whiten(cross).square().sum(0)
        prior = self.covar_module(x, diag=True)
        return cross @ self.weights, (prior - explained).clamp_(min=0)

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.covar_module(part, self.train_x).to_dense() @ self.weights
                for part in x.split(_PREDICTION_ROWS)
            ]
        )

    @torch.no_grad()
    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.covar_module(x, self.train_x).to_dense()
        whitened = self._whiten(cross)
        mean = cross @ self.weights
        covariance = self.covar_module(x).to_dense() - whitened.mT @ whitened
        return mean, covariance_for_outputs(covariance, mean)

    @torch.no_grad()
    def log_marginal_likelihood(self) -> float:
        outputs = self.train_y.numel() // len(self.train_y)
        log_determinant = 2 * self.cholesky.diagonal().log().sum()
        constant = log_determinant + len(self.train_y) * math.log(2 * math.pi)
        return -0.5 * float((self.train_y * self.weights).sum() + outputs * constant)

    @torch.no_grad()
    def leave_one_out(self, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        """In closed form (Rasmussen & Williams 2006, equation 5.12)."""
        precision = self.precision().diagonal()
        variance = 1 / precision
        if not observation_noise:
            variance = (variance - self.row_noise).clamp_(min=0)
        else:
            variance = variance + (self.left_out_noise - self.row_noise)
        gap = self.weights / (precision if self.weights.dim() == 1 else precision[:, None])
        return self.train_y - gap, for_outputs(variance, gap)

    @torch.no_grad()
    def precision(self) -> Tensor:
        """Inverse covariance of the training targets, ``n x n``."""
        with threads_for(len(self.cholesky)):
            return torch.cholesky_inverse(self.cholesky)

    def leave_pair_out(self) -> NDArray[np.float64] | None:
        return pairs_of([self], np.ones((1, *self.train_y.shape)))

    @torch.no_grad()
    def condition(
        self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None
    ) -> ExactPosterior:
        """Update the Cholesky factor by a block, in O(n^2 k) for k rows."""
        n, k = len(self.train_x), len(x)
        noise = self.noise_variance.expand(k)
        if extra_variance is not None:
            noise = noise + extra_variance
        below = self._whiten(self.covar_module(x, self.train_x).to_dense()).mT
        corner = self.covar_module(x).to_dense() + noise.diag() - below @ below.mT
        factor = self.cholesky.new_zeros(n + k, n + k).mT  # in columns, as torch makes them
        factor[:n, :n] = self.cholesky
        factor[n:, :n] = below
        factor[n:, n:] = torch.linalg.cholesky(corner)
        return ExactPosterior(
            self.covar_module,
            torch.cat([self.train_x, x]),
            torch.cat([self.train_y, y]),
            self.noise_variance,
            torch.cat([self.row_noise, noise]),
            factor,
            left_out_noise=torch.cat([self.left_out_noise, noise]),
        )

    def gradient(self, x: Tensor, with_variance: bool) -> Gradient:
        rows = _GRADIENT_PAIRS // len(self.train_x)
        return in_slices(partial(self._gradient, with_variance=with_variance), x, rows)

    def _gradient(self, x: Tensor, with_variance: bool) -> Gradient:
        (k, d), n = x.shape, len(self.train_x)
        slopes = covariance_slopes(self.covar_module, x, self.train_x.expand(k, n, d)).mT
        mean = slopes @ self.weights
        if not with_variance:
            return mean, None
        explained = self._whiten(slopes.reshape(k * d, n)).square().sum(0).reshape(k, d)
        return mean, slope_variance(self.covar_module, x, explained, mean)

    def _whiten(self, cross: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.cholesky, cross.mT, upper=False)


def pairs_of(
    members: Sequence[ExactPosterior], shares: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """``Posterior.leave_pair_out`` of a mixture; ``shares`` are those of left-out rows."""
    if len(members[0].train_x) > _PAIR_ROWS:
        return None
    own = (
        (
            to_array(one.precision()),
            to_array(one.weights),
            to_array(one.left_out_noise - one.row_noise),
        )
        for one in members
    )
    return leave_pair_out(own, shares)
