"""Activations phi and their Gaussian moments, all that the infinite network depends on.

For (u, v) ~ N(0, [[q_a, q], [q, q_b]]) the network needs E[phi(u) phi(v)] and its derivatives

    d/dq   = E[phi'(u) phi'(v)]
    d/dq_a = E[phi''(u) phi(v)] / 2,    d/dq_b = E[phi(u) phi''(v)] / 2.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from resnet_gp.hermite import checked_steepness

ACTIVATIONS = ("relu", "leaky_relu", "abs", "erf", "gelu", "tanh", "silu", "sin")

Partials: TypeAlias = tuple[Tensor, Tensor, Tensor]


class Moments(ABC):
    """Gaussian moments as functions of q_a, q_b and q, which broadcast."""

    @abstractmethod
    def moment(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        """E[phi(u) phi(v)]."""

    @abstractmethod
    def partials(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Partials:
        """The derivatives of ``moment`` in its three arguments, in their order."""


@dataclass(frozen=True)
class LeakyReLU(Moments):
    """phi(u) = max(u, 0) + alpha min(u, 0): ReLU for alpha = 0, |u| for alpha = -1.

    Its moments are of the arc-cosine type (Cho & Saul 2009): with q = sqrt(q_a q_b) cos(theta),

        E[phi phi] = (1 + alpha^2) / 2 q
                   + (1 - alpha)^2 sqrt(q_a q_b) (sin(theta) - theta cos(theta)) / (2 pi).
    """

    negative_slope: float

    @property
    def steepness(self) -> float:
        """Bound of E[phi'(u)^2] and of the rate at which correlations move."""
        return max(1.0, self.negative_slope**2, (1 - self.negative_slope) ** 2)

    def moment(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        sine = _root_of_determinant(variance1, variance2, covariance)
        angle = torch.atan2(sine, covariance)
        kink = (1 - self.negative_slope) ** 2 / (2 * math.pi)
        linear = (1 + self.negative_slope**2) / 2
        return linear * covariance + kink * (sine - angle * covariance)

    def partials(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Partials:
        sine = _root_of_determinant(variance1, variance2, covariance)
        angle = torch.atan2(sine, covariance)
        kink = (1 - self.negative_slope) ** 2 / (2 * math.pi)
        # The kernel has a kink where a variance is 0; the derivative there is set to 0.
        return (
            kink / 2 * sine / torch.where(variance1 == 0, math.inf, variance1),
            kink / 2 * sine / torch.where(variance2 == 0, math.inf, variance2),
            (1 + self.negative_slope**2) / 2 - kink * angle,
        )


@dataclass(frozen=True)
class Erf(Moments):
    """phi(u) = erf(u) (Williams 1997)."""

    steepness: ClassVar[float] = 4 / math.pi

    def moment(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        root = _shifted_root(2 * variance1, 2 * variance2, 2 * covariance)
        return (2 / math.pi) * torch.atan(2 * covariance / root)

    def partials(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Partials:
        slope = (4 / math.pi) / _shifted_root(2 * variance1, 2 * variance2, 2 * covariance)
        return (
            -covariance * slope / (1 + 2 * variance1),
            -covariance * slope / (1 + 2 * variance2),
            slope,
        )


@dataclass(frozen=True)
class GELU(Moments):
    """phi(u) = u Phi(u), Phi the normal distribution function; moments by Stein's identity."""

    steepness: ClassVar[float] = 1.28

    def moment(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        root = _shifted_root(variance1, variance2, covariance)
        angle = torch.atan(covariance / root)
        inverse = 1 / (1 + variance1) + 1 / (1 + variance2)
        # Both terms of the numerator vanish with the determinant's own accuracy.
        numerator = variance1 * variance2 + covariance * covariance * (inverse - 1)
        return covariance * (0.25 + angle / (2 * math.pi)) + numerator / (2 * math.pi * root)

    def partials(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Partials:
        root = _shifted_root(variance1, variance2, covariance)
        angle = torch.atan(covariance / root)
        square, q2 = root * root, covariance * covariance
        inverse1, inverse2 = 1 / (1 + variance1), 1 / (1 + variance2)
        numerator = variance1 * variance2 + q2 * (inverse1 + inverse2 - 1)
        density = 1 / (2 * math.pi * root)

        def in_variance(own: Tensor, other: Tensor) -> Tensor:
            # own = 1 / (1 + this variance); 1 / (own square) = (1 + other) / (root^2) and so on
            rest = square + q2  # (1 + q_a) (1 + q_b)
            return density * (
                -q2 * own / 2 + other - q2 * own * own - numerator * rest * own / (2 * square)
            )

        slope = 0.25 + angle / (2 * math.pi)
        slope = slope + density * covariance * (
            1 + 2 * (inverse1 + inverse2 - 1) + numerator / square
        )
        return in_variance(inverse1, variance2), in_variance(inverse2, variance1), slope


@dataclass(frozen=True)
class Sine(Moments):
    """phi(u) = sin(u): E[phi phi] = exp(-(q_a + q_b) / 2) sinh(q)."""

    steepness: ClassVar[float] = 1.0

    def moment(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        size = covariance.abs()
        decay = torch.exp(size - (variance1 + variance2) / 2)
        return -torch.sign(covariance) * decay * torch.expm1(-2 * size) / 2

    def partials(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Partials:
        size = covariance.abs()
        decay = torch.exp(size - (variance1 + variance2) / 2)
        moment = self.moment(variance1, variance2, covariance)
        return -moment / 2, -moment / 2, decay * (1 + torch.exp(-2 * size)) / 2


@dataclass(frozen=True)
class Activation:
    """A smooth function chosen by the user, for instance ``Activation(torch.cos, name="cos")``.

    Args:
        function: phi, from float64 tensors to tensors of the same shape, entry by entry. A
            module-level function (not a lambda), if kernels are to be pickled.
        name: its name in messages.

    Raises:
        ValueError: Gaussian moments by Hermite series do not reach their accuracy for all variances
            from 1e-3 to 1e3, as with jumps and kinks.
    """

    function: Callable[[Tensor], Tensor]
    name: str

    def __post_init__(self) -> None:
        checked_steepness(self.function, self.name)

    @property
    def steepness(self) -> float:
        """The largest E[phi'(u)^2] over variances from 1e-3 to 1e3."""
        return checked_steepness(self.function, self.name)


ClosedForm: TypeAlias = LeakyReLU | Erf | GELU | Sine
AnyActivation: TypeAlias = ClosedForm | Activation


def _root_of_determinant(variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
    """sqrt(q_a q_b - q^2), 0 where rounding makes it imaginary."""
    return (variance1 * variance2 - covariance * covariance).clamp_(min=0).sqrt_()


def _shifted_root(variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
    """sqrt((1 + q_a) (1 + q_b) - q^2), without cancellation where q^2 is close to q_a q_b."""
    root = variance1 * variance2 - covariance * covariance
    root = root.clamp_(min=0).add_(variance1 + 1).add_(variance2)
    return root.sqrt_()


def leaky_relu_of(activation: str, negative_slope: float = 0.01) -> LeakyReLU:
    """Return the activation of that name; only "leaky_relu" uses ``negative_slope``.

    Raises:
        ValueError: the name is unknown, or the slope is not finite.
    """
    slopes = {"relu": 0.0, "leaky_relu": negative_slope, "abs": -1.0}
    if not isinstance(activation, str) or activation not in slopes:
        raise ValueError(f"activation must be one of {', '.join(slopes)}; got {activation!r}")
    slope = slopes[activation]
    if not math.isfinite(slope):
        raise ValueError(f"negative_slope must be finite, got {slope!r}")
    return LeakyReLU(float(slope))


def any_activation(activation: str | AnyActivation, negative_slope: float = 0.01) -> AnyActivation:
    """Return the activation of that name in ``ACTIVATIONS``, or the object itself.

    Raises:
        ValueError: the name is unknown, or the slope is not finite.
    """
    if isinstance(activation, (LeakyReLU, Erf, GELU, Sine, Activation)):
        return activation
    smooth: dict[str, Callable[[], AnyActivation]] = {
        "erf": Erf,
        "gelu": GELU,
        "sin": Sine,
        "tanh": lambda: Activation(torch.tanh, name="tanh"),
        "silu": lambda: Activation(torch.nn.functional.silu, name="silu"),
    }
    if isinstance(activation, str) and activation in smooth:
        return smooth[activation]()
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {', '.join(ACTIVATIONS)} or an Activation; "
            f"got {activation!r}"
        )
    return leaky_relu_of(activation, negative_slope)
