r"""The lazy limit: ResNets whose blocks are linear in the displacements of their parameters.

As alpha grows (Chizat 2025), displacements of order 1/alpha suffice, and blocks tend to their
linearisation at initialisation. With A = alpha (U - U0) / D and B = alpha (V - V0) / (LM),

    h^l = h^{l-1} + B rho(U0' h / D) + V0 / (LM) [rho'(U0' h / D) * (A' h)],

trained at the rates LM/D for A and D/(LM) for B. V0 rho(U0' h / D) is left out: its mean is zero.
Each block is a kernel machine: a step moves it by -sum_n k(h, h_n) p_n for states h_n and adjoints
p_n, with k(h, h') = D E[rho(u) rho(u')] + E[rho'(u) rho'(u')] h.h' and (u, u') = U0' (h, h') / D.
"""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_gp.mean_ode.training import Networks, add_products, loss_gradient


class LinearisedSweep:
    """Forward and backward passes of linearised networks; their ``alpha`` is ignored."""

    def __init__(self, networks: Networks) -> None:
        L, B, D, M = networks.U.shape
        N = networks.X.shape[1]
        self.networks = networks
        self.P, self.Q = networks.U / D, networks.V / (L * M)
        self.A, self.B = torch.zeros_like(self.P), torch.zeros_like(self.Q)
        new = networks.U.new_empty
        self.states, self.adjoints = new(L + 1, B, N, D), new(L + 1, B, N, D)
        self.hidden, self.tilts, self.sensitivities = (new(L, B, N, M) for _ in range(3))
        self.states[0] = networks.X

    def forward(self) -> Tensor:
        """The output h^L, ``B x N x D``."""
        for layer in range(len(self.P)):
            before, after = self.states[layer], self.states[layer + 1]
            hidden, tilt = self.hidden[layer], self.tilts[layer]
            torch.bmm(before, self.P[layer], out=hidden).tanh_()
            torch.bmm(before, self.A[layer], out=tilt)
            torch.baddbmm(before, hidden, self.B[layer].mT, out=after)
            after.baddbmm_(_slope(hidden) * tilt, self.Q[layer].mT)
        return self.states[-1]

    def descend(self) -> None:
        """Take one gradient step in all layers."""
        self._backward()
        L, _, D, M = self.P.shape
        add_products(self.A, self.states[:-1], self.sensitivities.mul_(-L * M / D))
        add_products(self.B, self.adjoints[1:], self.hidden.mul_(-D / (L * M)))

    def _backward(self) -> None:
        """Compute derivatives of the loss in the states, and in the tilts A' h."""
        self.adjoints[-1] = loss_gradient(self.states[-1], self.networks.Y)
        for layer in reversed(range(len(self.P))):
            after, before = self.adjoints[layer + 1], self.adjoints[layer]
            hidden, slope = self.hidden[layer], _slope(self.hidden[layer])
            back = torch.bmm(after, self.Q[layer])
            inner = torch.bmm(after, self.B[layer]) - 2 * hidden * self.tilts[layer] * back
            sensitivity = torch.mul(back, slope, out=self.sensitivities[layer])
            torch.baddbmm(after, inner * slope, self.P[layer].mT, out=before)
            before.baddbmm_(sensitivity, self.A[layer].mT)

    def displacements(self) -> tuple[Tensor, Tensor]:
        """alpha (U - U0) and alpha (V - V0)."""
        L, _, D, M = self.P.shape
        return self.A * D, self.B * (L * M)


def _slope(hidden: Tensor) -> Tensor:
    """Derivative of tanh at the value ``hidden`` of tanh."""
    return 1 - hidden.square()
