"""Width and depth for a given L2 error of q_1(a, a), which is q_0 sqrt(C_1^2 / n + C_2^2 / L^2).

This is the law of ReLU networks with w = 1 (experiment ``roles``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """C_1 and C_2, and their source."""

    width: float
    depth: float
    source: str


THEORY = Constants(
    width=3.565,
    depth=math.exp(0.5) / 8,
    source=(
        "theory for q_1(a, a), ReLU, w = 1: C_1 of resnet_gp.verification.fluctuations, "
        "C_2 = e^(1/2)/8 of Euler's method; `resnet-gp verify --experiments roles` tests both"
    ),
)


@dataclass(frozen=True)
class RequiredSize:
    """A width or a depth, and the constants from which it was computed."""

    size: int
    constants: Constants

    def __str__(self) -> str:
        return f"{self.size} ({self.constants.source})"


def required_width(
    tolerance: float,
    *,
    depth: int | None = None,
    input_variance: float = 1.0,
    constants: Constants = THEORY,
) -> RequiredSize:
    """Smallest width at which the L2 error of q_1(a, a) is at most the tolerance.

    Args:
        tolerance: root mean square of q_1(a, a) - k(a, a) over networks, in the units of q_0.
        depth: L of the network, whose bias is part of the error. If None, width and depth are both
            free and get 1 / sqrt(2) of the tolerance each.
        input_variance: q_0(a, a).
        constants: C_1 and C_2.

    Raises:
        ValueError: the tolerance or the variance is not positive, or the bias at this depth alone
            exceeds the tolerance.
    """
    relative = _relative(tolerance, input_variance)
    bias = relative / math.sqrt(2) if depth is None else constants.depth / depth
    if bias >= relative:
        raise ValueError(
            f"tolerance {tolerance:g} is out of reach at depth {depth} for any width: its bias "
            f"alone is {input_variance * bias:.3g}; the depth must be more than "
            f"{constants.depth / relative:.5g}"
        )
    return RequiredSize(math.ceil(constants.width**2 / (relative**2 - bias**2)), constants)


def required_depth(
    tolerance: float,
    *,
    width: int | None = None,
    input_variance: float = 1.0,
    constants: Constants = THEORY,
) -> RequiredSize:
    """Smallest depth at which the L2 error of q_1(a, a) is at most the tolerance.

    Args:
        tolerance, input_variance, constants: as in ``required_width``.
        width: n of the network, whose fluctuations are part of the error; None if it is free too.

    Raises:
        ValueError: the tolerance or the variance is not positive, or the fluctuations at this width
            alone exceed the tolerance.
    """
    relative = _relative(tolerance, input_variance)
    noise = relative / math.sqrt(2) if width is None else constants.width / math.sqrt(width)
    if noise >= relative:
        raise ValueError(
            f"tolerance {tolerance:g} is out of reach at width {width} for any depth: its "
            f"fluctuations alone are {input_variance * noise:.3g}; the width must be more than "
            f"{(constants.width / relative) ** 2:.5g}"
        )
    depth = constants.depth / math.sqrt(relative**2 - noise**2)
    return RequiredSize(math.ceil(depth), constants)


def _relative(tolerance: float, input_variance: float) -> float:
    for name, value in (("tolerance", tolerance), ("input_variance", input_variance)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    return tolerance / input_variance
