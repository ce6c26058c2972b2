"""The convolutional flow on torch tensors: on any device, and differentiable in the images too."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_gp.flow.convolution.network import ConvNetwork
from resnet_gp.flow.general import GaussianMoment, last_state, states

_ENTRIES = {"cpu": 2**20, "cuda": 2**25}  # pairs of pixels at a time, if no gradient is wanted


def covariance(
    network: ConvNetwork, images1: Tensor, images2: Tensor, w: Tensor, bias: Tensor, block: Tensor
) -> Tensor:
    """K of ``n x features`` and ``m x features`` flattened images, ``n x m``.

    Differentiable once in all tensors, and then with all stages of all pairs in memory.

    Args:
        w, bias, block: variances of weights, the input's bias and the blocks' biases, scalars.
    """
    if torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (images1, images2, w, bias, block)
    ):
        return _covariance(network, images1, images2, w, bias, block)
    pairs = network.pixels**2 if network.average else network.pixels
    count = max(1, _ENTRIES.get(images1.device.type, _ENTRIES["cuda"]) // pairs)
    columns = min(count, len(images2))
    rows = max(1, count // columns)
    return torch.cat(
        [
            torch.cat(
                [_covariance(network, own, other, w, bias, block) for other in images2.split(columns)],
                1,
            )
            for own in images1.split(rows)
        ]
    )  # fmt: skip


def _covariance(
    network: ConvNetwork, images1: Tensor, images2: Tensor, w: Tensor, bias: Tensor, block: Tensor
) -> Tensor:
    scheme = network.scheme(float(w.detach()))
    linear = (1 + network.activation.negative_slope**2) / 2

    def path(x: Tensor) -> list[Tensor]:
        """q_t(a, a) at each stage, ``n x height x width``."""
        start = _filtered(x.square().mean(1), network) + bias
        return list(states(scheme, start, lambda _, v: w * _filtered(linear * v, network) + block))

    x1, x2 = (images.unflatten(-1, network.image_shape) for images in (images1, images2))
    if network.average:
        products = torch.einsum("ncyx,mcvu->nmyxvu", x1, x2) / x1.shape[1]
        shape1, shape2 = (len(x1), 1, *x1.shape[-2:], 1, 1), (1, len(x2), 1, 1, *x2.shape[-2:])
    else:
        products = torch.einsum("ncyx,mcyx->nmyx", x1, x2) / x1.shape[1]
        shape1, shape2 = (len(x1), 1, *x1.shape[-2:]), (1, len(x2), *x2.shape[-2:])
    path1 = [v.clamp(min=0).reshape(shape1) for v in path(x1)]
    path2 = [v.clamp(min=0).reshape(shape2) for v in path(x2)]

    def speed(stage: int, q: Tensor) -> Tensor:
        moment = GaussianMoment.apply(network.activation, path1[stage], path2[stage], q)
        return w * _filtered(moment, network) + block

    end = last_state(scheme, _filtered(products, network) + bias, speed)
    return end.flatten(2).mean(-1)


def _filtered(field: Tensor, network: ConvNetwork) -> Tensor:
    """The mean over filters, at one pixel of both images or at pairs of pixels."""
    radius = network.radius
    for axes in ((-4, -2), (-3, -1)) if field.dim() == 6 else ((-2,), (-1,)):
        shifted = []
        for shift in range(-radius, radius + 1):
            if network.circular:
                shifted.append(field.roll([shift] * len(axes), axes))
            else:
                shifted.append(_shifted(field, shift, axes))
        field = torch.stack(shifted).sum(0)
    return field / (2 * radius + 1) ** 2


def _shifted(field: Tensor, shift: int, axes: tuple[int, ...]) -> Tensor:
    """As ``roll``, with zeros where nothing moves to."""
    padding = [0] * (2 * -min(axes))
    for axis in axes:
        size = field.shape[axis]
        kept = max(0, size - abs(shift))
        field = field.narrow(axis, min(size, max(0, -shift)), kept)
        place = 2 * (-axis - 1)
        padding[place], padding[place + 1] = (
            (size - kept, 0) if shift > 0 else (0, size - kept)
        )  # before, after
    return torch.nn.functional.pad(field, padding)
