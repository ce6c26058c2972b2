"""The residual network of the theory, as a torch module."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from resnet_gp.activations import AnyActivation
from resnet_gp.mean_ode import scales
from resnet_gp.networks.laws import Function, function_of


class ResidualMLP(nn.Module):
    r"""L residual blocks of M hidden units on a stream of D numbers.

    h^l = h^{l-1} + alpha/(LM) V^l rho(U^l' h^{l-1} / D), where entries of U and V start as N(0, D)
    (Chizat 2025, arXiv 2509.10167).

    Args:
        D: embedding dimension.
        M: hidden units of a block; the limit L to infinity is the same for every M.
        L: blocks.
        alpha: a factor that multiplies the scale.
        activation: rho, as in ``resnet_gp.networks.Network``: a name, an activation or a function.
        scale: the residual scale: "complete" for the critical sqrt(D)/(LM); "lazy" for (LM)^(1/4)
            times that, where the network is closest to its lazy limit; or a number.
        generator: of the initial U and V.

    Attributes:
        U, V: parameters, ``L x D x M``.
        alpha: alpha of the equation above: that of the scale times the argument.

    Raises:
        ValueError: a size, alpha or the scale is not positive, or a name is unknown.
    """

    def __init__(
        self,
        D: int,
        M: int,
        L: int,
        alpha: float = 1.0,
        activation: str | AnyActivation | Function = "tanh",
        scale: scales.Scale | float = "complete",
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        scales.check_sizes(D, M, L)
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be positive and finite, got {alpha!r}")
        self.activation = function_of(activation)
        self.alpha = alpha * scales.alpha_of(scale, D, M, L)
        self.U, self.V = (
            nn.Parameter(torch.randn(L, D, M, generator=generator) * math.sqrt(D)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return h^L for inputs x, both ``... x D``."""
        return self.states(x)[-1]

    def states(self, x: Tensor) -> list[Tensor]:
        """Return h^0 = x, ..., h^L, each ``... x D``."""
        L, D, M = self.U.shape
        states = [x]
        for U, V in zip(self.U / D, self.V * (self.alpha / (L * M)), strict=True):
            states.append(states[-1] + self.activation(states[-1] @ U) @ V.mT)
        return states

    def parameter_groups(self, lr: float = 1.0) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimiser without momentum.

        The rates are those of ``scales.learning_rates`` times ``lr``; the paper has lr = 1 and the
        loss mean(|h - y|^2) / 2.
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
