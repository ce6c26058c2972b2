"""Full-batch gradient descent on many deep ResNets at once, without a graph over depth.

Networks are those of ``ResidualMLP`` with tanh; steps descend (1/2ND) sum |h^L - y|^2 at the rates
of ``scales``. P = U / D and Q = alpha V / (LM) hold the scales, which saves two products a layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from resnet_gp.mean_ode import scales

SLAB = 2**20  # bytes of adjoints and sensitivities kept at a time, so that they stay in cache


@dataclass(frozen=True)
class Networks:
    """B networks of L blocks at initialisation, and the data of each.

    Args:
        U, V: ``L x B x D x M``.
        X, Y: inputs and targets, ``B x N x D``.
        alpha: ``B``.
    """

    U: Tensor
    V: Tensor
    X: Tensor
    Y: Tensor
    alpha: Tensor

    @property
    def prefactor(self) -> Tensor:
        """alpha / (LM), ``B x 1 x 1``."""
        L, _, _, M = self.U.shape
        return self.alpha[:, None, None] / (L * M)


@dataclass(frozen=True)
class Trained:
    """Networks after training.

    Args:
        output: h^L after the last step, ``B x N x D``.
        losses: (1/ND) sum |h^L - y|^2 before each step and after the last, ``(K + 1) x B``.
        displacement_U, displacement_V: alpha (U - U at the start), ``L x B x D x M``, and of V.
    """

    output: Tensor
    losses: Tensor
    displacement_U: Tensor
    displacement_V: Tensor


class Sweep(Protocol):
    """Forward and backward passes of a batch of networks, and its gradient steps."""

    def __init__(self, networks: Networks) -> None: ...
    def forward(self) -> Tensor: ...
    def descend(self) -> None: ...
    def displacements(self) -> tuple[Tensor, Tensor]: ...


class NetworkSweep:
    """Forward and backward passes of the networks.

    A slab of layers takes its step as soon as the backward pass has left it, so that adjoints are
    kept for one slab only.
    """

    def __init__(self, networks: Networks) -> None:
        L, B, D, M = networks.U.shape
        N = networks.X.shape[1]
        self.networks = networks
        self.P = networks.U / D
        self.Q = networks.V * networks.prefactor
        rate_U, rate_V = scales.learning_rates(networks.alpha, D, M, L)
        self.rate_P = -rate_U[:, None, None] / D**2
        self.rate_Q = -rate_V[:, None, None] * networks.prefactor.square()
        new = networks.U.new_empty
        depth = min(L, max(1, SLAB // (networks.U.element_size() * B * N * (D + M))))
        self.states, self.adjoints = new(L + 1, B, N, D), new(depth + 1, B, N, D)
        self.hidden, self.sensitivities = new(L, B, N, M), new(depth, B, N, M)
        self.product = new(B, N, M)
        self.states[0] = networks.X
        self._view_layers(depth)

    def _view_layers(self, depth: int) -> None:
        """Make views of each layer's arrays once: in small networks, indexing is half the work."""
        L = len(self.P)
        states, adjoints = self.states.unbind(), self.adjoints.unbind()
        up = (states[:-1], states[1:], self.hidden.unbind(), self.P.unbind(), self.Q.mT.unbind())
        self.upward = list(zip(*up, strict=True))
        self.slabs = [slice(max(0, end - depth), end) for end in range(L, 0, -depth)]
        self.downward = []
        for slab in self.slabs:
            count = slab.stop - slab.start
            down = (
                adjoints[1 : count + 1],
                adjoints[:count],
                self.sensitivities[:count].unbind(),
                self.P[slab].mT.unbind(),
                self.Q[slab].unbind(),
            )
            self.downward.append(list(zip(*down, strict=True))[::-1])

    def forward(self) -> Tensor:
        """The output h^L, ``B x N x D``."""
        for before, after, hidden, P, Q_transposed in self.upward:
            torch.bmm(before, P, out=hidden).tanh_()
            torch.baddbmm(before, hidden, Q_transposed, out=after)
        return self.states[-1]

    def descend(self) -> None:
        """Take one gradient step in all layers, slab by slab from the output down."""
        adjoint = loss_gradient(self.states[-1], self.networks.Y)
        for slab, layers in zip(self.slabs, self.downward, strict=True):
            self.adjoints[len(layers)] = adjoint
            self._backward(self.hidden[slab], layers)
            self._step(slab)
            adjoint = self.adjoints[0]

    def _backward(self, hidden: Tensor, layers: Iterable[tuple[Tensor, ...]]) -> None:
        """Compute derivatives of the loss in the states, and in the hidden units before tanh."""
        torch.mul(hidden, hidden, out=self.sensitivities[: len(hidden)]).neg_().add_(1)
        for after, before, sensitivity, P_transposed, Q in layers:
            sensitivity.mul_(torch.bmm(after, Q, out=self.product))
            torch.baddbmm(after, sensitivity, P_transposed, out=before)

    def _step(self, slab: slice) -> None:
        count = slab.stop - slab.start
        sensitivities, hidden = self.sensitivities[:count], self.hidden[slab]
        add_products(self.P[slab], self.states[slab], sensitivities.mul_(self.rate_P))
        add_products(self.Q[slab], self.adjoints[1 : count + 1], hidden.mul_(self.rate_Q))

    def displacements(self) -> tuple[Tensor, Tensor]:
        """alpha (U - U at the start), and the same for V; overwrites the weights."""
        networks, D = self.networks, self.P.shape[2]
        alpha = networks.alpha[:, None, None]
        return (
            self.P.mul_(D).sub_(networks.U).mul_(alpha),
            self.Q.div_(networks.prefactor).sub_(networks.V).mul_(alpha),
        )


def loss_gradient(output: Tensor, Y: Tensor) -> Tensor:
    """Gradient of (1/2ND) sum |output - Y|^2 in the output, ``B x N x D``."""
    return (output - Y).div_(Y.shape[1] * Y.shape[2])


def add_products(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left' right to target, for all layers and networks at once."""
    target.flatten(0, 1).baddbmm_(left.flatten(0, 1).mT, right.flatten(0, 1))


def train(networks: Networks, steps: int, sweep: type[Sweep] = NetworkSweep) -> Trained:
    """Train networks by gradient descent.

    Memory: four arrays of the size of U (including U and V at the start), one of ``L x B x N x D``
    and one of ``L x B x N x M``.
    """
    passes = sweep(networks)
    losses = []
    for step in range(steps + 1):
        output = passes.forward()
        losses.append((output - networks.Y).square().mean((1, 2)))
        if step < steps:
            passes.descend()
    return Trained(output.clone(), torch.stack(losses), *passes.displacements())
