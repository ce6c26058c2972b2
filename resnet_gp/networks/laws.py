r"""Finite networks: the law of their weights at initialisation.

    Y_0 = W_in a [+ b_in]                                         W_in ~ N(0, 1/d)
    Y_l = r Y_{l-1} + sqrt(s) (W_l phi(Y_{l-1}) [+ b_l])          W_l ~ N(0, w/n)

with biases of variance sigma_in^2 and sigma_b^2. A ResNet (Hayou & Yang 2023) has r = 1 and
s = 1/L, an MLP r = 0 and s = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from resnet_gp.activations import (
    GELU,
    Activation,
    AnyActivation,
    Erf,
    LeakyReLU,
    Sine,
    any_activation,
)

Function: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Network:
    """A finite network at initialisation; see ``ResNet`` and ``MLP``.

    Args:
        width: n, neurons of each layer.
        depth: L, layers after the input layer.
        activation: phi: a name in ``resnet_gp.activations.ACTIVATIONS``, an activation object of
            that module, or any function that maps tensors entry by entry.
        weight_variance: w.
        input_bias_variance: sigma_in^2, 0 for none.
        block_bias_variance: sigma_b^2, 0 for none.
        negative_slope: the slope of "leaky_relu".

    Raises:
        ValueError: a width or depth below 1, a variance that is negative or not finite, or an
            unknown activation.
    """

    width: int
    depth: int
    activation: str | AnyActivation | Function = "relu"
    weight_variance: float = 1.0
    input_bias_variance: float = 0.0
    block_bias_variance: float = 0.0
    negative_slope: float = 0.01

    carries: ClassVar[bool]  # whether the previous layer is added

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("weight_variance", "input_bias_variance", "block_bias_variance"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        _ = self.function  # raises if unknown

    @property
    def layer_scale(self) -> float:
        """s, the factor of the variance that each layer adds."""
        raise NotImplementedError

    @property
    def function(self) -> Function:
        """phi as a function of tensors."""
        return function_of(self.activation, self.negative_slope)


@dataclass(frozen=True)
class ResNet(Network):
    """Y_l = Y_{l-1} + L^{-1/2} (W_l phi(Y_{l-1}) + b_l), W_l ~ N(0, w / n); see ``Network``."""

    carries: ClassVar[bool] = True

    @property
    def layer_scale(self) -> float:
        return 1 / self.depth


@dataclass(frozen=True)
class MLP(Network):
    """Y_l = W_l phi(Y_{l-1}) + b_l, the network without skip connections.

    The default w keeps the variance of (leaky) ReLU networks (He et al. 2015): w = 2 / (1 + a^2)
    for slope a. Other activations need an explicit w. See ``Network``.
    """

    weight_variance: float = math.nan

    carries: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if math.isnan(self.weight_variance):
            object.__setattr__(self, "weight_variance", self._critical_variance())
        super().__post_init__()

    def _critical_variance(self) -> float:
        if isinstance(self.activation, (str, LeakyReLU)):
            activation = any_activation(self.activation, self.negative_slope)
            if isinstance(activation, LeakyReLU):
                return 2 / (1 + activation.negative_slope**2)
        raise ValueError("weight_variance of an MLP is known for the (leaky) ReLU family only")

    @property
    def layer_scale(self) -> float:
        return 1.0


def function_of(
    activation: str | AnyActivation | Function, negative_slope: float = 0.01
) -> Function:
    """Return an activation as a function of tensors.

    Raises:
        ValueError: the name is unknown, or the object is not a function.
    """
    if callable(activation):
        return activation
    match any_activation(activation, negative_slope):
        case LeakyReLU(negative_slope=0.0):
            return torch.relu
        case LeakyReLU(negative_slope=-1.0):
            return torch.abs
        case LeakyReLU(negative_slope=slope):
            return lambda u: torch.nn.functional.leaky_relu(u, slope)
        case Erf():
            return torch.erf
        case GELU():
            return torch.nn.functional.gelu
        case Sine():
            return torch.sin
        case Activation() as own:
            return own.function
