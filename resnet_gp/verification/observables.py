"""Inputs of the experiments, and the numbers observed of each network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from resnet_gp.networks import SampleMoments, Samples, Statistic
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array

PRECISION = 0.005  # largest relative standard error of a covariance test

Pairs = Sequence[tuple[int, int]]
Observe = Callable[[int, Tensor], Tensor]


def inputs_at(*degrees: float) -> Tensor:
    """Inputs in the plane with |a|^2 / d = 1 at these angles, ``m x 2``."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], -1)


def gram(hidden: Tensor) -> Tensor:
    """q(a, b) = <Y(a), Y(b)> / n of each network, ``N x m x m``."""
    return hidden @ hidden.mT / hidden.shape[-1]


def covariances(pairs: Pairs) -> Observe:
    """Observe q(a, b) at pairs of inputs, ``N x pairs``."""
    first, second = (list(indices) for indices in zip(*pairs, strict=True))

    def observe(depth: int, hidden: Tensor) -> Tensor:
        return gram(hidden)[:, first, second]

    return observe


def squared_errors(pairs: Pairs, predicted: dict[int, Array]) -> Observe:
    """Observe (q(a, b) - prediction)^2, ``N x pairs``; predictions are by depth."""
    find = covariances(pairs)

    def observe(depth: int, hidden: Tensor) -> Tensor:
        q = find(depth, hidden).double()
        return (q - torch.as_tensor(predicted[depth], device=q.device)).square()

    return observe


def at_pairs(matrix: Array, pairs: Pairs) -> Array:
    """Entries of a matrix at these pairs of indices."""
    return np.array([matrix[i, j] for i, j in pairs])


def moments(found: Statistic) -> SampleMoments:
    """Narrow the statistic of a simulation that kept means only."""
    assert isinstance(found, SampleMoments)
    return found


def values(found: Statistic) -> Array:
    """Values of a simulation that kept them all: ``N x k``, or a row for each block."""
    assert isinstance(found, Samples)
    return found.values


def precision_check(what: str, checks: Sequence[Check]) -> Check:
    """Check that the largest relative standard error of `checks` is at most ``PRECISION``."""
    worst = max(abs((check.standard_error or 0) / (check.prediction or 1)) for check in checks)
    return Check(f"{what}: largest standard error / value", worst, None, PRECISION, "at most")
