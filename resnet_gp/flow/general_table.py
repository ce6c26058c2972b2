r"""Chebyshev tables of the general covariance: k as a function of q_0(a,a), q_0(b,b) and the angle.

One table for each pair of variance cells (``cells``), filled by the integration of ``general`` at
its nodes; tables are made for the cells in which there are data, and the last ones are kept. The
derivatives of k are tables too, so that nothing is divided by sin(theta).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from resnet_gp.activations import Activation, AnyActivation, LeakyReLU, Sine
from resnet_gp.flow.cells import (
    Array,
    CellTable,
    angle_between,
    cell_groups,
    cell_pairs,
    fit_table,
)
from resnet_gp.flow.general import (
    Moments,
    Scheme,
    last_state,
    mirror,
    pair_covariance,
    refuse_second_order,
    schemes,
    states,
    tiles,
    variance_path,
)
from resnet_gp.flow.moment_table import TabulatedMoments

_TOLERANCE = {torch.float64: 2e-11, torch.float32: 1e-8}
_COARSER = 10  # times that, where moments are tabulated or oscillate
_SLOPES = 100  # times the tolerance, for the derivatives
_KINKED_SLOPES = 10_000  # the same for ReLU, whose angle leaves pi like sqrt(t)


class Network(NamedTuple):
    """What a table belongs to."""

    activation: AnyActivation
    weight_variance: float
    block_bias_variance: float
    depth: int | None


def moments_of(activation: AnyActivation) -> Moments:
    """Closed moments where there are any, else tabulated ones."""
    return TabulatedMoments(activation) if isinstance(activation, Activation) else activation


@functools.lru_cache(maxsize=512)
def covariance_table(
    network: Network, cells: tuple[int, int], slopes: bool, dtype: torch.dtype
) -> CellTable:
    """k, or with ``slopes`` its derivatives in q_aa, q_bb, q_ab, w and sigma_b^2, on two cells.

    Raises:
        ArithmeticError: the Chebyshev series does not converge.
        ValueError: the moments of the activation are not known at variances that the flow reaches.
    """
    kinked = isinstance(network.activation, LeakyReLU)
    tolerance = _TOLERANCE[dtype]
    if slopes:
        tolerance *= _KINKED_SLOPES if kinked else _SLOPES
    if isinstance(network.activation, (Activation, Sine)):
        tolerance *= _COARSER
    table = fit_table(
        cells,
        functools.partial(_values, network, slopes),
        tolerance,
        f"the covariance of {network.activation} in variance cells {cells}",
    )
    return CellTable(cells, table.coefficients.to(dtype))


def _values(
    network: Network, slopes: bool, nodes1: Array, nodes2: Array, angle: Array
) -> tuple[Array, list[float]]:
    """k or its derivatives at all combinations of nodes, and the scales of these fields."""
    moments = moments_of(network.activation)
    weight_variance, bias = network.weight_variance, network.block_bias_variance
    variance1 = torch.from_numpy(nodes1)[:, None, None]
    variance2 = torch.from_numpy(nodes2)[None, :, None]
    covariance = (variance1 * variance2).sqrt() * torch.from_numpy(np.cos(angle))
    total, scale = torch.zeros(5 if slopes else 1, *covariance.shape, dtype=torch.float64), 0.0
    for weight, scheme in schemes(network.activation, weight_variance, network.depth):
        if slopes:
            path1 = _path_slopes(moments, scheme, variance1, weight_variance, bias)
            path2 = _path_slopes(moments, scheme, variance2, weight_variance, bias)
            own = (weight_variance, bias)
            total += weight * _pair_slopes(moments, scheme, path1, path2, covariance, *own)
            ends = path1[-1, 0].max(), path2[-1, 0].max()
        else:
            arguments = [torch.tensor(x, dtype=torch.float64) for x in (weight_variance, bias)]
            path1 = variance_path(moments, scheme, variance1, *arguments)
            path2 = variance_path(moments, scheme, variance2, *arguments)
            total += weight * pair_covariance(moments, scheme, path1, path2, covariance, *arguments)
            ends = path1[-1].max(), path2[-1].max()
        scale += weight * float((ends[0] * ends[1]).sqrt())
    if not slopes:
        return total.numpy(), [scale]
    largest = total.abs().amax(dim=(1, 2, 3)).tolist()
    return total.numpy(), [
        scale / nodes1.min(),
        scale / nodes2.min(),
        largest[2],
        max(scale, largest[3]),
        max(1.0, largest[4]),
    ]


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


def table_tiles(
    network: Network,
    variance1: Tensor,
    variance2: Tensor,
    covariance: Tensor,
    slopes: bool,
    symmetric: bool,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows, columns and the tabulated fields there, ``fields x rows x columns``.

    With ``symmetric``, of two mirrored entries at least one is there.
    """
    groups1 = list(cell_groups(variance1))
    groups2 = groups1 if symmetric else list(cell_groups(variance2))
    for cell1, members1 in groups1:
        for cell2, members2 in groups2:
            if symmetric and cell2 < cell1:
                continue
            table = covariance_table(network, (cell1, cell2), slopes, covariance.dtype)
            table = CellTable(table.cells, table.coefficients.to(covariance.device))
            half = symmetric and cell1 == cell2
            for i, j in tiles(len(members1), len(members2), covariance.device, half):
                rows, columns = members1[i], members2[j]
                own1, own2 = variance1[rows], variance2[columns]
                block = covariance[rows[:, None], columns]
                angle = angle_between(own1[:, None], own2, block)
                fields = table.matrix(own1, own2, angle)
                if half:
                    mirror(fields)
                yield rows, columns, fields


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
    """q_1 of a matrix of pairs, or of single pairs, by tables; as ``direct_covariance``."""
    settings = (activation, depth, symmetric)
    return _TableCovariance.apply(
        settings, variance1, variance2, covariance, weight_variance, block_bias_variance
    )


