"""The posterior of a wide Bayesian ResNet and that of the Gaussian process.

It averages the posteriors of linear models, with covariances K = <Y_L, Y_L>/n given the hidden
weights, over hidden weights from the prior, weighted by marginal likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_gp.networks import ResNet, Simulation
from resnet_gp.report.checks import Check, equality_checks
from resnet_gp.report.fits import Array, extrapolate, power_law
from resnet_gp.report.result import Axes, ExperimentResult, guide, points, size_axes
from resnet_gp.verification.observables import gram, values
from resnet_gp.verification.predictions import covariance
from resnet_gp.verification.simulation_lab import SimulationLab

TRAIN = torch.tensor([[-1.4], [-0.7], [0.1], [0.8], [1.5]], dtype=torch.float64)
TARGETS = torch.tensor([1.1, -0.3, -0.6, 0.5, 1.4], dtype=torch.float64)
TEST = torch.tensor([[-2.0], [-0.3], [1.1]], dtype=torch.float64)
NOISE = 0.05  # variance
DEPTH = 4
INPUT_BIAS = 1.0
WIDTHS = (32, 64, 128, 256)


def network(width: int) -> ResNet:
    return ResNet(width, DEPTH, weight_variance=2.0, input_bias_variance=INPUT_BIAS)


def plan(lab: SimulationLab) -> list[Simulation]:
    inputs = torch.cat([TRAIN, TEST])
    networks = lab.size(80_000, 8_000)
    return [
        Simulation(f"posterior-n{n}", network(n), inputs, networks, conditional, keep=True)
        for n in WIDTHS
    ]


def conditional(depth: int, hidden: Tensor) -> Tensor:
    """Observe log marginal likelihood, means and variances given hidden weights, ``N x 7``."""
    return torch.cat(regression(gram(hidden.double())), 1)


def regression(K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Regress ``TARGETS`` by Gaussian processes with these covariances of ``TRAIN`` and ``TEST``.

    Args:
        K: ``N x m x m``.

    Returns:
        Log marginal likelihood up to a constant, ``N x 1``; posterior means and variances of the
        function at ``TEST``, ``N x tests``.
    """
    train = len(TRAIN)
    eye = torch.eye(train, dtype=K.dtype, device=K.device)
    root = torch.linalg.cholesky(K[:, :train, :train] + NOISE * eye)
    sides = [TARGETS.to(K).expand(len(K), -1)[..., None], K[:, :train, train:]]
    whitened = torch.linalg.solve_triangular(root, torch.cat(sides, -1), upper=False)
    y, cross = whitened[..., :1], whitened[..., 1:]
    log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    evidence = -0.5 * y.square().sum((-2, -1))[:, None] - log_det
    mean = (cross.mT @ y)[..., 0]
    prior = K.diagonal(dim1=-2, dim2=-1)[:, train:]
    return evidence, mean, prior - cross.square().sum(-2)


@dataclass(frozen=True)
class PosteriorResult(ExperimentResult):
    """Posterior moments by width, ``widths x (means, variances)``, and those of the GP."""

    estimates: Array
    standard_errors: Array
    prediction: Array
    effective_samples: Array

    name = "posterior"
    title = "The posterior of a Bayesian ResNet"
    theorem = "Theorem 1, conditioned on data"
    summary = (
        "Regression on five points with a finite Bayesian ResNet. The readout is integrated "
        "exactly, the hidden weights by importance sampling from the prior. Posterior means and "
        "variances at three test inputs approach those of the Gaussian process like 1/n; "
        "extrapolated to infinite width, they are tested against it."
    )
    panels = (1, 2)

    def draw(self, axes: Axes) -> None:
        errors = np.abs(self.estimates - self.prediction)
        for k, (axis, name) in enumerate(zip(axes, ("mean", "variance"), strict=True)):
            for j, x in enumerate(TEST[:, 0]):
                column = k * len(TEST) + j
                bars, label = self.standard_errors[:, column], f"x = {float(x):g}"
                points(axis, WIDTHS, errors[:, column], bars, j, fmt="o-", label=label)
            guide(axis, WIDTHS, errors[0].max())
            size_axes(axis, WIDTHS, "n", title=f"|error| of the posterior {name}")
        axes[0].legend(frameon=False, fontsize=8)


def run(lab: SimulationLab) -> PosteriorResult:
    found = lab.run(plan(lab))
    rows = [weighted_posterior(values(found[f"posterior-n{n}"][DEPTH])) for n in WIDTHS]
    estimates, errors, effective = (np.array(column) for column in zip(*rows, strict=True))
    inputs = torch.cat([TRAIN, TEST])
    exact = regression(torch.from_numpy(covariance(network(1), inputs))[None])
    prediction = torch.cat(exact[1:], 1)[0].numpy()
    checks = _limit_checks(estimates, errors, prediction)
    checks.append(_slope_check(estimates, errors, prediction))
    return PosteriorResult(tuple(checks), estimates, errors, prediction, effective)


def weighted_posterior(rows: Array) -> tuple[Array, Array, float]:
    """Posterior means and variances, their standard errors, and the effective sample size.

    Args:
        rows: log marginal likelihood, means and variances of each network, ``N x 7``.
    """
    weights = np.exp(rows[:, 0] - rows[:, 0].max())
    weights /= weights.sum()
    mean, variance = np.split(rows[:, 1:], 2, axis=1)
    centre = weights @ mean
    spread = variance + np.square(mean - centre)
    total = weights @ spread
    influence = np.concatenate([mean - centre, spread - total], 1)
    errors = np.sqrt(np.square(weights) @ np.square(influence))
    return np.concatenate([centre, total]), errors, float(1 / np.square(weights).sum())


def _limit_checks(estimates: Array, errors: Array, prediction: Array) -> list[Check]:
    names = [
        f"posterior {what} at x = {float(x):g}, extrapolated to n = ∞"
        for what in ("mean", "variance")
        for x in TEST[:, 0]
    ]
    inverse = 1 / np.array(WIDTHS, float)
    columns = zip(estimates.T, errors.T, strict=True)
    limits, noise = np.array([extrapolate(inverse, *column, 2) for column in columns]).T
    group = "posterior means and variances, extrapolated to n = ∞"
    return equality_checks(names, limits, noise, prediction, group=group)


def _slope_check(estimates: Array, errors: Array, prediction: Array) -> Check:
    """Check the slope of the root mean squared error over means and variances, less its noise."""
    gap = estimates - prediction
    square = np.square(gap).sum(1) - np.square(errors).sum(1)
    noise = 2 * np.sqrt(np.square(gap * errors).sum(1))
    root = np.sqrt(np.maximum(square, 1e-300))
    slope = power_law(np.array(WIDTHS, float), root, noise / (2 * root)).estimate(1)
    return Check("slope of log error in log n, bounded by -1/2", *slope, -0.5, "at most")
