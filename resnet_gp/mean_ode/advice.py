"""Advice on the scale of a deep ResNet."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_gp.mean_ode import scales

SOURCES = (
    "residual scale sqrt(D)/(LM) and step sizes: Chizat 2025, arXiv 2509.10167",
    "distance to the limit: the same paper's experiments (tanh, D = N = 10, 100 steps), whose"
    " constants `resnet-gp mean-ode` fits anew",
)
DEPTH_CONSTANT, WIDTH_CONSTANT = 0.15, 0.22  # the paper: 0.15 / L + 0.22 sqrt(D) / sqrt(LM)


@dataclass(frozen=True)
class Advice:
    """A scale, its step sizes, and the distance to the limit to expect.

    Attributes:
        residual_scale: alpha sqrt(D) / (LM), for ``ResidualMLP(scale=...)``.
        alpha: the residual scale over its critical value.
        learning_rate_U, learning_rate_V: of every layer of ``ResidualMLP``, for plain gradient
            descent on a loss that is a mean over samples and outputs.
        regime: in words; "outside the theory" if the blocks exceed the input at initialisation.
        depth_error, width_error: the 1/L and the 1/sqrt(LM) part of the predicted root mean square
            distance of the output to the limit, in units of the targets' standard deviation.
        sources: of these numbers.
    """

    residual_scale: float
    alpha: float
    learning_rate_U: float
    learning_rate_V: float
    regime: str
    depth_error: float
    width_error: float
    sources: tuple[str, ...] = SOURCES

    @property
    def distance_to_limit(self) -> float:
        """Sum of ``depth_error`` and ``width_error``."""
        return self.depth_error + self.width_error


def advise_scale(D: int, M: int, L: int, scale: scales.Scale | float = "complete") -> Advice:
    """Return the critical residual scale of a network, or assess another scale.

    The errors were fitted for tanh at D = 10 after 100 full-batch steps; elsewhere they are orders
    of magnitude.

    Args:
        D, M, L: embedding dimension, hidden units per block, blocks.
        scale: "complete" for the critical scale; "lazy" or a residual scale to assess it.

    Raises:
        ValueError: a size or the scale is not positive, or the scale is unknown.
    """
    scales.check_sizes(D, M, L)
    alpha = scales.alpha_of(scale, D, M, L)
    rate_U, rate_V = scales.learning_rates(alpha, D, M, L)
    return Advice(
        residual_scale=scales.residual_scale(alpha, D, M, L),
        alpha=alpha,
        learning_rate_U=rate_U,
        learning_rate_V=rate_V,
        regime=scales.regime(alpha, D, M, L),
        depth_error=DEPTH_CONSTANT / L,
        width_error=WIDTH_CONSTANT * max(1.0, alpha) * math.sqrt(D / (L * M)),
    )
