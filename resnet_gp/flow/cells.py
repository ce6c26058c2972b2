"""Piecewise Chebyshev tables in two variances and an angle.

A variance q > 0 belongs to the cell floor(log(q) / log 4): an entry does not depend on the others
in the call. One table serves a pair of cells, with x the place of log q in its cell,

    f(q_a, q_b, theta) = sum_k T_k(2 tan(theta / 4) - 1) sum_ij C_kij T_i(x_a) T_j(x_b).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow.angles import Array
from resnet_gp.flow.domain import DomainError
from resnet_gp.flow.table import chebyshev_transform

_WIDTH = math.log(4)
#: Stands for a variance of 0: its square root is negligible beside any other.
TINY = 4.0**-50 * (1 + 1e-9)  # just inside a cell, below all of its nodes
_START = (13, 13, 40)
_MOST = (140, 140, 640)
_GROUP = 4  # terms of a series that the compiled loops take at a time
LANES = 8  # columns, of which the compiled loops compute a multiple, and do not use those too many
_TOGETHER = 16  # pairs of cells computed together: more would not fit in the cache

Pair: TypeAlias = tuple[int, int]


def cell_of(variance: Tensor) -> Tensor:
    """The cells of positive variances."""
    return torch.floor(variance.detach().double().clamp(min=TINY).log() / _WIDTH).long()


def present_cells(variance: Tensor) -> tuple[int, ...]:
    """The cells that contain variances, in order."""
    return tuple(torch.unique(cell_of(variance)).tolist())


def basis(variance: Tensor, cell: Tensor, count: int) -> Tensor:
    """T_i(x), ``... x count``, of variances in their cells."""
    log = variance.double().clamp(min=TINY).log()
    place = (log * (2 / _WIDTH) - (2 * cell + 1)).clamp(-1, 1)
    orders = torch.arange(count, dtype=torch.float64, device=variance.device)
    return torch.cos(orders * torch.acos(place)[..., None]).to(variance.dtype)


def place_of(variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
    """2 tan(theta / 4) - 1 of q_ab = sqrt(q_aa q_bb) cos(theta); right angles where q_ab is 0."""
    scale = variance1.clamp(min=TINY).sqrt() * variance2.clamp(min=TINY).sqrt()
    gap = torch.div(covariance, scale).neg_().add_(1).clamp_(0, 2)
    root = gap.sqrt()
    return root.div_((2 - gap).sqrt_().add_(math.sqrt(2))).mul_(2).sub_(1)


def _cell_nodes(cells: Sequence[int], count: int) -> Array:
    """Variances at the Chebyshev nodes of some cells, ``cells x count``."""
    nodes: Array = np.exp(_WIDTH * (np.asarray(cells)[:, None] + (1 + _nodes(count)) / 2))
    return nodes


def _nodes(count: int) -> Array:
    return np.cos(math.pi * (np.arange(count) + 0.5) / count)


#: From nodes of the variances, ``pairs x i`` and ``pairs x j``, and of the angle, ``k``: the fields
#: at all combinations, ``fields x pairs x i x j x k``, and their scales, ``fields x pairs``.
Values: TypeAlias = Callable[[Array, Array, Array], tuple[Array, Array]]


def fit_tables(
    pairs: Sequence[Pair], values: Values, tolerance: float, what: str
) -> dict[Pair, Array]:
    """Coefficients C of a function on pairs of cells, ``fields x k x i x j``.

    Args:
        pairs: of cells of the two variances.
        values: the function.
        tolerance: for the coefficients left out, relative to the scale.
        what: the subject of the message.

    Raises:
        DomainError: a series does not converge.
    """
    counts: dict[Pair, tuple[int, ...]] = dict.fromkeys(pairs, _START)
    tables = {}
    while counts:
        count = next(iter(counts.values()))
        together = [pair for pair in counts if counts[pair] == count][:_TOGETHER]
        first, second = zip(*together, strict=True)
        angles = 4 * np.arctan((1 + _nodes(count[2])) / 2)
        found, scales = values(_cell_nodes(first, count[0]), _cell_nodes(second, count[1]), angles)
        relative = found / scales[..., None, None, None]
        for axis in (2, 3, 4):
            relative = chebyshev_transform(relative, axis)
        for index, pair in enumerate(together):
            own = relative[:, index]
            sizes = [np.abs(own).max(axis=tuple({0, 1, 2, 3} - {axis})) for axis in (1, 2, 3)]
            grown = _grown(count, sizes, tolerance)
            if grown == count:
                del counts[pair]
                i, j, k = (1 + int(np.nonzero(s > tolerance / 10)[0].max(initial=0)) for s in sizes)
                scaled = own[:, :i, :j, :k] * scales[:, index, None, None, None]
                tables[pair] = scaled.transpose(0, 3, 1, 2)
            elif any(n > most for n, most in zip(grown, _MOST, strict=True)):
                raise DomainError(
                    f"the Chebyshev series of {what} in variance cells {pair} did not converge "
                    f"with {count} nodes"
                )
            else:
                counts[pair] = grown
    return tables


def _grown(count: tuple[int, ...], sizes: list[Array], tolerance: float) -> tuple[int, ...]:
    """Increase the numbers of nodes where the last coefficients exceed the tolerance."""
    short = [bool((size[-max(2, len(size) // 8) :] > tolerance).any()) for size in sizes]
    return tuple(n * 3 // 2 if needed else n for n, needed in zip(count, short, strict=True))


def add_mirrored(
    tables: dict[Pair, Array], found: Mapping[Pair, Array], fields: Sequence[int]
) -> None:
    """Add tables, and those of the exchanged variances, with permuted ``fields``."""
    for (one, two), table in found.items():
        tables[two, one] = table[fields].transpose(0, 1, 3, 2)
        tables[one, two] = table


@dataclass(frozen=True, eq=False)
class TableGrid:
    """The tables of all pairs of some cells, padded with zeros to a common shape.

    Attributes:
        cells1: of the first variance, in order.
        cells2: of the second.
        coefficients: ``cells1 x cells2 x fields x i x k x j``; i, k and j are multiples of 4.
        lengths: the number of k, a multiple of 4, ``cells1 x cells2``.
    """

    cells1: tuple[int, ...]
    cells2: tuple[int, ...]
    coefficients: Tensor
    lengths: Tensor

    @classmethod
    def of(
        cls,
        cells1: tuple[int, ...],
        cells2: tuple[int, ...],
        tables: Mapping[Pair, Array],
        dtype: torch.dtype,
    ) -> TableGrid:
        used = [[tables[one, two].swapaxes(1, 2) for two in cells2] for one in cells1]
        shape = np.max([table.shape for row in used for table in row], axis=0)
        shape[1:] += -shape[1:] % _GROUP
        padded = np.zeros((len(cells1), len(cells2), *shape))
        for target, row in zip(padded, used, strict=True):
            for own, table in zip(target, row, strict=True):
                own[tuple(map(slice, table.shape))] = table
        lengths = np.array([[table.shape[2] for table in row] for row in used])
        lengths += -lengths % _GROUP
        return cls(cells1, cells2, torch.from_numpy(padded).to(dtype), torch.from_numpy(lengths))

    @classmethod
    def stack(cls, grids: Sequence[TableGrid]) -> TableGrid:
        """A batch of grids on the same cells; of length 1 if all are the same object."""
        distinct = grids if any(grid is not grids[0] for grid in grids) else grids[:1]
        shape = np.max([grid.coefficients.shape for grid in distinct], axis=0)
        coefficients = distinct[0].coefficients.new_zeros(len(distinct), *shape)
        for target, grid in zip(coefficients, distinct, strict=True):
            target[tuple(map(slice, grid.coefficients.shape))] = grid.coefficients
        lengths = torch.stack([grid.lengths for grid in distinct])
        return cls(grids[0].cells1, grids[0].cells2, coefficients, lengths)

    @property
    def fields(self) -> int:
        return self.coefficients.shape[-4]

    def bases(self, variance1: Tensor, variance2: Tensor) -> tuple[Tensor, ...]:
        """Indices of the cells of variances of any shape, and T_i and T_j there."""
        index1, left = self._basis(variance1, self.cells1, self.coefficients.shape[-3])
        index2, right = self._basis(variance2, self.cells2, self.coefficients.shape[-1])
        return index1, index2, left, right

    def _basis(self, variance: Tensor, cells: tuple[int, ...], count: int) -> tuple[Tensor, Tensor]:
        cell = cell_of(variance)
        known = torch.tensor(cells, device=variance.device)
        return torch.searchsorted(known, cell), basis(variance, cell, count)

    def matrix(self, variance1: Tensor, variance2: Tensor, covariance: Tensor) -> Tensor:
        """``fields x n x m (x ...)`` at ``n`` and ``m`` variances, ``n x m (x ...)`` covariances.

        In plain torch.
        """
        index1, index2, left, right = self.bases(variance1, variance2)
        out = covariance.new_empty(self.fields, *covariance.shape)
        rest = (1,) * (covariance.dim() - 2)
        for one in torch.unique(index1).tolist():
            rows = (index1 == one).nonzero()[:, 0]
            for two in torch.unique(index2).tolist():
                columns = (index2 == two).nonzero()[:, 0]
                place = place_of(
                    variance1[rows].reshape(-1, 1, *rest),
                    variance2[columns].reshape(-1, *rest),
                    covariance[rows[:, None], columns],
                )
                used = self.coefficients[one, two, :, :, : int(self.lengths[one, two])]
                table = used.to(covariance.device)
                series = torch.einsum("fikj,ni->kfnj", table, left[rows])
                across = right[columns].mT

                def coefficient(k: int, series: Tensor = series, across: Tensor = across) -> Tensor:
                    product = series[k] @ across
                    return product.reshape(*product.shape, *rest)

                found = _clenshaw(coefficient, len(series), place)
                out[:, rows[:, None], columns] = found
        return out


def present_pairs(variance1: Tensor, variance2: Tensor) -> list[Pair]:
    """The pairs of cells of single pairs of variances."""
    return [pair for pair, _ in _groups(variance1, variance2)]


def single_pairs(
    tables: Mapping[Pair, Array], variance1: Tensor, variance2: Tensor, covariance: Tensor
) -> Tensor:
    """``fields x n`` at ``n`` single pairs."""
    parts, where = [], []
    for pair, members in _groups(variance1, variance2):
        own1, own2, own = variance1[members], variance2[members], covariance[members]
        table = torch.from_numpy(tables[pair]).to(own)
        left, right = (
            basis(variance, cell_of(variance), count)
            for variance, count in zip((own1, own2), table.shape[2:], strict=True)
        )
        rows = torch.einsum("fkij,ni,nj->kfn", table, left, right)
        parts.append(_clenshaw(rows.__getitem__, len(rows), place_of(own1, own2, own)))
        where.append(members)
    return torch.cat(parts, dim=1)[:, torch.cat(where).argsort()]


def _groups(variance1: Tensor, variance2: Tensor) -> Iterator[tuple[Pair, Tensor]]:
    """The pairs of cells that occur, and the indices of their members."""
    both = torch.stack([cell_of(variance1), cell_of(variance2)])
    for pair in torch.unique(both, dim=1).T:
        one, two = pair.tolist()
        yield (one, two), (both == pair[:, None]).all(0).nonzero()[:, 0]


def _clenshaw(coefficient: Callable[[int], Tensor], count: int, place: Tensor) -> Tensor:
    last = coefficient(count - 1)
    value = last.expand(len(last), *place.shape).clone()
    if count == 1:
        return value
    twice = 2 * place
    previous = torch.zeros_like(value)
    for k in range(count - 2, 0, -1):
        previous.neg_().add_(coefficient(k)).addcmul_(twice, value)
        value, previous = previous, value
    return previous.neg_().add_(coefficient(0)).addcmul_(twice, value, value=0.5)
