r"""How wide and how deep must a network be? Answers from the fitted constants.

The L2 error of q_1(a, a) is sqrt(C_1^2 / n + C_2^2 / L^2) for ReLU networks with |a|^2 / d = 1 and
w = 1 (experiment ``roles``; Hayou & Yang 2023, Theorem 2, has C_1 / sqrt(n) + C_2 / sqrt(L) as a
bound). It scales with the variance of the input layer, q_0(a, a).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARE = 1 / math.sqrt(2)  # of the tolerance, for each of width and depth when both are free


@dataclass(frozen=True)
class Constants:
    """C_1 and C_2, with where they come from."""

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
class Advice:
    """A size, and the constants that it was computed from."""

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
) -> Advice:
    """The least width with an L2 error of q_1(a, a) of at most the tolerance.

    Args:
        tolerance: root mean square of q_1(a, a) - k(a, a) over networks, in the units of q_0.
        depth: L of the network, whose bias takes part of the tolerance; None if the depth is free
            as well, which leaves each of them 1 / sqrt(2) of the tolerance.
        input_variance: q_0(a, a).
        constants: C_1 and C_2, for instance fitted by experiment ``roles``.

    Raises:
        ValueError: a tolerance or variance that is not positive, or a depth whose bias alone is
            larger than the tolerance.
    """
    relative = _relative(tolerance, input_variance)
    left = (relative * SHARE) ** 2
    if depth is not None:
        left = relative**2 - (constants.depth / depth) ** 2
        if left <= 0:
            least = constants.depth / relative
            raise ValueError(
                f"tolerance {tolerance:g} is out of reach at depth {depth} for any width: its bias "
                f"alone is {input_variance * constants.depth / depth:.3g}; the depth must be more "
                f"than {least:.5g}"
            )
    return Advice(math.ceil(constants.width**2 / left), constants)


def required_depth(
    tolerance: float,
    *,
    width: int | None = None,
    input_variance: float = 1.0,
    constants: Constants = THEORY,
) -> Advice:
    """The least depth with an L2 error of q_1(a, a) of at most the tolerance.

    Args:
        tolerance: as in ``required_width``.
        width: n of the network, whose fluctuations take part of the tolerance; None if the width
            is free as well.
        input_variance: q_0(a, a).
        constants: C_1 and C_2.

    Raises:
        ValueError: a tolerance or variance that is not positive, or a width whose fluctuations
            alone are larger than the tolerance.
    """
    relative = _relative(tolerance, input_variance)
    left = (relative * SHARE) ** 2
    if width is not None:
        noise = constants.width**2 / width
        left = relative**2 - noise
        if left <= 0:
            least = (constants.width / relative) ** 2
            raise ValueError(
                f"tolerance {tolerance:g} is out of reach at width {width} for any depth: its "
                f"fluctuations alone are {input_variance * math.sqrt(noise):.3g}; "
                f"the width must be more than {least:.5g}"
            )
    return Advice(math.ceil(constants.depth / math.sqrt(left)), constants)


def _relative(tolerance: float, input_variance: float) -> float:
    for name, value in (("tolerance", tolerance), ("input_variance", input_variance)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    return tolerance / input_variance
