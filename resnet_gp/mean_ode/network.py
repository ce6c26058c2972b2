"""The residual network of the theory as a torch module."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_gp.mean_ode import scales

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "erf": torch.erf,
    "sin": torch.sin,
}


class ResidualMLP(nn.Module):
    r"""L residual blocks of M hidden units on a stream of D numbers.

    h^l = h^{l-1} + alpha/(LM) V^l rho(U^l' h^{l-1} / D),  entries of U and V that start as N(0, D)
    (Chizat 2025, arXiv 2509.10167). Embeddings and readouts are up to the caller.

    Args:
        D: embedding dimension.
        M: hidden units of a block; the limit L to infinity is the same for every M.
        L: blocks.
        alpha: a factor on the scale.
        activation: rho, a name ("tanh", "relu", "gelu", "silu", "erf", "sin") or a function.
        scale: the residual scale: "complete", the critical sqrt(D)/(LM); "lazy", (LM)^(1/4) times
            as much, where the network is closest to its lazy limit; or a number.
        generator: of the start.

    Attributes:
        U, V: parameters, ``L x D x M``.
        alpha: the alpha of the equation above: that of the scale, times the given one.

    Raises:
        ValueError: a size is not positive, or alpha, the activation or the scale makes no sense.
    """

    def __init__(
        self,
        D: int,
        M: int,
        L: int,
        alpha: float = 1.0,
        activation: str | Callable[[Tensor], Tensor] = "tanh",
        scale: scales.Scale | float = "complete",
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        scales.check_sizes(D, M, L)
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be positive and finite, got {alpha!r}")
        self.activation = _function_of(activation)
        self.alpha = alpha * scales.alpha_of(scale, D, M, L)
        self.U, self.V = (
            nn.Parameter(torch.randn(L, D, M, generator=generator) * math.sqrt(D)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """h^L, ``... x D``, of inputs of the same shape."""
        return self.states(x)[-1]

    def states(self, x: Tensor) -> list[Tensor]:
        """h^0 = x, ..., h^L, each ``... x D``."""
        L, D, M = self.U.shape
        states = [x]
        for U, V in zip(self.U / D, self.V * (self.alpha / (L * M)), strict=True):
            states.append(states[-1] + self.activation(states[-1] @ U) @ V.mT)
        return states

    def parameter_groups(self, lr: float = 1.0) -> list[dict[str, Any]]:
        """Groups for a torch optimiser without momentum.

        The rates are min(1, alpha^-2) LMD for U and alpha^-2 LMD for V.

        The rates are the same for all layers. They are meant for a loss that is a mean over samples
        and over the D outputs, and ``lr`` multiplies both; the theory's experiments have
        mean(|h - y|^2) / 2 and lr = 1.
        """
        L, D, M = self.U.shape
        rates = scales.learning_rates(self.alpha, D, M, L)
        return [
            {"params": [parameter], "lr": lr * rate}
            for parameter, rate in zip((self.U, self.V), rates, strict=True)
        ]

    def extra_repr(self) -> str:
        L, D, M = self.U.shape
        return f"D={D}, M={M}, L={L}, alpha={self.alpha:g}"


def _function_of(activation: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation must be a function or one of {known}; got {activation!r}")
    return ACTIVATIONS[activation]
