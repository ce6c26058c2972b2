"""What an activation is to the infinite network.

So far the positively homogeneous family phi(u) = max(u, 0) + alpha min(u, 0), for which the whole
covariance ODE is one scalar flow (``resnet_gp.flow``). No kernels and no networks here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ACTIVATIONS = ("relu", "leaky_relu", "abs")


@dataclass(frozen=True)
class LeakyReLU:
    """phi(u) = max(u, 0) + alpha min(u, 0): ReLU for alpha = 0, |u| for alpha = -1."""

    negative_slope: float


def get_activation(activation: str, negative_slope: float = 0.01) -> LeakyReLU:
    """The activation of that name; ``negative_slope`` is used by "leaky_relu" alone.

    Raises:
        ValueError: the name is unknown, or the slope is not finite.
    """
    slopes = {"relu": 0.0, "leaky_relu": negative_slope, "abs": -1.0}
    if not isinstance(activation, str) or activation not in slopes:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    slope = slopes[activation]
    if not math.isfinite(slope):
        raise ValueError(f"negative_slope must be finite, got {slope!r}")
    return LeakyReLU(float(slope))