class _TableCovariance(Function):
    @staticmethod
    def forward(
        ctx: Any,
        settings: Any,
        variance1: Tensor,
        variance2: Tensor,
        covariance: Tensor,
        weight_variance: Tensor,
        block_bias_variance: Tensor,
    ) -> Tensor:
        activation, depth, symmetric = settings
        network = Network(
            activation, float(weight_variance.detach()), float(block_bias_variance.detach()), depth
        )
        ctx.network, ctx.symmetric = network, symmetric
        ctx.save_for_backward(variance1, variance2, covariance)
        if covariance.dim() == 1:
            return _single_pairs(network, variance1, variance2, covariance, slopes=False)[0]
        out = torch.empty_like(covariance)
        for rows, columns, fields in table_tiles(
            network, variance1, variance2, covariance, slopes=False, symmetric=symmetric
        ):
            out[rows[:, None], columns] = fields[0]
            if symmetric:
                out[columns[:, None], rows] = fields[0].mT
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order()
        variance1, variance2, covariance = ctx.saved_tensors
        if covariance.dim() == 1:
            fields = grad * _single_pairs(
                ctx.network, variance1, variance2, covariance, slopes=True
            )
            return None, fields[0], fields[1], fields[2], fields[3].sum(), fields[4].sum()
        sums = [torch.zeros_like(tensor) for tensor in ctx.saved_tensors]
        by_weight, by_bias = grad.new_zeros(()), grad.new_zeros(())
        for rows, columns, fields in table_tiles(
            ctx.network, variance1, variance2, covariance, slopes=True, symmetric=False
        ):
            fields.mul_(grad[rows[:, None], columns])
            sums[0][rows] += fields[0].sum(1)
            sums[1][columns] += fields[1].sum(0)
            sums[2][rows[:, None], columns] = fields[2]
            by_weight += fields[3].sum()
            by_bias += fields[4].sum()
        return None, *sums, by_weight, by_bias


def _single_pairs(
    network: Network, variance1: Tensor, variance2: Tensor, covariance: Tensor, slopes: bool
) -> Tensor:
    out = covariance.new_empty(5 if slopes else 1, len(covariance))
    angle = angle_between(variance1, variance2, covariance)
    for cells, members in cell_pairs(variance1, variance2):
        table = covariance_table(network, cells, slopes, covariance.dtype)
        table = CellTable(table.cells, table.coefficients.to(covariance.device))
        out[:, members] = table.pairs(variance1[members], variance2[members], angle[members])
    return out
