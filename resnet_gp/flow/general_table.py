"""Chebyshev tables of the general covariance: k as a function of q_0(a,a), q_0(b,b) and the angle.

The derivatives of k have tables of their own, so that nothing is divided by sin(theta).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from resnet_gp.activations import Activation, AnyActivation, LeakyReLU, Moments, Sine
from resnet_gp.flow.autograd import FlowFunction, compiled_loops
from resnet_gp.flow.cells import (
    LANES,
    TINY,
    Array,
    Pair,
    TableGrid,
    add_mirrored,
    fit_tables,
    present_cells,
    present_pairs,
    single_pairs,
)
from resnet_gp.flow.general import (
    Gradient,
    Scheme,
    direct_covariance,
    last_state,
    mirror,
    pair_covariance,
    schemes,
    states,
    variance_path,
)
from resnet_gp.flow.moment_table import TabulatedMoments
from resnet_gp.threads import PIECES, in_threads, row_ranges

_TOLERANCE = {torch.float64: 2e-11, torch.float32: 1e-8}
_COARSER = 10  # times the tolerance, where moments are tabulated or oscillate
_FINER = 0.3  # times the tolerance for ReLU: many slowly decreasing coefficients are left out
_SLOPES = 100  # times the tolerance, for the derivatives
_SINE_TABLES_UP_TO = 64.0
_KINKED_SLOPES = 10_000  # the same for ReLU, whose angle leaves pi like sqrt(t)


class Network(NamedTuple):
    """The network of a table."""

    activation: AnyActivation
    weight_variance: float
    block_bias_variance: float
    depth: int | None


def moments_of(activation: AnyActivation) -> Moments:
    """Return closed moments if there are any, else tabulated ones."""
    return TabulatedMoments(activation) if isinstance(activation, Activation) else activation


@functools.lru_cache(maxsize=64)
def covariance_grid(
    network: Network,
    cells1: tuple[int, ...],
    cells2: tuple[int, ...],
    slopes: bool,
    dtype: torch.dtype,
) -> TableGrid:
    """The tables of all pairs of some cells."""
    tables = covariance_tables(network, itertools.product(cells1, cells2), slopes, dtype)
    return TableGrid.of(cells1, cells2, tables, dtype)


def covariance_tables(
    network: Network, pairs: Iterable[Pair], slopes: bool, dtype: torch.dtype
) -> Mapping[Pair, Array]:
    """k, or with ``slopes`` its derivatives in q_aa, q_bb, q_ab, w and sigma_b^2.

    Returns:
        The tables of these pairs of cells, and others made before.

    Raises:
        DomainError: the Chebyshev series does not converge, or the moments of the activation are
            not known at variances that the flow reaches.
    """
    tables = _tables(network, slopes, dtype)
    wanted = {(min(pair), max(pair)) for pair in pairs}
    kinked = isinstance(network.activation, LeakyReLU)
    tolerance = _TOLERANCE[dtype] * (_FINER if kinked else 1)
    if slopes:
        tolerance *= _KINKED_SLOPES if kinked else _SLOPES
    if isinstance(network.activation, (Activation, Sine)):
        tolerance *= _COARSER
    found = fit_tables(
        sorted(wanted - tables.keys()),
        functools.partial(_values, network, slopes),
        tolerance,
        f"the covariance of {network.activation}",
    )
    add_mirrored(tables, found, [1, 0, 2, 3, 4] if slopes else [0])
    return tables


@functools.lru_cache(maxsize=32)
def _tables(network: Network, slopes: bool, dtype: torch.dtype) -> dict[Pair, Array]:
    """All tables of a network made so far."""
    return {}


def _values(
    network: Network, slopes: bool, nodes1: Array, nodes2: Array, angle: Array
) -> tuple[Array, Array]:
    """k or its derivatives at all combinations of nodes, and the scales of these fields."""
    moments = moments_of(network.activation)
    weight_variance, bias = network.weight_variance, network.block_bias_variance
    variance1 = torch.from_numpy(nodes1)[:, :, None, None]
    variance2 = torch.from_numpy(nodes2)[:, None, :, None]
    covariance = (variance1 * variance2).sqrt() * torch.from_numpy(np.cos(angle))
    total = torch.zeros(5 if slopes else 1, *covariance.shape, dtype=torch.float64)
    scale = torch.zeros(len(nodes1), dtype=torch.float64)
    for weight, scheme in schemes(network.activation, weight_variance, network.depth):
        if slopes:
            path1 = _path_slopes(moments, scheme, variance1, weight_variance, bias)
            path2 = _path_slopes(moments, scheme, variance2, weight_variance, bias)
            own = (weight_variance, bias)
            total += weight * _pair_slopes(moments, scheme, path1, path2, covariance, *own)
            ends = path1[-1, 0], path2[-1, 0]
        else:
            arguments = [torch.tensor(x, dtype=torch.float64) for x in (weight_variance, bias)]
            path1 = variance_path(moments, scheme, variance1, *arguments)
            path2 = variance_path(moments, scheme, variance2, *arguments)
            total += weight * pair_covariance(moments, scheme, path1, path2, covariance, *arguments)
            ends = path1[-1], path2[-1]
        scale += weight * (ends[0].amax((1, 2, 3)) * ends[1].amax((1, 2, 3))).sqrt()
    if not slopes:
        return total.numpy(), scale.numpy()[None]
    end, one = scale.numpy(), np.ones(len(nodes1))
    usual = [np.minimum(one, end / own.min(1)) for own in (nodes1, nodes2)]
    largest = total.abs().amax(dim=(2, 3, 4)).numpy()
    return total.numpy(), np.maximum([*usual, 0 * one, end, one], largest)


def _path_slopes(
    moments: Moments, scheme: Scheme, variance: Tensor, weight: float, bias: float
) -> Tensor:
    """q_aa and its derivatives in q_0(a, a), w and sigma_b^2: ``(stages + 1) x 4 x shape``."""
    zero = torch.zeros_like(variance)

    def speed(_: int, state: Tensor) -> Tensor:
        q = state[0].clone()
        rate = moments.moment(q, q, q)
        slope = weight * sum(moments.partials(q, q, q))
        return torch.stack(
            [
                weight * rate + bias,
                slope * state[1],
                slope * state[2] + rate,
                slope * state[3] + 1,
            ]
        )

    start = torch.stack([variance, torch.ones_like(variance), zero, zero])
    return torch.stack(list(states(scheme, start, speed)))


def _pair_slopes(
    moments: Moments,
    scheme: Scheme,
    path1: Tensor,
    path2: Tensor,
    covariance: Tensor,
    weight: float,
    bias: float,
) -> Tensor:
    """The derivatives of k in q_0(a,a), q_0(b,b), q_0(a,b), w and sigma_b^2, ``5 x shape``."""

    def speed(stage: int, state: Tensor) -> Tensor:
        own1, own2 = path1[stage], path2[stage]
        arguments = (own1[0], own2[0], state[0].clone())
        rate = moments.moment(*arguments)
        by1, by2, slope = (weight * partial for partial in moments.partials(*arguments))
        return torch.stack(
            [
                weight * rate + bias,
                slope * state[1] + by1 * own1[1],
                slope * state[2] + by2 * own2[1],
                slope * state[3],
                slope * state[4] + by1 * own1[2] + by2 * own2[2] + rate,
                slope * state[5] + by1 * own1[3] + by2 * own2[3] + 1,
            ]
        )

    zero = torch.zeros_like(covariance)
    start = torch.stack([covariance, zero, zero, torch.ones_like(covariance), zero, zero])
    return last_state(scheme, start, speed)[1:]


def table_covariance(
    activation: AnyActivation,
    weight_variance: Tensor,
    block_bias_variance: Tensor,
    depth: int | None,
    variance1: Tensor,
    variance2: Tensor,
    covariance: Tensor,
    symmetric: bool,
) -> Tensor:
    """q_1 of a batch of matrices of pairs, or of single pairs, by tables.

    Arguments as for ``direct_covariance``, which is used for the sine at variances so large that
    its moments are spikes.
    """
    largest = max(variance1.detach().max(), variance2.detach().max())
    if isinstance(activation, Sine) and largest > _SINE_TABLES_UP_TO:
        inputs = (variance1, variance2, covariance)
        return direct_covariance(
            activation, weight_variance, block_bias_variance, depth, *inputs, symmetric
        )
    settings = (activation, depth, symmetric)
    return _TableCovariance.apply(
        settings, variance1, variance2, covariance, weight_variance, block_bias_variance
    )


class _TableCovariance(FlowFunction):
    @staticmethod
    def forward(
        settings: Any,
        variance1: Tensor,
        variance2: Tensor,
        covariance: Tensor,
        weight_variance: Tensor,
        block_bias_variance: Tensor,
    ) -> Tensor:
        activation, depth, symmetric = settings
        networks = _networks(activation, depth, weight_variance, block_bias_variance)
        if covariance.dim() == 2:
            return _single_pairs(networks, variance1, variance2, covariance, slopes=False)[0]
        grids = _grids(networks, variance1, variance2, False, covariance.dtype)
        compiled = compiled_loops("flow.compiled_cells", covariance)
        if compiled is None:
            each = zip(grids, variance1, variance2, covariance, strict=True)
            out = torch.stack([grid.matrix(*own)[0] for grid, *own in each])
            if symmetric:
                mirror(out)
            return out
        out = torch.empty_like(covariance, memory_format=torch.contiguous_format)
        tables = _compiled_tables(grids, variance1, variance2)
        entries = covariance.detach().contiguous().numpy()
        ranges = _ranges(covariance, symmetric)
        matrix = functools.partial(compiled.matrix, tables, entries, out.numpy(), symmetric)
        in_threads([functools.partial(matrix, *rows) for rows in ranges])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradient = functools.partial(_table_gradient, *ctx.settings)
        return None, *Gradient.apply(gradient, *ctx.saved_tensors, grad)


def _table_gradient(settings: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    activation, depth, symmetric = settings
    variance1, variance2, covariance, weight_variance, block_bias_variance, grad = tensors
    networks = _networks(activation, depth, weight_variance, block_bias_variance)
    if covariance.dim() == 2:
        fields = grad * _single_pairs(networks, variance1, variance2, covariance, slopes=True)
        return fields[0], fields[1], fields[2], fields[3].sum(-1), fields[4].sum(-1)
    grids = _grids(networks, variance1, variance2, True, covariance.dtype)
    compiled = compiled_loops("flow.compiled_cells", covariance)
    if compiled is not None:
        return _compiled_gradient(
            compiled, grids, variance1, variance2, covariance, grad, symmetric=symmetric
        )
    sums = []
    for grid, *own, seen in zip(grids, variance1, variance2, covariance, grad, strict=True):
        fields = grid.matrix(*own).mul_(seen)
        totals = fields.sum((1, 2))
        sums.append((fields[0].sum(1), fields[1].sum(0), fields[2], totals[3], totals[4]))
    return tuple(torch.stack(one) for one in zip(*sums, strict=True))


def _networks(
    activation: AnyActivation,
    depth: int | None,
    weight_variance: Tensor,
    block_bias_variance: Tensor,
) -> list[Network]:
    hyperparameters = torch.stack([weight_variance, block_bias_variance], dim=1)
    return [Network(activation, w, bias, depth) for w, bias in hyperparameters.tolist()]


def _grids(
    networks: list[Network],
    variance1: Tensor,
    variance2: Tensor,
    slopes: bool,
    dtype: torch.dtype,
) -> list[TableGrid]:
    """One grid for each network, all on the same cells."""
    cells1, cells2 = present_cells(variance1), present_cells(variance2)
    return [covariance_grid(network, cells1, cells2, slopes, dtype) for network in networks]


def _compiled_tables(
    grids: list[TableGrid], variance1: Tensor, variance2: Tensor
) -> tuple[Any, ...]:
    """``tables`` of ``compiled_cells``."""
    grid = TableGrid.stack(grids)
    cell1, cell2, left, right = grid.bases(variance1, variance2)
    order1, order2 = (cell.argsort(dim=1, stable=True) for cell in (cell1, cell2))
    root1, root2 = (
        variance.clamp(min=TINY).sqrt().gather(1, order)
        for variance, order in ((variance1, order1), (variance2, order2))
    )
    left, right = (
        part.gather(1, order[..., None].expand_as(part))
        for part, order in ((left, order1), (right, order2))
    )
    inside = torch.arange(len(grid.cells2) + 1).expand(len(order2), -1).contiguous()
    starts = torch.searchsorted(cell2.gather(1, order2), inside)
    rows = (order1, cell1.gather(1, order1), root1, left)
    columns = (order2, starts, pad(root2, (0, LANES), value=1), pad(right.mT, (0, LANES)))
    return _arrays((grid.coefficients, grid.lengths, _arrays(rows), _arrays(columns)))


def _arrays(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        part.detach().contiguous().numpy() if isinstance(part, Tensor) else part for part in parts
    )


def _ranges(covariance: Tensor, symmetric: bool) -> list[tuple[int, int]]:
    """Rows for the threads; those of one symmetric matrix get shorter."""
    batch, n, m = covariance.shape
    return row_ranges(batch * n, m, symmetric and batch == 1, PIECES)


def _compiled_gradient(
    compiled: ModuleType, grids: list[TableGrid], *inputs: Tensor, symmetric: bool
) -> tuple[Tensor, ...]:
    variance1, variance2, covariance, grad = inputs
    tables = _compiled_tables(grids, variance1, variance2)
    entries, seen = (one.detach().contiguous().numpy() for one in (covariance, grad))
    by_covariance = torch.zeros_like(covariance, memory_format=torch.contiguous_format)
    by_variance1 = torch.zeros_like(variance1, memory_format=torch.contiguous_format)
    ranges = _ranges(covariance, symmetric)
    by_variance2 = grad.new_zeros(len(ranges), *variance2.shape)
    by_hyper = grad.new_zeros(2, len(ranges), len(grad))
    shared = (by_covariance.numpy(), by_variance1.numpy())
    gradient = functools.partial(compiled.matrix_gradient, tables, entries, seen, symmetric)
    parts = zip(by_variance2.numpy(), *by_hyper.numpy(), ranges, strict=True)
    in_threads([functools.partial(gradient, (*shared, *part), *rows) for *part, rows in parts])
    return by_variance1, by_variance2.sum(0), by_covariance, *by_hyper.sum(1)


def _single_pairs(
    networks: list[Network],
    variance1: Tensor,
    variance2: Tensor,
    covariance: Tensor,
    slopes: bool,
) -> Tensor:
    """``fields x b x n``."""
    found = []
    for network, *own in zip(networks, variance1, variance2, covariance, strict=True):
        pairs = present_pairs(own[0], own[1])
        tables = covariance_tables(network, pairs, slopes, covariance.dtype)
        found.append(single_pairs(tables, *own))
    return torch.stack(found, dim=1)
