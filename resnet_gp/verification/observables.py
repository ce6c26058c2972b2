"""What is observed of networks, and at which inputs. Tensors in and out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from resnet_gp.networks import Moments, Samples, Statistic
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array

PRECISION = 0.005  # the largest relative standard error of a covariance test

Pairs = Sequence[tuple[int, int]]
Observe = Callable[[int, Tensor], Tensor]


def inputs_at(*degrees: float) -> Tensor:
    """Inputs in the plane with |a|^2 / d = 1, at these angles; ``m x 2``."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], -1)


def gram(hidden: Tensor) -> Tensor:
    """q(a, b) = <Y(a), Y(b)> / n of each network, ``N x m x m``."""
    return hidden @ hidden.mT / hidden.shape[-1]


def covariances(pairs: Pairs) -> Observe:
    """q(a, b) of some pairs of inputs, ``N x pairs``."""
    first, second = (list(indices) for indices in zip(*pairs, strict=True))

    def observe(depth: int, hidden: Tensor) -> Tensor:
        return gram(hidden)[:, first, second]

    return observe


def squared_errors(pairs: Pairs, predicted: dict[int, Array]) -> Observe:
    """(q(a, b) - prediction)^2 and q(a, b), ``N x 2 pairs``; a prediction for each depth."""
    find = covariances(pairs)

    def observe(depth: int, hidden: Tensor) -> Tensor:
        q = find(depth, hidden).double()
        target = torch.as_tensor(predicted[depth], device=q.device)
        return torch.cat([(q - target).square(), q], 1)

    return observe


def at_pairs(matrix: Array, pairs: Pairs) -> Array:
    return np.array([matrix[i, j] for i, j in pairs])


def moments(found: Statistic) -> Moments:
    """Of a simulation that kept means only."""
    assert isinstance(found, Moments)
    return found


def values(found: Statistic) -> Array:
    """Of a simulation that kept everything: ``N x k``, or a row for each block."""
    assert isinstance(found, Samples)
    return found.values


def mean_checks(
    names: Sequence[str], found: Moments, predicted: Array, group: str = ""
) -> list[Check]:
    """z-tests of means over networks."""
    rows = zip(names, found.mean, found.standard_error, predicted, strict=True)
    return [Check(name, float(m), float(e), float(p), group=group) for name, m, e, p in rows]


def precision_check(what: str, checks: Sequence[Check]) -> Check:
    """The largest standard error, relative to the value that it tests."""
    worst = max(abs((check.standard_error or 0) / (check.prediction or 1)) for check in checks)
    return Check(f"{what}: largest standard error / value", worst, None, PRECISION, "at most")
