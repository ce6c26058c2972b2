"""Gaussian processes for many rows: inducing values as latent variables, for stochastic inference.

The model of Hensman et al. (2013, 2015) written in Pyro: given inducing values u at m inducing
points, the bound takes the expectation of each row's log likelihood over its latent value. What is
left, u and the hyperparameters, belongs to the guide.
"""

from __future__ import annotations

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from torch import Tensor
from torch.nn import ModuleDict

from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.gp_classification import (
    as_observed,
    average_probabilities,
    check_labels,
    label_law,
)
from resnet_gp.bayes.gp_regression import check_rows, each
from resnet_gp.bayes.hyperparameters import (
    Values,
    sample_hyperparameters,
    with_hyperparameters,
)
from resnet_gp.bayes.whitened import conditional
from resnet_gp.kernels.constraints import log_positive
from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.priors import add_weak_priors, fix_confounded
from resnet_gp.predictive.normal_mixture import NormalMixture

_SELECTION_ROWS = 10_000


class SparseGP:
    """Regression or classification with inducing points, a Pyro model for ``run_svi``.

    Sites: the hyperparameters, named as in GPyTorch ("kernel.outputscale",
    "kernel.base_kernel.lengthscale", "likelihood.noise_covar.noise", ...), "u", whitened inducing
    values, ``m x latent``, and "y" in a plate "rows", subsampled to ``batch_size``.

    Args:
        train_x: ``n x d``.
        train_y: ``n`` targets, or integer labels for classification.
        kernel: a GPyTorch kernel without an output scale; priors as in ``GPRegression``.
        num_inducing: m, points chosen among the rows by greedy conditional variance.
        likelihood: "gaussian" or "softmax" (two classes: Bernoulli).
        batch_size: rows of each step.
        num_classes: as in ``GPClassification``.
    """

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        kernel: Kernel,
        num_inducing: int = 200,
        likelihood: Literal["gaussian", "softmax"] = "gaussian",
        batch_size: int = 512,
        num_classes: int | None = None,
    ) -> None:
        if likelihood not in ("gaussian", "softmax"):
            raise ValueError(f'likelihood must be "gaussian" or "softmax", got {likelihood!r}')
        self.train_x, self.train_y = train_x, train_y
        self.likelihood, self.batch_size = likelihood, min(batch_size, len(train_x))
        scaled = ScaleKernel(kernel, outputscale_constraint=log_positive(1.0))
        modules: dict[str, torch.nn.Module] = {"kernel": scaled}
        if likelihood == "gaussian":
            check_rows(train_x, train_y)
            if train_y.dim() != 1:
                raise ValueError("train_y must have one dimension: fit a model to each output")
            self.num_classes, self.num_latent = 0, 1
            modules["likelihood"] = GaussianLikelihood(noise_constraint=log_positive(0.1))
        else:
            self.num_classes = check_labels(train_x, train_y, num_classes)
            self.num_latent = 1 if self.num_classes == 2 else self.num_classes
        self.module = ModuleDict(modules).to(train_x)
        fix_confounded(self.module)
        add_weak_priors(self.module)
        rows = train_x[:: max(1, len(train_x) // _SELECTION_ROWS)]
        with torch.no_grad():
            chosen = greedy_inducing_points(scaled, rows, min(num_inducing, len(rows)))
        self.inducing_points = rows[chosen]

    def __call__(self) -> None:
        module: Any = sample_hyperparameters("", self.module)
        white = self.inducing_points.new_zeros(len(self.inducing_points), self.num_latent)
        u = pyro.sample("u", dist.Normal(white, 1.0).to_event(2))
        plate = pyro.plate("rows", len(self.train_x), subsample_size=self.batch_size)
        with plate as rows:
            mean, variance = self._latent(module, self.train_x[rows], u)
            if self.likelihood == "gaussian":
                noise = module["likelihood"].noise
                pyro.sample("y", dist.Normal(mean[:, 0], noise.sqrt()), obs=self.train_y[rows])
                pyro.factor("slack", -0.5 * variance / noise)
            else:  # one draw of each latent value: an unbiased estimate of the bound
                latent = mean + variance.sqrt()[:, None] * torch.randn_like(mean)
                labels = as_observed(self.train_y[rows], latent)
                pyro.sample("y", label_law(latent), obs=labels)

    def _latent(self, module: Any, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``k x latent`` and variance ``k`` of latent values given the inducing ones."""
        mean, variance = conditional(module["kernel"], self.inducing_points, u, x)
        return mean, variance.clamp(min=1e-12)  # the gradient of its root is needed

    def _at(self, values: Values, x: Tensor) -> tuple[Any, Tensor, Tensor]:
        """The modules at one draw, and the law of the latent values there."""
        module = with_hyperparameters("", self.module, values)
        return module, *self._latent(module, x, values["u"])

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        draws: Draws,
        at_most: int | None = 200,
        observation_noise: bool = True,
    ) -> NormalMixture:
        """The predictive law of targets at ``k x d`` points, averaged over draws.

        Raises:
            RuntimeError: the model is one of classification.
        """
        if self.likelihood != "gaussian":
            raise RuntimeError("predict is for regression; use predict_proba")
        means, variances = [], []
        for values in each(draws.pooled(at_most)):
            module, mean, variance = self._at(values, x)
            noise = module["likelihood"].noise if observation_noise else 0.0
            means.append(mean[:, 0])
            variances.append(variance + noise)
        return NormalMixture(torch.stack(means), torch.stack(variances))

    @torch.no_grad()
    def predict_proba(
        self,
        x: Tensor,
        draws: Draws,
        at_most: int | None = 200,
        num_latent_draws: int = 16,
        seed: int = 0,
    ) -> Tensor:
        """Class probabilities at ``k x d`` points, averaged over draws, ``k x C``.

        Raises:
            RuntimeError: the model is one of regression.
        """
        if self.likelihood != "softmax":
            raise RuntimeError("predict_proba is for classification; use predict")
        laws = (self._at(values, x)[1:] for values in each(draws.pooled(at_most)))
        return average_probabilities(laws, num_latent_draws, seed)
