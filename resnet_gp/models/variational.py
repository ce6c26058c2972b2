"""Stochastic variational Gaussian process regression in minibatches, by GPyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import ZeroMean
from gpytorch.models import ApproximateGP
from gpytorch.optim import NGD
from gpytorch.variational import NaturalVariationalDistribution, VariationalStrategy
from torch import Tensor

from resnet_gp.kernels.constraints import log_positive
from resnet_gp.models.fitting import free_parameters

# Of the natural gradient; with a Gaussian likelihood, a step of 1 on all rows is the optimum.
_NATURAL_RATE = 0.1
_RATE = 0.01
_PREDICTION_ROWS = 4096


class VariationalRegression(ApproximateGP):
    """y = f(x) + e as in ``ExactRegression``, with a free normal law of f at the inducing points.

    Hensman, Fusi & Lawrence (2013), "Gaussian Processes for Big Data". Hyperparameters have the
    names that they have in ``ExactRegression``; several outputs share them.

    Args:
        inducing_points: ``m x d``.
        kernel: any GPyTorch kernel without an output scale of its own.
        num_outputs: p, or None where y is a vector.
    """

    def __init__(
        self, inducing_points: Tensor, kernel: Kernel, num_outputs: int | None = None
    ) -> None:
        batch = torch.Size([] if num_outputs is None else [num_outputs])
        law = NaturalVariationalDistribution(len(inducing_points), batch_shape=batch)
        super().__init__(
            VariationalStrategy(self, inducing_points, law, learn_inducing_locations=False)
        )
        self.mean_module = ZeroMean()
        self.likelihood = GaussianLikelihood(noise_constraint=log_positive(0.1))
        self.covar_module = ScaleKernel(kernel, outputscale_constraint=log_positive(1.0))
        self.num_outputs = num_outputs
        self.to(inducing_points)

    def forward(self, x: Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))

    @property
    def prior(self) -> torch.nn.ModuleList:
        """Noise and kernel: hyperparameters in the order that they have in ``ExactRegression``."""
        return torch.nn.ModuleList([self.likelihood, self.covar_module])

    @torch.no_grad()
    def whole_bound(self, x: Tensor, y: Tensor) -> float:
        """The bound from all rows, in slices."""
        pairs = list(zip(x.split(_PREDICTION_ROWS), y.split(_PREDICTION_ROWS), strict=True))
        parts = sum(float(self.bound(*pair, len(pair[0]))) for pair in pairs)
        divergence = float(self.variational_strategy.kl_divergence().sum())
        return parts + (len(pairs) - 1) * divergence

    def bound(self, x: Tensor, y: Tensor, num_rows: int) -> Tensor:
        """Estimate of the lower bound of log p(y | X) in nats, from some of the rows.

        Args:
            x: ``b x d``.
            y: ``b`` or ``b x p``.
            num_rows: n, how many there are in all.
        """
        self.train()
        expected = self.likelihood.expected_log_prob(y.mT if y.dim() == 2 else y, self(x))
        divergence = self.variational_strategy.kl_divergence()
        scaled: Tensor = num_rows / len(x) * expected.sum() - divergence.sum()
        return scaled

    def posterior(self) -> VariationalPosterior:
        return VariationalPosterior(self)


class VariationalPosterior:
    """f at the law that was learned, each output with a variance of its own.

    Shapes as in ``ExactPosterior``, but variances are ``n x p`` where means are.
    """

    def __init__(self, model: VariationalRegression) -> None:
        self.model = model.eval()

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """Mean of f at ``n x d`` points."""
        return self.mean_and_variance(x)[0]

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of f at ``n x d`` points, in slices."""
        parts = [self.model(part) for part in x.split(_PREDICTION_ROWS)]
        means = torch.cat([part.mean for part in parts], -1)
        variances = torch.cat([part.variance for part in parts], -1)
        return self._rows_first(means), self._rows_first(variances)

    @torch.no_grad()
    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of f, ``n x n`` or ``n x n x p``."""
        law = self.model(x)
        covariance = law.covariance_matrix
        return self._rows_first(law.mean), covariance.movedim(0, -1) if covariance.dim() == 3 else (
            covariance
        )

    @staticmethod
    def _rows_first(values: Tensor) -> Tensor:
        return values.mT.contiguous() if values.dim() == 2 else values


def fit_variational_regression(
    model: VariationalRegression,
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
    log_prior: Callable[[], Tensor] | None = None,
    watch: Callable[[float], object] = lambda _: None,
) -> tuple[list[float], bool]:
    """Natural gradients for the law at the inducing points, Adam for the hyperparameters.

    Both step sizes fall along a cosine.

    Args:
        model: is left at the last step's state, also when Ctrl-C ends the fit.
        x: ``n x d``.
        y: ``n`` or ``n x p``.
        steps: of both optimisers.
        batch_size: rows in each.
        generator: draws the rows.
        log_prior: added to the bound, in nats.
        watch: is told the estimate of the bound after each step.

    Returns:
        The estimate that each step saw, and whether Ctrl-C ended the fit.

    Raises:
        FloatingPointError: the bound is not finite.
    """
    natural = NGD(model.variational_parameters(), num_data=1, lr=_NATURAL_RATE)
    optimisers: list[torch.optim.Optimizer] = [natural]
    if learned := free_parameters(model.prior):
        optimisers.append(torch.optim.Adam(learned, lr=_RATE))
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        for optimiser in optimisers
    ]
    values: list[float] = []
    try:
        for _ in range(steps):
            rows = torch.randperm(len(x), generator=generator)[:batch_size]
            value = model.bound(x[rows], y[rows], len(x))
            if log_prior is not None:
                value = value + log_prior()
            if not bool(value.isfinite()):
                raise FloatingPointError("the variational bound is not finite")
            for optimiser in optimisers:
                optimiser.zero_grad()
            (-value).backward()
            for optimiser, schedule in zip(optimisers, schedules, strict=True):
                optimiser.step()
                schedule.step()
            values.append(float(value.detach()))
            watch(values[-1])
    except KeyboardInterrupt:
        return values, True
    return values, False
