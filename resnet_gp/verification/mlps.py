"""MLPs for comparison: they do not become Gaussian if their depth grows with their width."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from scipy import special, stats
from torch import Tensor

from resnet_gp.networks import MLP, ResNet, Results, Simulation
from resnet_gp.report.checks import Check, check_of_test, equality_checks
from resnet_gp.report.fits import Array, jackknife, mean_and_error
from resnet_gp.verification.observables import gram, inputs_at, moments, values
from resnet_gp.verification.predictions import correlation_of, covariance, mlp_log_norm
from resnet_gp.verification.simulation_lab import SimulationLab

INPUTS = inputs_at(0.0, 45.0)
SIZES = (32, 64, 128, 256)  # n = L
TAILS = MLP(256, 32)  # the network whose neurons' heavy tails are measured
KINDS = ("MLP", "ResNet")

Norms: TypeAlias = dict[tuple[str, int], Array]  # by kind and size: log |Y|^2 / n and correlation


def plan(lab: SimulationLab) -> list[Simulation]:
    networks = lab.size(2000, 500)
    return [
        Simulation(f"mlps-{kind.__name__}{n}", kind(n, n), INPUTS, networks, _observe, keep=True)
        for n in SIZES
        for kind in (MLP, ResNet)
    ] + [Simulation("mlps-tails", TAILS, INPUTS[:1], 8 * networks, _fourth_power)]


def _observe(depth: int, hidden: Tensor) -> Tensor:
    """Observe log |Y|^2 / n of the first input, and the correlation, ``N x 2``."""
    q = gram(hidden).double()
    c = q[:, 0, 1] / (q[:, 0, 0] * q[:, 1, 1]).sqrt()
    return torch.stack([q[:, 0, 0].log(), c], 1)


def _fourth_power(depth: int, hidden: Tensor) -> Tensor:
    """Observe the mean of y^4 over the neurons of each network, ``N x 1``."""
    return hidden[:, :1].double().pow(4).mean(-1)


def norms(found: dict[str, Results]) -> Norms:
    return {(kind, n): values(found[f"mlps-{kind}{n}"][n]) for kind in KINDS for n in SIZES}


def checks(measured: Norms, found: dict[str, Results]) -> list[Check]:
    rows = [check for n in SIZES for check in _moment_checks(n, measured["MLP", n][:, 0])]
    rows += _law_checks(SIZES[-1], measured["MLP", SIZES[-1]][:, 0])
    rows += _tail_checks(found["mlps-tails"])
    return [*rows, _correlation_check(SIZES[-1], measured["MLP", SIZES[-1]][:, 1])]


def log_norm(n: int) -> tuple[float, float]:
    """Exact mean and variance of log |Y_L|^2 / n for n = L and |a|^2 / d = 1.

    The last layer multiplies the norm of ``mlp_log_norm`` by a chi^2 variable.
    """
    mean, variance = mlp_log_norm(MLP(n, n))
    last = special.digamma(n / 2) + math.log(2 / n)
    return mean + float(last), variance + float(special.polygamma(1, n / 2))


def _mean(values: Array) -> tuple[float, float]:
    mean, error = mean_and_error(values)
    return float(mean), float(error)


def _variance(logs: Array) -> tuple[float, float]:
    powers = np.stack([logs, logs**2], 1)
    estimate, error = jackknife(powers, lambda row: row[1:] - row[:1] ** 2)
    return float(estimate[0]), float(error[0])


def _moment_checks(n: int, logs: Array) -> list[Check]:
    names = [f"{what} of log |Y|²/n, MLP, n = L = {n}" for what in ("mean", "variance")]
    estimates, errors = zip(_mean(logs), _variance(logs), strict=True)
    group = "mean and variance of log |Y|²/n, MLPs, n = L"
    return equality_checks(names, estimates, errors, log_norm(n), group=group)


def _law_checks(n: int, logs: Array) -> list[Check]:
    """Check that the norm is log-normal: at infinite width and this depth it would be constant."""
    mean, variance = log_norm(n)
    test = stats.kstest((logs - mean) / math.sqrt(variance), "norm")
    name = f"variance of log |Y|²/n, MLP, n = L = {n}, is not that of width first"
    return [
        check_of_test(f"log-normal norm, MLP, n = L = {n}: Kolmogorov-Smirnov", test),
        Check(name, *_variance(logs), 0.0, "differs"),
    ]


def _tail_checks(found: Results) -> list[Check]:
    """Check E y^4 = 3 (1 + 5/n)^L for E y^2 = 1: each layer multiplies E q^2 by 1 + 5/n."""
    n, L = TAILS.width, TAILS.depth
    fourth = moments(found[L])
    estimate, error = float(fourth.mean[0] - 3), float(fourth.standard_error[0])
    name = f"excess kurtosis of a neuron, MLP, n = {n}, L = {L}"
    return [
        Check(name, estimate, error, 3 * (1 + 5 / n) ** L - 3),
        Check(f"{name}, is not 0", estimate, error, 0.0, "differs"),
    ]


def _correlation_check(n: int, c: Array) -> Check:
    limit = correlation_of(covariance(ResNet(n, n), INPUTS, limit=True))[0, 1]
    name = f"mean correlation, near 1, MLP, n = L = {n}, is not the ResNet's"
    return Check(name, *_mean(c), float(limit), "differs")
