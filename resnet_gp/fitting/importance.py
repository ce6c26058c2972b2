"""Importance sampling around a mode: proposals, smoothed weights, the evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

Array = NDArray[np.float64]

# A tail of the proposal that is heavier than a normal one, and not much: in 20 dimensions and more,
# a Student law of few degrees of freedom puts its draws where no posterior is.
_DEGREES = 30.0
_FEWEST_IN_TAIL = 5


@dataclass(frozen=True)
class Proposal:
    """A multivariate Student law around a mode.

    Attributes:
        centre: ``p``.
        root: ``p x p``; its product with its transpose is the scale matrix.
    """

    centre: Array
    root: Array

    @classmethod
    def of(cls, mode: Array, curvature: Array, prior_curvature: Array) -> Proposal:
        """The law whose precision is the curvature of the posterior, but at least the prior's.

        Where data say nothing, or the log density is not concave, the width is that of the prior.

        Args:
            mode: ``p``.
            curvature: minus the second derivatives of the log posterior density, ``p x p``.
            prior_curvature: those of the log prior density, positive: ``p`` where it makes the
                hyperparameters independent, else ``p x p``.
        """
        if prior_curvature.ndim == 1:
            width = 1 / np.sqrt(prior_curvature)
            relative = curvature * np.outer(width, width)
            values, axes = np.linalg.eigh((relative + relative.T) / 2)
            return cls(mode, width[:, None] * axes / np.sqrt(np.maximum(values, 1.0)))
        root = np.linalg.inv(np.linalg.cholesky(prior_curvature)).T  # of the prior's covariance
        relative = root.T @ curvature @ root
        values, axes = np.linalg.eigh((relative + relative.T) / 2)
        return cls(mode, root @ axes / np.sqrt(np.maximum(values, 1.0)))

    def draw(self, count: int, generator: np.random.RandomState) -> tuple[Array, Array]:
        """Draws, ``count x p``, and their log densities, ``count``."""
        p = len(self.centre)
        mixing = np.sqrt(_DEGREES / generator.chisquare(_DEGREES, size=count))
        white = generator.normal(size=(count, p)) * mixing[:, None]
        constant = (
            gammaln((_DEGREES + p) / 2)
            - gammaln(_DEGREES / 2)
            - p / 2 * math.log(_DEGREES * math.pi)
            - np.linalg.slogdet(self.root)[1]
        )
        density = constant - (_DEGREES + p) / 2 * np.log1p((white**2).sum(1) / _DEGREES)
        return self.centre + white @ self.root.T, density

    def log_evidence(self, log_density: float) -> float:
        """Laplace's approximation of the integral, from the log density at the mode."""
        p = len(self.centre)
        return log_density + p / 2 * math.log(2 * math.pi) + float(np.linalg.slogdet(self.root)[1])


@dataclass(frozen=True)
class Weights:
    """Importance weights of draws, their largest ones smoothed (Vehtari et al. 2024).

    Attributes:
        logarithms: ``S``; -inf for draws that are impossible.
        pareto_k: shape of the generalised Pareto law fitted to the tail. Above .7 the weights are
            carried by few draws, and the evidence is too small more often than not; nan where
            there are too few draws to say.
    """

    logarithms: Array
    pareto_k: float

    @classmethod
    def smoothed(cls, log_ratios: Array) -> Weights:
        """Pareto-smoothed weights from the logarithms of density over proposal, ``S``.

        Raises:
            FloatingPointError: no draw is possible.
        """
        possible = np.isfinite(log_ratios)
        if not possible.any():
            raise FloatingPointError("no draw has a positive weight")
        logarithms = np.where(possible, log_ratios, -np.inf)
        size = math.ceil(min(len(logarithms) / 5, 3 * math.sqrt(len(logarithms))))
        order = np.argsort(logarithms)
        tail, cutoff = order[-size:], logarithms[order[-size - 1]] if size < len(order) else -np.inf
        if size < _FEWEST_IN_TAIL or not cutoff > -np.inf:
            return cls(logarithms, math.nan)
        top = logarithms[order[-1]]
        excess = np.exp(logarithms[tail] - top) - math.exp(cutoff - top)
        if excess[0] <= 0:  # equal weights have no tail
            return cls(logarithms, -math.inf if excess[-1] <= 0 else math.nan)
        from pyro.ops.stats import fit_generalized_pareto  # slow to import

        k, sigma = (float(value) for value in fit_generalized_pareto(torch.from_numpy(excess)))
        level = (np.arange(size) + 0.5) / size
        quantiles = sigma * (
            np.expm1(-k * np.log1p(-level)) / k if abs(k) > 1e-8 else -np.log1p(-level)
        )
        smooth = np.log(quantiles + math.exp(cutoff - top)) + top
        logarithms[tail] = np.minimum(smooth, top)  # in the order of the raw weights
        return cls(logarithms, k)

    @property
    def log_evidence(self) -> float:
        """Log of the mean weight: an estimate of the integral of the density."""
        return float(logsumexp(self.logarithms) - math.log(len(self.logarithms)))

    @property
    def normalised(self) -> Array:
        """Weights that sum to 1, ``S``."""
        return np.exp(self.logarithms - logsumexp(self.logarithms))

    @property
    def effective_draws(self) -> float:
        """1 / sum of the squared normalised weights."""
        return float(1 / np.square(self.normalised).sum())


def resample(weights: Array, count: int, generator: np.random.RandomState) -> Array:
    """Systematic resampling: ``count`` indices in rising order, each about count * weight times."""
    places = (np.arange(count) + generator.uniform()) / count
    found = np.searchsorted(np.cumsum(weights), places * weights.sum(), side="right")
    return np.minimum(found, len(weights) - 1)
