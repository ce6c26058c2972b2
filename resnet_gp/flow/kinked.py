"""The covariance of (leaky) ReLU with block bias on the CPU: ``general``'s schemes, compiled.

Where an activation has a kink the series of ``general_table`` converge too slowly, and pairs are
integrated one by one. Derivatives are integrated with them.
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
from resnet_gp.threads import in_threads, row_ranges


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
    found: Tensor = _KinkedCovariance.apply((activation, depth, symmetric), *tensors)
    return found


class _KinkedCovariance(FlowFunction):
    @staticmethod
    def forward(settings: Any, *tensors: Tensor) -> Tensor:
        activation, depth, symmetric = settings
        *_, covariance = tensors
        out = torch.zeros_like(covariance, memory_format=torch.contiguous_format)
        term = torch.empty_like(out[0])
        for index, (weight, compiled, pairs) in _terms(activation, depth, tensors):
            own = covariance[index].detach().contiguous().numpy()
            ranges = row_ranges(len(own), own.shape[1], symmetric)
            fill = functools.partial(compiled.matrix, *pairs, own, term.numpy(), symmetric)
            in_threads([functools.partial(fill, *rows) for rows in ranges])
            out[index].add_(term, alpha=weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradient = functools.partial(_gradient, *ctx.settings)
        return None, *Gradient.apply(gradient, *ctx.saved_tensors, grad)


def _gradient(settings: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    activation, depth, symmetric = settings
    *inputs, grad = tensors
    sums = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in inputs]
    by_weight, by_bias, by_variance1, by_variance2, by_covariance = sums
    covariance = inputs[-1]
    term = torch.zeros_like(by_covariance[0])
    for index, (weight, compiled, pairs) in _terms(activation, depth, inputs):
        own, seen = (x[index].detach().contiguous().numpy() for x in (covariance, grad))
        ranges = row_ranges(len(own), own.shape[1], symmetric)
        left = by_variance1.new_zeros(len(own))
        right, hyper = left.new_zeros(len(ranges), own.shape[1]), left.new_zeros(len(ranges), 2)
        gradient = functools.partial(compiled.matrix_gradient, *pairs, own, seen)
        parts = zip(right.numpy(), hyper.numpy(), ranges, strict=True)
        shared = (term.numpy(), left.numpy())
        tasks = [
            functools.partial(gradient, (*shared, *part), symmetric, *rows) for *part, rows in parts
        ]
        in_threads(tasks)
        by_covariance[index].add_(term, alpha=weight)
        by_variance1[index].add_(left, alpha=weight)
        by_variance2[index].add_(right.sum(0), alpha=weight)
        by_weight[index] += weight * hyper.sum(0)[0]
        by_bias[index] += weight * hyper.sum(0)[1]
    return tuple(sums)


def _terms(
    activation: LeakyReLU, depth: int | None, tensors: tuple[Tensor, ...] | list[Tensor]
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
