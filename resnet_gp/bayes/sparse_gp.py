"""Gaussian processes for many rows: inducing values as latent variables (Hensman et al. 2013)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from gpytorch.kernels import Kernel
from torch import Tensor
from torch.nn import Module, ModuleDict

from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.gp_classification import LatentClassifier, count_latent, observe_labels
from resnet_gp.bayes.gp_regression import check_points, check_rows, each
from resnet_gp.bayes.hyperparameters import (
    Values,
    sample_hyperparameters,
    with_hyperparameters,
)
from resnet_gp.integers import check_integer
from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.inducing_features import InducingFeatures
from resnet_gp.models.posterior import normal_law
from resnet_gp.models.priors import add_weak_priors, fix_confounded
from resnet_gp.models.regression import gaussian_likelihood, scaled
from resnet_gp.predictive.law import Law

_SELECTION_ROWS = 10_000


class _SparseGP(ABC):
    """The part that regression and classification share: a Pyro model of u and hyperparameters."""

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        kernel: Kernel,
        num_latent: int,
        num_inducing: int,
        batch_size: int,
        **modules: Module,
    ) -> None:
        check_integer("num_inducing", num_inducing)
        check_integer("batch_size", batch_size)
        self.train_x, self.train_y, self.num_latent = train_x, train_y, num_latent
        self.batch_size = min(batch_size, len(train_x))
        kernel = scaled(kernel)
        self.module = ModuleDict({"kernel": kernel, **modules}).to(train_x)
        fix_confounded(self.module)
        add_weak_priors(self.module)
        rows = train_x[:: max(1, len(train_x) // _SELECTION_ROWS)]
        with torch.no_grad():
            chosen = greedy_inducing_points(kernel, rows, min(num_inducing, len(rows)))
        self.inducing_points = rows[chosen]

    def __call__(self) -> None:
        module: Any = sample_hyperparameters("", self.module)
        white = self.inducing_points.new_zeros(len(self.inducing_points), self.num_latent)
        u = pyro.sample("u", dist.Normal(white, 1.0).to_event(2))
        with pyro.plate("rows", len(self.train_x), subsample_size=self.batch_size) as rows:
            mean, variance = self._conditional(module, self.train_x[rows], u)
            self._observe(module, self.train_y[rows], mean, variance)

    @abstractmethod
    def _observe(self, module: Any, y: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Condition on the targets of some rows, given the law of their latent values."""

    def _conditional(self, module: Any, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``k x latent`` and variance ``k`` of latent values given the inducing ones."""
        features = InducingFeatures.at(module["kernel"], self.inducing_points)
        mean, variance = features.conditional(x, u)
        return mean, variance.clamp(min=1e-12)  # the gradient of its root is needed


class SparseGPRegression(_SparseGP):
    """Regression with inducing points, a Pyro model for ``run_svi``.

    Sites: the hyperparameters, named as in GPyTorch ("kernel.outputscale",
    "kernel.base_kernel.lengthscale", "likelihood.noise_covar.noise", ...), the whitened inducing
    values "u", ``m x 1``, and "y" in a plate "rows", subsampled to ``batch_size``.

    Args:
        train_x: ``n x d``.
        train_y: ``n``.
        kernel: a GPyTorch kernel without an output scale; priors as in ``GPRegression``.
        num_inducing: m, points chosen among the rows by greedy conditional variance.
        batch_size: rows of each step.

    Raises:
        ValueError: shapes that do not match, values that are no numbers, or a number of points or
            rows that is not positive.
    """

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        kernel: Kernel,
        num_inducing: int = 200,
        batch_size: int = 512,
    ) -> None:
        check_rows(train_x, train_y)
        if train_y.dim() != 1:
            raise ValueError("train_y must have one dimension: fit a model to each output")
        likelihood = gaussian_likelihood()
        super().__init__(
            train_x, train_y, kernel, 1, num_inducing, batch_size, likelihood=likelihood
        )

    def _observe(self, module: Any, y: Tensor, mean: Tensor, variance: Tensor) -> None:
        noise = module["likelihood"].noise
        pyro.sample("y", dist.Normal(mean[:, 0], noise.sqrt()), obs=y)
        pyro.factor("slack", -0.5 * variance / noise)

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        draws: Draws,
        at_most: int | None = 200,
        observation_noise: bool = True,
    ) -> Law:
        """The predictive law at ``k x d`` points; arguments and errors as ``GPRegression``'s."""
        check_points(x, self.train_x)

        def law(values: Values) -> Law:
            module: Any = with_hyperparameters("", self.module, values)
            mean, variance = self._conditional(module, x, values["u"])
            noise = module["likelihood"].noise * observation_noise
            return normal_law(mean[:, 0], variance + noise)

        return Law.mixture(map(law, each(draws.pooled(at_most))))


class SparseGPClassification(_SparseGP, LatentClassifier):
    """Classification with inducing points, a Pyro model for ``run_svi``.

    Sites as in ``SparseGPRegression``, without the likelihood's; "u" is ``m x latent``.

    Args:
        train_x, labels, num_classes: as for ``GPClassification``.
        kernel, num_inducing, batch_size: as for ``SparseGPRegression``.

    Raises:
        ValueError: as ``SparseGPRegression``, or labels out of range.
    """

    def __init__(
        self,
        train_x: Tensor,
        labels: Tensor,
        kernel: Kernel,
        num_inducing: int = 200,
        batch_size: int = 512,
        num_classes: int | None = None,
    ) -> None:
        num_latent = count_latent(train_x, labels, num_classes)
        super().__init__(train_x, labels, kernel, num_latent, num_inducing, batch_size)

    def _observe(self, module: Any, y: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Draw each latent value once: an unbiased estimate of the bound."""
        observe_labels(mean + variance.sqrt()[:, None] * torch.randn_like(mean), y)

    def _latent(self, x: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        module = with_hyperparameters("", self.module, values)
        return self._conditional(module, x, values["u"])
