"""Full Bayes for Gaussian process classification: hyperparameters and latent values together."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pyro
import pyro.distributions as dist
import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.gp_regression import check_finite, check_points, each
from resnet_gp.bayes.hyperparameters import (
    Values,
    sample_hyperparameters,
    with_hyperparameters,
)
from resnet_gp.integers import check_integer
from resnet_gp.models.inducing_features import InducingFeatures
from resnet_gp.models.priors import add_weak_priors, fix_confounded
from resnet_gp.models.regression import scaled


class LatentClassifier(ABC):
    """Class probabilities from latent Gaussian processes, averaged over draws."""

    train_x: Tensor

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

        Args:
            x, draws, at_most: as for ``GPRegression.predict``.
            num_latent_draws: latent values drawn at each point, for each of the draws.
            seed: seed of the latent values.

        Raises:
            ValueError: other columns than the training rows', or values that are no numbers.
        """
        check_points(x, self.train_x)
        generator = torch.Generator().manual_seed(seed)
        check_integer("num_latent_draws", num_latent_draws)
        laws = (self._latent(x, values) for values in each(draws.pooled(at_most)))
        means = [mean_probabilities(*law, num_latent_draws, generator) for law in laws]
        return torch.stack(means).mean(0)

    @abstractmethod
    def _latent(self, x: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """Mean ``k x latent`` and variance ``k`` of the latent functions at one draw."""


class GPClassification(LatentClassifier):
    """Labels with a Bernoulli (two classes) or softmax likelihood of latent Gaussian processes.

    A Pyro model. The latent values at the training inputs are L z, with z standard normal and L the
    Cholesky factor of the covariance, so hyperparameters and z are independent in the prior. Sites:
    the hyperparameters, named as in GPyTorch ("outputscale", "base_kernel.lengthscale", ...), "z",
    and the observed "y". For NUTS up to a few hundred rows; ``SparseGPClassification`` beyond.

    Args:
        train_x: ``n x d``.
        labels: integers from 0 to C - 1, ``n``.
        kernel: a GPyTorch kernel without an output scale; priors as in ``GPRegression``.
        num_classes: C; None for the largest label plus one, at least two.

    Raises:
        ValueError: shapes that do not match, values that are no numbers, or labels out of range.
    """

    def __init__(
        self,
        train_x: Tensor,
        labels: Tensor,
        kernel: Kernel,
        num_classes: int | None = None,
    ) -> None:
        self.num_latent = count_latent(train_x, labels, num_classes)
        self.train_x, self.labels = train_x, labels
        self.module = scaled(kernel).to(train_x)
        fix_confounded(self.module)
        add_weak_priors(self.module)

    def __call__(self) -> None:
        kernel: Kernel = sample_hyperparameters("", self.module)
        factor = InducingFeatures.at(kernel, self.train_x).factor
        white = self.train_x.new_zeros(len(self.train_x), self.num_latent)
        z = pyro.sample("z", dist.Normal(white, 1.0).to_event(2))
        with pyro.plate("rows", len(self.train_x)):
            observe_labels(factor @ z, self.labels)

    def _latent(self, x: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        kernel = with_hyperparameters("", self.module, values)
        return InducingFeatures.at(kernel, self.train_x).conditional(x, values["z"])


def observe_labels(latent: Tensor, labels: Tensor) -> None:
    """Condition on labels given latent values ``n x latent``; one column is the logit of class 1.

    The site "y" has batch shape ``n``.
    """
    if latent.shape[-1] == 1:
        pyro.sample("y", dist.Bernoulli(logits=latent[..., 0]), obs=labels.to(latent))
    else:
        pyro.sample("y", dist.Categorical(logits=latent), obs=labels)


def mean_probabilities(
    mean: Tensor, variance: Tensor, num_draws: int, generator: torch.Generator
) -> Tensor:
    """Class probabilities averaged over normal latent values, ``k x C``."""
    white = torch.randn(num_draws, *mean.shape, generator=generator, dtype=mean.dtype)
    latent = mean + variance.sqrt()[:, None] * white.to(mean.device)
    if mean.shape[1] == 1:
        one = latent[..., 0].sigmoid().mean(0)
        return torch.stack([1 - one, one], -1)
    return latent.softmax(-1).mean(0)


def count_latent(train_x: Tensor, labels: Tensor, num_classes: int | None) -> int:
    """Number of latent functions: one for two classes, otherwise one for each class.

    Raises:
        ValueError: shapes that do not match, values that are no numbers, or labels out of range.
    """
    if train_x.dim() != 2 or labels.dim() != 1 or len(train_x) != len(labels):
        raise ValueError(
            f"train_x must be n x d and labels n, got shapes {tuple(train_x.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if not len(labels):
        raise ValueError("labels must not be empty")
    check_finite("train_x", train_x)
    if num_classes is not None:
        check_integer("num_classes", num_classes, least=2)
    count = max(2, int(labels.max()) + 1) if num_classes is None else num_classes
    if labels.is_floating_point() or not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise ValueError(f"labels must be integers from 0 to {count - 1}")
    return 1 if count == 2 else count
