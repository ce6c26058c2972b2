"""The covariance of (leaky) ReLU with block bias on the CPU: ``general``'s schemes, compiled.

Where an activation has a kink the series of ``general_table`` converge too slowly, and pairs are
integrated one by one. Where a gradient is wanted, the derivatives of each entry are integrated with
it and kept, five numbers for an entry: the angles, which take most of the time, serve both.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_gp.activations import LeakyReLU
from resnet_gp.flow.autograd import FlowFunction, compiled_loops
from resnet_gp.flow.cells import Array
from resnet_gp.flow.general import Gradient, Scheme, direct_covariance, schemes
from resnet_gp.threads import PIECES, in_threads, row_ranges


def kinked_covariance(
    activation: LeakyReLU,
    weight_variance: Tensor,
    block_bias_variance: Tensor,
    depth: int | None,
    variance1: Tensor,
    variance2: Tensor,
    covariance: Tensor,
    symmetric: bool,
) -> Tensor:
    """As ``direct_covariance``, which is used for single pairs and where no loops are compiled."""
    tensors = (weight_variance, block_bias_variance, variance1, variance2, covariance)
    if covariance.dim() == 2 or compiled_loops("flow.compiled_steps", covariance) is None:
        hyperparameters, inputs = tensors[:2], tensors[2:]
        return direct_covariance(activation, *hyperparameters, depth, *inputs, symmetric)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    found: Tensor = _KinkedCovariance.apply((activation, depth, symmetric), wanted, *tensors)[0]
    return found


class _KinkedCovariance(FlowFunction):
    """The covariance, and its partial derivatives where they are wanted."""

    @staticmethod
    def forward(settings: Any, wanted: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return _integrated(settings, wanted, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.settings, _, *tensors = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        gradient = functools.partial(_gradient, ctx.settings)
        return None, None, *Gradient.apply(gradient, *ctx.saved_tensors, grad)


def _gradient(settings: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The chain rule, from the inputs of ``kinked_covariance``, the partials and a gradient."""
    *inputs, partials, grad = tensors
    if not len(partials):  # nobody said that they would be wanted
        partials = _integrated(settings, True, *inputs)[1]
    symmetric = settings[2]
    if symmetric:  # a partial above the diagonal also serves the entry below
        grad = grad + grad.mT - torch.diag_embed(grad.diagonal(dim1=-2, dim2=-1))
    by_variance1, by_variance2, by_covariance, by_weight, by_bias = partials * grad
    return (
        by_weight.sum((-2, -1)), by_bias.sum((-2, -1)),
        by_variance1.sum(-1), by_variance2.sum(-2), by_covariance,
    )  # fmt: skip


def _integrated(settings: Any, with_partials: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
    """The covariance, ``b x n x m``, and its partials, ``5 x b x n x m``, or ``0 x b x n x m``."""
    activation, depth, symmetric = settings
    *_, covariance = tensors
    out = torch.zeros_like(covariance, memory_format=torch.contiguous_format)
    partials = out.new_zeros(5 if with_partials else 0, *out.shape)
    term, terms = torch.empty_like(out[0]), torch.zeros_like(partials[:, 0])
    for index, (weight, compiled, pairs) in _terms(activation, depth, tensors):
        own = covariance[index].detach().contiguous().numpy()
        ranges = row_ranges(len(own), own.shape[1], symmetric, PIECES)
        others = terms.numpy() if with_partials else None
        fill = functools.partial(compiled.matrix, *pairs, own, term.numpy(), others, symmetric)
        in_threads([functools.partial(fill, *rows) for rows in ranges])
        out[index].add_(term, alpha=weight)
        partials[:, index].add_(terms, alpha=weight)
    return out, partials


def _terms(
    activation: LeakyReLU, depth: int | None, tensors: tuple[Tensor, ...]
) -> Iterator[tuple[int, tuple[float, ModuleType, tuple[Any, ...]]]]:
    """For each member of a batch, the terms of its sum: weights and arguments of the loops."""
    weight_variance, bias, variance1, variance2, covariance = (x.detach() for x in tensors)
    compiled = compiled_loops("flow.compiled_steps", covariance)
    assert compiled is not None
    slope = activation.negative_slope
    moment = (1 + slope**2) / 2, (1 - slope) ** 2 / (2 * np.pi)
    for index, (w, b) in enumerate(zip(weight_variance.tolist(), bias.tolist(), strict=True)):
        for weight, scheme in schemes(activation, w, depth):
            network, arrays = (w, b, *moment), _arrays(scheme)
            path = np.empty((2, len(scheme.rates), 4))
            for variance in (0, 1):
                compiled.path(network, arrays, float(variance), path[variance])
            sides = [_side(path, x[index].numpy()) for x in (variance1, variance2)]
            left = np.ascontiguousarray(sides[0].transpose(2, 0, 1))
            padding = -sides[1].shape[2] % compiled.BLOCK
            right = np.pad(sides[1], [(0, 0), (0, 0), (0, padding)])
            yield index, (weight, compiled, (network, arrays, left, right))


@functools.lru_cache(maxsize=64)
def _arrays(scheme: Scheme) -> tuple[Any, ...]:
    """``scheme`` of ``compiled_steps``."""
    count = len(scheme.stages)
    stages = np.zeros((count, count))
    for k, row in enumerate(scheme.stages):
        stages[k, : len(row)] = row
    return scheme.steps, stages, np.array(scheme.weights), np.array(scheme.rates)


def _side(path: Array, variance: Array) -> Array:
    """Roots, reciprocal roots and relative derivatives along the paths of variances, ``S x 5 x n``.

    Args:
        path: that of the variances 0 and 1, in which all others are linear.
        variance: ``n``.
    """
    own = path[0, :, :, None] + (path[1] - path[0])[:, :, None] * variance
    q = own[:, :1]
    inverse = np.divide(1, q, out=np.zeros_like(q), where=q > 0)
    parts = [np.sqrt(q), np.sqrt(inverse), own[:, 1:] * inverse]
    return np.concatenate(parts, axis=1, dtype=variance.dtype)
