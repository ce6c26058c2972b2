"""Sparse Gaussian process regression: the collapsed bound on few inducing points (SGPR)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from gpytorch.kernels import Kernel
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from resnet_gp.models.inducing_features import (
    InducingFeatures,
    inducing_factor,
    learned_parameters,
)
from resnet_gp.models.posterior import (
    Posterior,
    covariance_for_outputs,
    for_outputs,
)
from resnet_gp.models.regression import RegressionModel, gaussian_likelihood, scaled
from resnet_gp.models.row_sums import Cotangents, Pullback, RowSums, Statistics

_PREDICTION_ENTRIES = 2**22


class SparseRegression(RegressionModel):
    """y = f(x) + e as in ``ExactRegression``, with f seen through its values at few points.

    The objective is Titsias' bound on the log marginal likelihood (2009, "Variational Learning of
    Inducing Variables in Sparse Gaussian Processes", eq. 9), which is exact when the inducing
    points are the inputs. Several outputs share all hyperparameters.

    Hyperparameters have the names that they have in ``ExactRegression``. ``inducing_points`` is
    fixed until its ``requires_grad`` is set; then it comes first in ``named_parameters``.

    Args:
        train_x, train_y, kernel, extra_variance, sample_weight: as for ``ExactRegression``.
        inducing_points: Z, ``m x d``.

    Raises:
        ValueError: shapes do not fit, or bad variances or weights.
    """

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        kernel: Kernel,
        inducing_points: Tensor,
        extra_variance: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        rows = RowSums(train_x, train_y, extra_variance, sample_weight)
        if inducing_points.dim() != 2 or inducing_points.shape[1] != rows.num_dims:
            raise ValueError(
                f"inducing_points must be m x {rows.num_dims}, "
                f"got shape {tuple(inducing_points.shape)}"
            )
        self.rows = rows
        self.inducing_points = torch.nn.Parameter(
            inducing_points.detach().clone(), requires_grad=False
        )
        self.likelihood = gaussian_likelihood()
        self.covar_module = scaled(kernel)
        self.to(inducing_points)

    def log_marginal_likelihood(self) -> Tensor:
        covariance = self.covar_module(self.inducing_points).to_dense()
        bound: Tensor = _CollapsedBound.apply(
            self.rows,
            self.covar_module,
            covariance,
            self.inducing_points,
            self.likelihood.noise,
            *learned_parameters(self.covar_module),
        )
        return bound

    def _known_noise(self) -> dict[str, Tensor | None]:
        return {
            "extra_variance": self.rows.extra_variance, "sample_weight": self.rows.sample_weight
        }  # fmt: skip

    @torch.no_grad()
    def features(self) -> InducingFeatures:
        """At the present hyperparameters; raises as ``log_marginal_likelihood``."""
        return InducingFeatures.at(self.covar_module, self.inducing_points.detach())

    @torch.no_grad()
    def posterior(self) -> SparsePosterior:
        """The approximate posterior at the present hyperparameters; it needs no training rows."""
        features, noise = self.features(), self.likelihood.noise.detach()
        statistics, _ = self.rows.statistics(features, noise, differentiable=False)
        return SparsePosterior(features, statistics, noise.squeeze(), self.rows)


class SparsePosterior(Posterior):
    """The process given what the inducing points know of the data.

    Args:
        features: the hyperparameters, taken as they are now.
        statistics: of the training rows.
        noise_variance: learned noise variance, a scalar.
        rows: the training rows, for leave-one-out predictions.
    """

    def __init__(
        self,
        features: InducingFeatures,
        statistics: Statistics,
        noise_variance: Tensor,
        rows: RowSums,
    ) -> None:
        self.features, self.noise_variance, self.rows = features, noise_variance, rows
        self.factor = posterior_factor(statistics.gram)
        self.bound = float(_bound(statistics, self.factor))
        whitened = torch.cholesky_solve(statistics.projection, self.factor)
        self.weights = torch.linalg.solve_triangular(features.factor.mT, whitened, upper=True)

    @classmethod
    def from_tensors(cls, model: SparseRegression, tensors: dict[str, Tensor]) -> SparsePosterior:
        """The inverse of ``tensors``, for the hyperparameters and inducing points of ``model``."""
        posterior = cls.__new__(cls)
        points, inner = model.inducing_points.detach(), tensors["inducing_factor"]
        posterior.features = InducingFeatures(model.covar_module, points, inner)
        posterior.noise_variance = model.likelihood.noise.detach().squeeze()
        posterior.rows = model.rows
        posterior.bound = float(tensors["bound"])
        posterior.factor, posterior.weights = tensors["factor"], tensors["weights"]
        return posterior

    def tensors(self) -> dict[str, Tensor]:
        return {
            "bound": torch.tensor(self.bound, dtype=torch.float64),
            "inducing_factor": self.features.factor,
            "factor": self.factor,
            "weights": self.weights,
        }

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        parts = [self._mean(self.features.cross(part)) for part in self._slices(x)]
        return torch.cat(parts)

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = map(self._mean_and_variance, self._slices(x))
        means, variances = zip(*parts, strict=True)
        mean = torch.cat(means)
        return mean, for_outputs(torch.cat(variances), mean)

    def _mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.features.cross(x)
        v, given = self._whitened(cross)
        variance = self.features.variance(x) - v.square().sum(1) + given.square().sum(1)
        return self._mean(cross), variance.clamp_(min=0)

    @torch.no_grad()
    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cross = self.features.cross(x)
        v, given = self._whitened(cross)
        mean = self._mean(cross)
        covariance = self.features.covar_module(x).to_dense() - v @ v.mT + given @ given.mT
        return mean, covariance_for_outputs(covariance, mean)

    def log_marginal_likelihood(self) -> float:
        """Titsias' lower bound in nats, summed over outputs."""
        return self.bound

    @torch.no_grad()
    def leave_one_out(self, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        """In closed form, at fixed inducing points.

        With g_i the variance that the inducing points leave at row i and s_i its noise, the row's
        own observation is taken out by the factor 1 - g_i / s_i (Rasmussen & Williams 2006, section
        5.4.2, for this model).
        """
        rows = self.rows
        noises = (self.noise_variance + rows.extra_variance) / rows.sample_weight
        sizes = [len(part) for part in self._slices(rows.x)]
        parts = [
            self._left_out(x, y, noise, observation_noise)
            for x, y, noise in zip(
                rows.x.split(sizes), rows.y.split(sizes), noises.split(sizes), strict=True
            )
        ]
        means, variances = zip(*parts, strict=True)
        mean = torch.cat(means)
        mean = mean[:, 0] if rows.is_vector else mean
        return mean, for_outputs(torch.cat(variances), mean)

    def _left_out(
        self, x: Tensor, y: Tensor, noise: Tensor, observation_noise: bool
    ) -> tuple[Tensor, Tensor]:
        cross = self.features.cross(x)
        v, given = self._whitened(cross)
        unexplained = (self.features.variance(x) - v.square().sum(1)).clamp(min=0)
        remaining = remaining_share(given.square().sum(1), noise)
        mean = y - (y - cross @ self.weights) / remaining[:, None]
        variance = noise / remaining if observation_noise else noise / remaining - noise
        return mean, unexplained + variance

    def _mean(self, cross: Tensor) -> Tensor:
        mean = cross @ self.weights
        return mean[:, 0] if self.rows.is_vector else mean

    def _whitened(self, cross: Tensor) -> tuple[Tensor, Tensor]:
        v = self.features.whiten(cross)
        return v, torch.linalg.solve_triangular(self.factor, v.mT, upper=False).mT

    def _slices(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(max(1, _PREDICTION_ENTRIES // len(self.weights)))


def remaining_share(variance: Tensor, noise: Tensor) -> Tensor:
    """1 - g / s, by which a row of variance g and noise s is divided where it is left out."""
    return (1 - variance / noise).clamp(min=torch.finfo(noise.dtype).eps)


def posterior_factor(gram: Tensor) -> Tensor:
    """The Cholesky factor of B = I + gram, the precision of the whitened inducing variables."""
    return torch.linalg.cholesky(gram.diagonal_scatter(gram.diagonal() + 1))


class _CollapsedBound(Function):
    """The bound, as a function of k(Z, Z), of Z through k(x, Z), and of the hyperparameters.

    With p outputs, B = I + gram, beta = B^{-1} projection and alpha = L^{-T} beta:

        in gram        D = p / 2 (I - B^{-1}) - beta beta' / 2
        in projection  beta
        in k(Z, Z)     L^{-T} p / 2 (I - B^{-1} - gram) L^{-1} - alpha alpha' / 2
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: RowSums,
        covar_module: Kernel,
        covariance: Tensor,
        points: Tensor,
        noise: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        factor = inducing_factor(covariance)
        features = InducingFeatures(covar_module, points.detach(), factor)
        differentiable = any(ctx.needs_input_grad)
        statistics, pullback = rows.statistics(features, noise.detach(), differentiable)
        precision = posterior_factor(statistics.gram)
        if differentiable:
            ctx.state = _State(factor, statistics, precision, pullback)
        return _bound(statistics, precision)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        covariance, cotangents = ctx.state.cotangents()
        points, noise, *parameters = ctx.state.pullback(cotangents)
        found = [covariance, points, noise, *parameters]
        needs = ctx.needs_input_grad[2:]
        scaled = [grad * one if n else None for one, n in zip(found, needs, strict=True)]
        return (None, None, *scaled)


def _bound(statistics: Statistics, precision: Tensor) -> Tensor:
    p = statistics.projection.shape[1]
    whitened = torch.linalg.solve_triangular(precision, statistics.projection, upper=False)
    log_determinant = 2 * precision.diagonal().log().sum() - statistics.log_weights
    unexplained = statistics.variances - statistics.gram.trace()
    normal = p * (statistics.num_rows * math.log(2 * math.pi) + log_determinant + unexplained)
    return -0.5 * (normal + statistics.squares - whitened.square().sum())


@dataclass(frozen=True)
class _State:
    """What the gradient of the bound needs of its value."""

    factor: Tensor
    statistics: Statistics
    precision: Tensor
    pullback: Pullback

    def cotangents(self) -> tuple[Tensor, Cotangents]:
        """In k(Z, Z) and in the statistics."""
        gram, projection = self.statistics.gram, self.statistics.projection
        p = projection.shape[1]
        beta = torch.cholesky_solve(projection, self.precision)
        alpha = torch.linalg.solve_triangular(self.factor.mT, beta, upper=True)
        explained = torch.cholesky_inverse(self.precision).neg_()
        explained.diagonal().add_(1)
        in_covariance = self._unwhiten(self._unwhiten(explained - gram).mT).mul_(p / 2)
        in_covariance.addmm_(alpha, alpha.mT, alpha=-0.5)
        in_gram = explained.mul_(p).addmm_(beta, beta.mT, alpha=-1)
        rows = Cotangents(self._unwhiten(in_gram).mT.contiguous(), alpha, -0.5, p / 2, -p / 2)
        return in_covariance, rows

    def _unwhiten(self, matrix: Tensor) -> Tensor:
        """L^{-T} matrix."""
        return torch.linalg.solve_triangular(self.factor.mT, matrix, upper=True)
