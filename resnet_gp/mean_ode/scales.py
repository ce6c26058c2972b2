"""Residual scale, step sizes and regimes of a deep ResNet (Chizat 2025, arXiv 2509.10167).

Blocks alpha/(LM) V rho(U' h / D), with entries of U and V from N(0, D), have residual scale
alpha sqrt(D) / (LM).
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from resnet_gp.integers import check_integer

Scale: TypeAlias = Literal["complete", "lazy"]
Number = TypeVar("Number", float, Tensor)

LAZY_FROM = 3.0  # alpha from which the movement of U falls like 3 / alpha


def alpha_of(scale: Scale | float, D: int, M: int, L: int) -> float:
    """Return alpha: 1 if "complete", (LM)^(1/4) if "lazy", or that of a residual scale.

    Raises:
        ValueError: the scale is unknown, or not positive and finite.
    """
    if scale == "complete":
        return 1.0
    if scale == "lazy":
        return float((L * M) ** 0.25)
    if not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise ValueError(f'scale must be "complete", "lazy" or a positive number, got {scale!r}')
    return scale * L * M / math.sqrt(D)


def residual_scale(alpha: float, D: int, M: int, L: int) -> float:
    """Residual scale alpha sqrt(D) / (LM)."""
    return alpha * math.sqrt(D) / (L * M)


def learning_rates(alpha: Number, D: int, M: int, L: int) -> tuple[Number, Number]:
    """Step sizes of U and V at every depth: min(1, alpha^-2) LMD and alpha^-2 LMD.

    They are meant for a loss that is a mean over samples and over the D outputs.
    """
    rate = alpha**-2 * (L * M * D)
    largest = L * M * D
    bounded = rate.clamp(max=largest) if isinstance(rate, torch.Tensor) else min(rate, largest)
    return bounded, rate


def regime(alpha: float, D: int, M: int, L: int) -> str:
    """Name the part of the phase diagram that alpha is in."""
    if alpha > math.sqrt(L * M / D):
        return "outside the theory"
    if alpha >= LAZY_FROM:
        return "lazy"
    return "complete feature learning" if alpha >= 1 / LAZY_FROM else "small initialisation"


def check_sizes(D: int, M: int, L: int) -> None:
    """Raise ValueError if a size is not a positive integer."""
    for name, size in {"D": D, "M": M, "L": L}.items():
        check_integer(name, size)
