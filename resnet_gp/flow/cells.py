r"""Piecewise Chebyshev tables in two variances and an angle.

A variance q > 0 belongs to the cell floor(log(q) / log 4): cells are fixed, so that an entry does
not depend on the others in the call, and there is no end to them. One table serves a pair of cells,

    f(q_a, q_b, theta) = sum_k T_k(2 theta / pi - 1) sum_ij C_ijk T_i(x_a) T_j(x_b),

x the place of log q in its cell. On matrices the inner sum is a product of small matrices for each
k. The angle and not the correlation: functions that bend near c = +-1 need far fewer terms in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow.angles import Array
from resnet_gp.flow.table import chebyshev_transform

_WIDTH = math.log(4)
#: What a variance of 0 counts as: its square root is below the rounding of anything beside it.
TINY = 4.0**-50 * (1 + 1e-9)  # just inside a cell, below all of its nodes
_START = (9, 9, 24)
_MOST = (140, 140, 640)


@dataclass(frozen=True, eq=False)
class CellTable:
    """C of some functions (fields) on one pair of cells, ``fields x i x j x k``."""

    cells: tuple[int, int]
    coefficients: Tensor

    def matrix(self, variance1: Tensor, variance2: Tensor, angle: Tensor) -> Tensor:
        """``fields x n x m`` at ``n`` and ``m`` variances and ``n x m (x ...)`` angles."""
        rest = (1,) * (angle.dim() - 2)
        left = basis(variance1, self.cells[0], self.coefficients.shape[1])
        right = basis(variance2, self.cells[1], self.coefficients.shape[2])
        rows = torch.einsum("ni,fijk->kfnj", left, self.coefficients)
        fields, n, m = rows.shape[1], len(left), len(right)
        flat = rows.reshape(len(rows), fields * n, -1)

        def coefficient(k: int) -> Tensor:
            return (flat[k] @ right.mT).reshape(fields, n, m, *rest)

        return _clenshaw(coefficient, len(rows), angle)

    def pairs(self, variance1: Tensor, variance2: Tensor, angle: Tensor) -> Tensor:
        """``fields x n`` at single pairs."""
        left = basis(variance1, self.cells[0], self.coefficients.shape[1])
        right = basis(variance2, self.cells[1], self.coefficients.shape[2])
        rows = torch.einsum("ni,nj,fijk->kfn", left, right, self.coefficients)
        return _clenshaw(lambda k: rows[k], len(rows), angle)


def _clenshaw(coefficient: Callable[[int], Tensor], count: int, angle: Tensor) -> Tensor:
    twice = (angle * (4 / math.pi)).sub_(2)
    last = coefficient(count - 1)
    value = last.expand(len(last), *angle.shape).clone()
    if count == 1:
        return value
    previous = torch.zeros_like(value)
    for k in range(count - 2, 0, -1):
        previous.neg_().add_(coefficient(k)).addcmul_(twice, value)
        value, previous = previous, value
    return previous.neg_().add_(coefficient(0)).addcmul_(twice, value, value=0.5)


def cell_of(variance: Tensor) -> Tensor:
    """The cells of positive variances."""
    return torch.floor(variance.detach().double().clamp(min=TINY).log() / _WIDTH).long()


def cell_groups(variance: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The cells in which there are variances, and the places of those, in order."""
    cells = cell_of(variance)
    for cell in torch.unique(cells):
        yield int(cell), (cells == cell).nonzero()[:, 0]


def cell_pairs(variance1: Tensor, variance2: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """The same for single pairs of variances."""
    cells = torch.stack([cell_of(variance1), cell_of(variance2)])
    for pair in torch.unique(cells, dim=1).T:
        first, second = pair.tolist()
        yield (first, second), (cells == pair[:, None]).all(0).nonzero()[:, 0]


def basis(variance: Tensor, cell: int, count: int) -> Tensor:
    """T_i(x), ``n x count``, of variances in a cell."""
    log = variance.double().clamp(min=TINY).log()
    place = (log * (2 / _WIDTH) - (2 * cell + 1)).clamp(-1, 1)
    orders = torch.arange(count, dtype=torch.float64, device=variance.device)
    return torch.cos(orders * torch.acos(place)[:, None]).to(variance.dtype)


def angle_between(variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
    """arccos(q_ab / sqrt(q_aa q_bb)); pi / 2 where the covariance is 0."""
    scale = variance1.clamp(min=TINY).sqrt() * variance2.clamp(min=TINY).sqrt()
    return torch.div(covariance, scale).clamp_(-1, 1).acos_()


def cell_nodes(cell: int, count: int) -> Array:
    """Variances at the Chebyshev nodes of a cell."""
    return np.exp(_WIDTH * (cell + (1 + _nodes(count)) / 2))


def angle_nodes(count: int) -> Array:
    """Angles at the Chebyshev nodes of [0, pi]."""
    return (1 + _nodes(count)) * (math.pi / 2)


def _nodes(count: int) -> Array:
    return np.cos(math.pi * (np.arange(count) + 0.5) / count)


def fit_table(
    cells: tuple[int, int],
    values: Callable[[Array, Array, Array], tuple[Array, Sequence[float]]],
    tolerance: float,
    what: str,
) -> CellTable:
    """The table of a function on a pair of cells, with as many nodes as it takes.

    Args:
        cells: of the two variances.
        values: of variances, variances and angles; the fields at all combinations of them,
            ``fields x n x m x k``, and the scale of each field.
        tolerance: for the coefficients left out, as a part of the scale.
        what: the subject of the message.

    Raises:
        ArithmeticError: the series does not converge.
    """
    count = list(_START)
    while True:
        found, scales = values(
            cell_nodes(cells[0], count[0]), cell_nodes(cells[1], count[1]), angle_nodes(count[2])
        )
        coefficients = found / np.asarray(scales)[:, None, None, None]
        for axis in (1, 2, 3):
            coefficients = chebyshev_transform(coefficients, axis)
        sizes = [
            np.abs(coefficients).max(axis=tuple(a for a in range(4) if a != axis))
            for axis in (1, 2, 3)
        ]
        short = [float(size[-max(2, len(size) // 8) :].max()) > tolerance for size in sizes]
        if not any(short):
            break
        for axis, needed in enumerate(short):
            if needed:
                count[axis] = count[axis] * 3 // 2 + (axis == 2) * count[axis] // 8
                if count[axis] > _MOST[axis]:
                    raise ArithmeticError(
                        f"the Chebyshev series of {what} did not converge with {count} nodes"
                    )
    keep = [1 + int(np.nonzero(size > tolerance / 10)[0].max(initial=0)) for size in sizes]
    trimmed = (
        coefficients[:, : keep[0], : keep[1], : keep[2]] * np.asarray(scales)[:, None, None, None]
    )
    return CellTable(cells, torch.from_numpy(np.ascontiguousarray(trimmed)))
