"""Covariance matrices of infinitely wide convolutional ResNets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from resnet_gp.flow.autograd import compiled_loops, same_values, widens_half
from resnet_gp.flow.convolution import on_torch
from resnet_gp.flow.convolution.network import ConvFlow, ConvNetwork, Cost
from resnet_gp.flow.domain import DomainError, check_variances

_ROWS = 8  # of blocks whose diagonals are used


@widens_half
def conv_covariance(
    x1: Tensor,
    x2: Tensor,
    network: ConvNetwork,
    weight_variance: Tensor,
    *,
    input_bias_variance: Tensor | None = None,
    block_bias_variance: Tensor | None = None,
    diag: bool = False,
) -> Tensor:
    """Covariance of the infinitely wide convolutional ResNet between two sets of images.

    On the CPU by compiled loops, in float64 whatever the dtype; where an image requires a gradient,
    without numba, and on other devices, by plain torch. An entry depends on its two images alone,
    to the bit in compiled loops.

    Args:
        x1, x2: flattened images, ``batch_shape x n x (channels height width)``.
        network: of these images.
        weight_variance: w, ``batch_shape x 1 x 1`` or a scalar.
        input_bias_variance, block_bias_variance: of the same shape; None for no bias.
        diag: only pairs of rows with the same number.

    Returns:
        ``batch_shape x n x m``, or ``batch_shape x n``, in the dtype to which those of the images
        and of w promote; differentiable once.

    Raises:
        ValueError: images of another size, or complex ones.
        DomainError: images that are not finite, or variances outside their domain.
    """
    same = same_values(x1, x2)
    dtype = torch.promote_types(*(torch.result_type(x, weight_variance) for x in (x1, x2)))
    if dtype.is_complex:
        raise ValueError("images must be real numbers")
    x1, x2 = x1.to(dtype), x2.to(dtype)
    for x in (x1, x2):
        if x.shape[-1] != network.features:
            raise ValueError(
                f"images of shape {network.image_shape} have {network.features} values each, got "
                f"inputs with {x.shape[-1]}"
            )
        if not bool(x.detach().isfinite().all()):
            raise DomainError("the images must be finite")
    names = "weight_variance", "input_bias_variance", "block_bias_variance"
    given = weight_variance, input_bias_variance, block_bias_variance
    check_variances(**dict(zip(names, given, strict=True)))
    zero = weight_variance.new_zeros(())
    variances = [zero if v is None else v[..., 0, 0] if v.dim() else v for v in given]
    batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2], *(v.shape for v in variances))
    shape = (*batch, x1.shape[-2]) if diag else (*batch, x1.shape[-2], x2.shape[-2])
    if math.prod(shape) == 0:
        return x1.new_zeros(shape) + 0 * sum(value.sum() for value in variances)
    one, two = (x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (x1, x2))
    own = [value.to(x1.device).expand(batch).flatten() for value in variances]
    flows = [ConvFlow(network, scalars) for scalars in zip(*own, strict=True)]
    pairs = [(x, x) for x in one] if same else zip(one, two, strict=True)
    compute = _diagonal if diag else _member
    found = [compute(flow, *pair) for flow, pair in zip(flows, pairs, strict=True)]
    return torch.stack(found).reshape(shape)


def covariance_cost(network: ConvNetwork, w: Tensor, bias: Tensor, n: int, m: int | None) -> Cost:
    """What a float64 matrix of n and m images takes on the CPU; RuntimeError without numba.

    ``w`` and ``bias`` are the variances of weights and of the blocks' biases; without m, the matrix
    is that of n images with themselves.
    """
    loops = compiled_loops("flow.convolution.on_numba", w.cpu())
    if loops is None:
        raise RuntimeError('the cost is that of compiled loops: pip install "resnet-gp[fast]"')
    variances = [w.detach(), torch.zeros(()), bias.detach()]
    cost: Cost = loops.cost(ConvFlow(network, variances), n, m)
    return cost


def _diagonal(flow: ConvFlow, x1: Tensor, x2: Tensor) -> Tensor:
    blocks = zip(x1.split(_ROWS), x2.split(_ROWS), strict=True)
    return torch.cat([_member(flow, *block).diagonal() for block in blocks])


def _member(flow: ConvFlow, x1: Tensor, x2: Tensor) -> Tensor:
    loops = compiled_loops("flow.convolution.on_numba", x1)
    with_gradients = torch.is_grad_enabled()
    if not with_gradients:  # derivatives would be computed with the matrix
        flow = flow._replace(variances=[value.detach() for value in flow.variances])
    if loops is not None and not (with_gradients and (x1.requires_grad or x2.requires_grad)):
        return _Compiled.apply(loops, flow.network, x1, x2, *flow.variances)
    flow = flow._replace(variances=[value.to(x1.dtype) for value in flow.variances])
    return on_torch.covariance(flow, x1, x2)


class _Compiled(Function):
    """Computes the derivatives in those variances that require them together with the matrix."""

    @staticmethod
    def forward(ctx: Any, loops: Any, network: ConvNetwork, *inputs: Any) -> Tensor:
        x1, x2, *variances = inputs
        ctx.parameters = [i for i, needed in enumerate(ctx.needs_input_grad[4:]) if needed]
        value, *derivatives = loops.covariance(ConvFlow(network, variances, ctx.parameters), x1, x2)
        ctx.save_for_backward(*derivatives)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = [None] * 3
        for number, derivative in zip(ctx.parameters, ctx.saved_tensors, strict=True):
            found[number] = (grad * derivative).sum()
        return (*[None] * 4, *found)
