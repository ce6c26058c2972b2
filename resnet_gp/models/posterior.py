"""The protocol of every regression that has seen its data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.predictive.law import Law
from resnet_gp.predictive.local_scale import LocalScale
from resnet_gp.predictive.residual_law import ResidualLaw


class UnsupportedError(RuntimeError):
    """This way of inference does not offer the operation."""


class Posterior(ABC):
    """Gaussian process regression given its training data, by whatever inference.

    Estimators, files and plots predict by these methods alone, so a new way of inference is one
    more subclass and nothing above changes. Operations that a subclass cannot offer raise
    ``UnsupportedError``; the defaults here do.

    Points are ``n x d``. Means are ``n``, or ``n x p`` for p outputs, and variances have the shape
    of the mean. f is the latent function, y = f + noise. Noise means one thing everywhere:
    ``noise_variance`` is the learned variance of a target of weight 1, and ``extra_variance`` is
    known and comes on top of it.

    Attributes:
        noise_variance: a scalar.
        samples_density: whether ``log_marginal_likelihood`` is estimated from random rows.
    """

    noise_variance: Tensor
    samples_density: ClassVar[bool] = False

    @property
    def error_law(self) -> ResidualLaw | LocalScale | None:
        """The learned law of a target's error; None if there is none, and the law is normal."""
        return None

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Mean of f."""

    @abstractmethod
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of f, point by point, in slices that bound the memory."""

    @abstractmethod
    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and joint covariance of f, ``n x n`` or ``n x n x p``."""

    @abstractmethod
    def log_marginal_likelihood(self) -> float:
        """log p(y | X), or its lower bound, in nats, summed over outputs."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return what a file must hold beside hyperparameters and training data."""

    def law(self, x: Tensor, observation_noise: bool = True) -> Law:
        """Predictive law of y, or of f, point by point."""
        mean, variance = self.mean_and_variance(x)
        if observation_noise:
            variance = variance + self.noise_variance
        return normal_law(mean, variance)

    def joint(self, x: Tensor, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        """Mean and joint covariance of y, or of f."""
        mean, covariance = self.mean_and_covariance(x)
        if observation_noise:
            noise = self.noise_variance * torch.eye(len(x), dtype=x.dtype, device=x.device)
            covariance = covariance + (noise if covariance.dim() == 2 else noise[..., None])
        return mean, covariance

    @abstractmethod
    def leave_one_out(self, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        """Mean and variance of each training target, or of f there, given all other targets."""

    def leave_one_out_law(self, rows: NDArray[np.intp] | None = None) -> Law:
        """Predictive law of each training target given all other targets.

        Args:
            rows: numbers of the targets; None for all.
        """
        law = normal_law(*self.leave_one_out())
        return law if rows is None else law[rows]

    def leave_pair_out(self) -> NDArray[np.float64] | None:
        """Standardised residuals of each row (column) where one more row (row) is left out too.

        ``n x n``, or ``n x n x p``; see ``predictive.leave_pair_out``. None where they are not
        known or would take too much memory.
        """
        return None

    def condition(self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None) -> Posterior:
        """Return the posterior given further rows, at the same hyperparameters.

        Args:
            x: ``k x d``.
            y: ``k`` or ``k x p``.
            extra_variance: known noise variances beyond ``noise_variance``, ``k``; None for 0.

        Raises:
            UnsupportedError: the inference cannot take further rows.
            torch.linalg.LinAlgError: the new covariance is not positive definite.
        """
        raise UnsupportedError('further observations need inference="exact" or "nearest"')

    def gradient(self, x: Tensor, with_variance: bool) -> tuple[Tensor, Tensor | None]:
        """Mean of the gradient of f, ``n x d`` or ``n x d x p``, and its variances or None.

        Variances need the kernel's second derivatives.

        Raises:
            UnsupportedError: the inference has no gradient, or the kernel no second derivatives.
        """
        raise UnsupportedError('gradients need inference="exact" or "nearest"')


def with_deviations(covariance: Tensor, law: Law) -> Tensor:
    """A covariance, ``n x n (x p)``, with the same correlations and the deviations of a law."""
    before = torch.einsum("ii...->i...", covariance).sqrt()
    stretch = torch.from_numpy(law.std).to(covariance) / before
    return covariance * stretch[:, None] * stretch[None]


def normal_law(mean: Tensor, variance: Tensor) -> Law:
    """Normal laws with these means and variances, in float64 on the CPU."""
    return Law.normal(to_array(mean), np.sqrt(to_array(variance)))


def to_array(values: Tensor) -> NDArray[np.float64]:
    """A float64 array on the CPU."""
    return np.asarray(values.detach().to("cpu", torch.float64).numpy())


def for_outputs(variance: Tensor, mean: Tensor) -> Tensor:
    """Expand variances that all outputs share to the shape of the mean."""
    return variance if mean.dim() == 1 else variance[:, None].expand_as(mean)


def covariance_for_outputs(covariance: Tensor, mean: Tensor) -> Tensor:
    """Expand a covariance that all outputs share to ``n x n x p``."""
    return covariance if mean.dim() == 1 else covariance[..., None].expand(-1, -1, mean.shape[1])
