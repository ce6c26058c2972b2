"""The convolutional flow on torch tensors: on any device, and differentiable in the images too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from resnet_gp.flow.convolution.network import BLOCK_BIAS, INPUT_BIAS, ConvFlow, ConvNetwork, W
from resnet_gp.flow.general import GaussianMoment

Speed = Callable[[int, Tensor], Tensor]  # of the stage and the state

_ENTRIES = {"cpu": 2**20, "cuda": 2**25}  # pairs of pixels at a time, if no gradient is wanted


def covariance(flow: ConvFlow, x1: Tensor, x2: Tensor) -> Tensor:
    """K of ``n x features`` and ``m x features`` flattened images, ``n x m``.

    Differentiable once in all tensors, and then with all stages of all pairs in memory.
    """
    network, rows = flow.network, len(x1)
    if not (torch.is_grad_enabled() and any(t.requires_grad for t in (x1, x2, *flow.variances))):
        pairs = len(x2) * (network.pixels**2 if network.average else network.pixels)
        rows = max(1, _ENTRIES.get(x1.device.type, _ENTRIES["cuda"]) // pairs)
    path2 = _path(flow, x2)
    return torch.cat([_covariance(flow, own, x2, path2) for own in x1.split(rows)])


def variance_path(flow: ConvFlow, x: Tensor) -> list[Tensor]:
    """q_t(a, a) at each stage, and its derivatives, ``(1 + parameters) x n x height x width``.

    The variances of the (leaky) ReLU family have a linear flow of their own.
    """
    network, (w, bias, block), parameters = flow
    start = _filtered(x.unflatten(-1, network.image_shape).square().mean(1), network)
    start = torch.stack(
        [start + bias, *(torch.full_like(start, i == INPUT_BIAS) for i in parameters)]
    )
    is_block = torch.tensor([i == BLOCK_BIAS for i in parameters], device=x.device).to(start)
    constant = torch.cat([block.reshape(1), is_block])[:, None, None, None]

    def speed(_: int, q: Tensor) -> Tensor:
        moments = w * network.linear * q
        for number, parameter in enumerate(parameters, start=1):
            if parameter == W:
                moments[number] += network.linear * q[0]
        return _filtered(moments, network) + constant

    return list(_states(flow, start, speed))[:-1]


def _path(flow: ConvFlow, x: Tensor) -> list[Tensor]:
    return [v[0].clamp(min=0) for v in variance_path(flow, x)]


def _covariance(flow: ConvFlow, x1: Tensor, x2: Tensor, path2: list[Tensor]) -> Tensor:
    network, (w, bias, block), _ = flow
    path1 = _path(flow, x1)
    one, two = (x.unflatten(-1, network.image_shape) for x in (x1, x2))
    if network.average:
        start = torch.einsum("ncyx,mcvu->nmyxvu", one, two)
        path1 = [v[:, None, :, :, None, None] for v in path1]
        path2 = [v[:, None, None] for v in path2]
    else:
        start = torch.einsum("ncyx,mcyx->nmyx", one, two)
        path1 = [v[:, None] for v in path1]

    def speed(stage: int, q: Tensor) -> Tensor:
        moment = GaussianMoment.apply(network.activation, path1[stage], path2[stage], q)
        return w * _filtered(moment, network) + block

    start = _filtered(start / network.image_shape[0], network) + bias
    (end,) = deque(_states(flow, start, speed), maxlen=1)
    return end.flatten(2).mean(-1)


def _states(flow: ConvFlow, state: Tensor, speed: Speed) -> Iterator[Tensor]:
    """The state at every stage of dq/dt = speed(stage, q), and then at the end."""
    stage = 0
    for own, combined in zip(*flow.steps, strict=True):
        slopes: list[Tensor] = []
        for factor, row in zip(own.tolist(), combined.tolist(), strict=True):
            inner = state * factor
            for coefficient, slope in zip(row, slopes, strict=False):
                if coefficient:
                    inner = inner + slope * coefficient
            if len(slopes) == len(row):
                state = inner
            else:
                yield inner
                slopes.append(speed(stage, inner))
                stage += 1
    yield state


def _filtered(field: Tensor, network: ConvNetwork) -> Tensor:
    """The mean over filters: of pairs of pixels, ``n x m x h x w x h x w``, or of single ones."""
    radius = network.radius
    for axes in ((-4, -2), (-3, -1)) if field.dim() == 6 else ((-2,), (-1,)):
        padded, size = field, field.shape[axes[0]]
        for axis in axes:
            padded = _padded(padded, axis, radius, network.circular)
        total = torch.zeros_like(field)
        for first in range(2 * radius + 1):
            part = padded
            for axis in axes:
                part = part.narrow(axis, first, size)
            total = total + part
        field = total
    return field / (2 * radius + 1) ** 2


def _padded(field: Tensor, axis: int, radius: int, circular: bool) -> Tensor:
    size = field.shape[axis]
    places = torch.arange(-radius, size + radius, device=field.device)
    inside = (places >= 0) & (places < size) | circular
    return field.index_select(axis, places % size) * inside.reshape(-1, *[1] * (-axis - 1))
