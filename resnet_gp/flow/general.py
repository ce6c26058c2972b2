"""The covariance ODE of any activation, pair by pair: the reference for ``general_table``.

    dq_t(a, b)/dt = w E[phi(u) phi(v)] + sigma_b^2,     state (q_aa, q_bb, q_ab),

and at depth L its explicit Euler scheme with L steps. Steps are fixed by the hyperparameters: an
entry never depends on the others in the call.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from resnet_gp.activations import GELU, AnyActivation, ClosedForm, LeakyReLU, Moments
from resnet_gp.flow.autograd import FlowFunction
from resnet_gp.flow.depth import checked_depth
from resnet_gp.threads import in_threads

#: Up to this depth the recursion is run as it is.
RECURSION_DEPTH = 512
# Deeper networks are extrapolated in 1/L from the limit and these depths.
_COARSE_DEPTHS = (64, 96, 128, 192, 256, 384, 512)
_POWERS = (0, 1, 2, 3, 4, 5, 6, 7)
_KINKED_POWERS = (0, 1, 2, 2.5, 3, 3.5, 4, 4.5)  # of angles that leave pi like sqrt(t)
_TILE = {"cpu": 2**15, "cuda": 2**22}  # entries; each thread works on one tile

Speed: TypeAlias = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Scheme:
    """An explicit Runge-Kutta method with equal steps in a time s, where dt = ``rates`` ds.

    ``rates`` has one value for each stage of each step.
    """

    steps: int
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    rates: tuple[float, ...]


@functools.lru_cache(maxsize=64)
def euler(depth: int) -> Scheme:
    """The scheme that is the recursion of ``depth`` blocks."""
    return Scheme(depth, ((),), (1.0,), (1.0,) * depth)


@functools.lru_cache(maxsize=64)
def dormand_prince(steps: int, power: int = 1) -> Scheme:
    """Order 8 in s = t^(1 / power); powers above 1 are for solutions like sqrt(t) at t = 0."""
    from scipy.integrate import DOP853  # slow to import

    stages = tuple(tuple(map(float, row[:i])) for i, row in enumerate(DOP853.A[:12, :12]))
    rates = tuple(
        power * ((step + float(node)) / steps) ** (power - 1)
        for step in range(steps)
        for node in DOP853.C[:12]
    )
    return Scheme(steps, stages, tuple(map(float, DOP853.B)), rates)


def schemes(
    activation: AnyActivation, weight_variance: float, depth: int | None
) -> list[tuple[float, Scheme]]:
    """The schemes whose results, with these weights, add up to the covariance.

    Raises:
        ValueError: the depth is not None and not a whole number from 1 to MAX_DEPTH.
    """
    depth = checked_depth(depth)
    if depth is not None and depth <= RECURSION_DEPTH:
        return [(1.0, euler(depth))]
    growth = weight_variance * activation.steepness
    # Enough for 1e-10 on the stored solutions of the tests, and to extrapolate to a depth 1e-12.
    finer = 1.0 if depth is None else 1.5
    if isinstance(activation, LeakyReLU):  # moves angles like sqrt(t) away from pi
        limit = dormand_prince(math.ceil(finer * (4 + 4.5 * growth)), power=4)
    elif isinstance(activation, GELU):  # like ReLU at large variances, and smooth
        limit = dormand_prince(math.ceil(finer * (3 + 2 * growth)), power=2)
    else:
        limit = dormand_prince(math.ceil(finer * (4 + 2 * growth)))
    if depth is None:
        return [(1.0, limit)]
    coarse = [int(d * max(1.0, growth / 5)) for d in _COARSE_DEPTHS]
    powers = _KINKED_POWERS if isinstance(activation, LeakyReLU) else _POWERS
    weights = _extrapolation([0.0, *(1 / d for d in coarse)], 1 / depth, powers)
    return list(zip(weights, [limit, *(euler(d) for d in coarse)], strict=True))


def _extrapolation(points: Sequence[float], x: float, powers: Sequence[float]) -> list[float]:
    """Weights that extrapolate from ``points`` to x, exactly for all ``powers``."""
    exponents = np.array(powers)[:, None]
    weights = np.linalg.solve(np.array(points) ** exponents, x ** exponents[:, 0])
    return [float(weight) for weight in weights]


class GaussianMoment(FlowFunction):
    """``Moments.moment``, differentiable once."""

    @staticmethod
    def forward(
        moments: Moments, variance1: Tensor, variance2: Tensor, covariance: Tensor
    ) -> Tensor:
        return moments.moment(variance1, variance2, covariance)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (moments,) = ctx.settings
        saved = ctx.saved_tensors  # a checkpoint gives them once
        pairs = zip(Gradient.apply(moments.partials, *saved), saved, strict=True)
        return None, *((grad * partial).sum_to_size(own.shape) for partial, own in pairs)


class Gradient(FlowFunction):
    """``function(*tensors)``, the derivatives of a covariance; second derivatives raise."""

    @staticmethod
    def forward(
        function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        return function(*tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        members = [
            Gradient.apply(
                *(
                    x if dim is None else x.select(dim, index)
                    for x, dim in zip(inputs, in_dims, strict=True)
                )
            )
            for index in range(info.batch_size)
        ]
        outputs = tuple(torch.stack(one) for one in zip(*members, strict=True))
        return outputs, (0,) * len(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            "second derivatives of the general covariance are not implemented; they are for the "
            "(leaky) ReLU family without block bias"
        )


def states(scheme: Scheme, start: Tensor, speed: Speed) -> Iterator[Tensor]:
    """The state at every stage of dq/dt = speed(stage, q), and then at the end."""
    state, stage, size = start, 0, 1 / scheme.steps
    for _ in range(scheme.steps):
        slopes: list[Tensor] = []
        for row in scheme.stages:
            inner = _combine(state, row, slopes, size)
            yield inner
            slope = speed(stage, inner)
            slopes.append(slope if scheme.rates[stage] == 1 else slope * scheme.rates[stage])
            stage += 1
        state = _combine(state, scheme.weights, slopes, size)
    yield state


def last_state(scheme: Scheme, start: Tensor, speed: Speed) -> Tensor:
    """The state at the end; the others are not kept."""
    (state,) = deque(states(scheme, start, speed), maxlen=1)
    return state


def _combine(state: Tensor, row: tuple[float, ...], slopes: list[Tensor], size: float) -> Tensor:
    for coefficient, slope in zip(row, slopes, strict=True):
        if coefficient:
            state = torch.add(state, slope, alpha=coefficient * size)
    return state


def variance_path(
    moments: Moments,
    scheme: Scheme,
    variance: Tensor,
    weight_variance: Tensor,
    block_bias_variance: Tensor,
) -> Tensor:
    """q_t(a, a) of inputs, any shape, at every stage and at the end: ``(stages + 1) x shape``."""

    def speed(_: int, q: Tensor) -> Tensor:
        return weight_variance * GaussianMoment.apply(moments, q, q, q) + block_bias_variance

    return torch.stack(list(states(scheme, variance, speed)))


def pair_covariance(
    moments: Moments,
    scheme: Scheme,
    path1: Tensor,
    path2: Tensor,
    covariance: Tensor,
    weight_variance: Tensor,
    block_bias_variance: Tensor,
) -> Tensor:
    """q_1(a, b) from q_0(a, b) and two paths of variances, which broadcast with it."""

    def speed(stage: int, q: Tensor) -> Tensor:
        rate = GaussianMoment.apply(moments, path1[stage], path2[stage], q)
        return weight_variance * rate + block_bias_variance

    return last_state(scheme, covariance, speed)


def direct_covariance(
    activation: ClosedForm,
    weight_variance: Tensor,
    block_bias_variance: Tensor,
    depth: int | None,
    variance1: Tensor,
    variance2: Tensor,
    covariance: Tensor,
    symmetric: bool,
) -> Tensor:
    """q_1 of a batch of matrices of pairs, or of single pairs, by the schemes themselves.

    Args:
        activation: one with closed moments.
        weight_variance: w, ``b``.
        block_bias_variance: sigma_b^2, ``b``.
        depth: None for the limit.
        variance1: q_0(a, a), ``b x n``.
        variance2: q_0(b, b), ``b x m``.
        covariance: q_0(a, b), ``b x n x m``; or ``b x n`` (single pairs), with ``n == m``.
        symmetric: the two sets of inputs are the same, so that half of the matrix is computed.

    Returns:
        The shape of ``covariance``. Differentiable once in all tensors.
    """
    batch = (weight_variance, block_bias_variance, variance1, variance2, covariance)
    found, places = [], []
    for terms, members in _equal_schemes(activation, weight_variance, depth):
        own = (tensor[members] for tensor in batch)
        found.append(_direct_covariance(activation, terms, symmetric, *own))
        places.append(members)
    return torch.cat(found)[torch.cat(places).argsort()]


def _equal_schemes(
    activation: AnyActivation, weight_variance: Tensor, depth: int | None
) -> list[tuple[list[tuple[float, Scheme]], Tensor]]:
    """Group the members of a batch that have the same schemes."""
    groups: list[tuple[list[tuple[float, Scheme]], list[int]]] = []
    for index, w in enumerate(weight_variance.detach().tolist()):
        terms = schemes(activation, w, depth)
        for known, members in groups:
            if terms == known:
                members.append(index)
                break
        else:
            groups.append((terms, [index]))
    device = weight_variance.device
    return [(terms, torch.tensor(members, device=device)) for terms, members in groups]


def _direct_covariance(
    activation: ClosedForm,
    terms: list[tuple[float, Scheme]],
    symmetric: bool,
    weight_variance: Tensor,
    block_bias_variance: Tensor,
    variance1: Tensor,
    variance2: Tensor,
    covariance: Tensor,
) -> Tensor:
    own = (weight_variance[:, None], block_bias_variance[:, None])
    total = torch.zeros_like(covariance)
    for weight, scheme in terms:
        path1 = variance_path(activation, scheme, variance1, *own)
        path2 = path1 if symmetric else variance_path(activation, scheme, variance2, *own)
        if covariance.dim() == 2:
            end = pair_covariance(activation, scheme, path1, path2, covariance, *own)
        else:
            settings = (activation, scheme, symmetric)
            arguments = (value[..., None] for value in own)
            end = _DirectCovariance.apply(settings, path1, path2, covariance, *arguments)
        total = total + weight * end
    return total


def mirror(block: Tensor) -> None:
    """Make the square at the left end of a block symmetric to the bit."""
    square = block[..., : block.shape[-2]]
    square.copy_(square.triu() + square.triu(1).mT)


def tiles(matrices: Tensor, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows and columns; with ``symmetric``, none below the diagonal."""
    batch, rows, columns = matrices.shape
    size = _TILE.get(matrices.device.type, _TILE["cuda"]) // max(1, batch)
    first = 0
    while first < rows:
        begin = first if symmetric else 0
        count = max(1, size // max(1, columns - begin))
        yield slice(first, first + count), slice(begin, columns)
        first += count


class _DirectCovariance(FlowFunction):
    """``pair_covariance`` in tiles, recomputed for the gradient."""

    @staticmethod
    def forward(settings: Any, *inputs: Tensor) -> Tensor:
        activation, scheme, symmetric = settings
        path1, path2, covariance, *arguments = inputs
        out = torch.empty_like(covariance)

        @torch.no_grad()  # which is set per thread
        def fill(rows: slice, columns: slice) -> None:
            block = pair_covariance(
                activation,
                scheme,
                path1[:, :, rows, None],
                path2[:, :, None, columns],
                covariance[:, rows, columns],
                *arguments,
            )
            if symmetric:
                mirror(block)
            out[:, rows, columns] = block
            if symmetric:
                out[:, columns, rows] = block.mT

        blocks = tiles(covariance, symmetric)
        in_threads([functools.partial(fill, *block) for block in blocks])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradient = functools.partial(_direct_gradient, *ctx.settings)
        return None, *Gradient.apply(gradient, *ctx.saved_tensors, grad)


def _direct_gradient(settings: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    activation, scheme, _ = settings
    *inputs, grad = tensors
    path1, path2, covariance, *arguments = inputs
    sums = [torch.zeros_like(tensor) for tensor in inputs]
    for rows, columns in tiles(covariance, symmetric=False):
        with torch.enable_grad():
            own = [
                tensor.detach().clone().requires_grad_()
                for tensor in (path1[:, :, rows], path2, covariance[:, rows], *arguments)
            ]
            block = pair_covariance(
                activation, scheme, own[0][..., None], own[1][:, :, None, columns], *own[2:]
            )
        found = torch.autograd.grad(block, own, grad[:, rows])
        sums[0][:, :, rows] = found[0]
        sums[1] += found[1]
        sums[2][:, rows] = found[2]
        sums[3] += found[3]
        sums[4] += found[4]
    return tuple(sums)
