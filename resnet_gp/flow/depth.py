"""Networks of L blocks, and tangent kernels: tables built by composing the map of one block.

For the (leaky) ReLU family without block bias, one block is a step of Euler's method for the
correlation flow (with q_l(a, a) divided out),

    c_l = c_{l-1} + h F(c_{l-1}),      h = w (1 - alpha)^2 / (L + w (1 + alpha^2) / 2),

and the tangent kernel, per unit of sqrt(q_L(a, a) q_L(b, b)) (Jacot et al. 2018 for this network),

    Theta_L = c_L + J_L + c_0 M_L           readout + residual blocks + input layer
    M_l = (1 - h theta_{l-1} / 2 pi) M_{l-1}                                M = dc_L / dc_0
    J_l = (1 - h theta_{l-1} / 2 pi) J_{l-1} + kappa f(c_{l-1})
    f(c) = c (1 + alpha^2) / 2 + (1 - alpha)^2 F(c),  kappa = w / (L + w (1 + alpha^2) / 2).

The map of 2k blocks is that of k blocks applied twice, so any L takes about log2(L) compositions of
Chebyshev interpolants, of quantities that are small when the map is close to the identity. This is
done for several w at once, and the coefficients of the series are series in log w in turn.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow.angles import Array, reduced_speed
from resnet_gp.flow.autograd import Entrywise, widens_half
from resnet_gp.flow.domain import DomainError
from resnet_gp.flow.table import (
    Cell,
    Polynomial,
    cell_edges,
    cell_nodes,
    chebyshev_transform,
    moebius_parameter,
    polynomials,
    refuse_horizon,
    table_variable,
)

MAX_DEPTH = 10**6
LIMIT_DEPTH = 2**52

Layers = Literal["all", "blocks", "readout"]

_NODES = (64, 128, 256, 512)
_COMPOSED_NODES = 96
_TAIL = {torch.float64: 1e-15, torch.float32: 1e-9}


@dataclass(frozen=True)
class DepthMap:
    """A map of c_0 and w: the correlation c_L ("readout") or a tangent kernel per unit of variance.

    ``contrast`` is that of ``resnet_gp.flow.correlation``.
    """

    negative_slope: float = 0.0
    depth: int | None = None
    layers: Layers = "readout"
    contrast: bool = False

    @property
    def blocks(self) -> int:
        return LIMIT_DEPTH if self.depth is None else self.depth

    @property
    def is_tangent(self) -> bool:
        return self.layers != "readout"

    @property
    def is_limit(self) -> bool:
        """The correlation flow itself, which has a table of its own."""
        return self.depth is None and not self.is_tangent


LIMIT = DepthMap()


def checked_depth(depth: Any) -> int | None:
    """Return the depth as an int, or None for the limit; ValueError if it is neither."""
    if depth is None:
        return None
    try:
        blocks = 0 if isinstance(depth, bool) else operator.index(depth)
    except TypeError:
        blocks = 0
    if not 1 <= blocks <= MAX_DEPTH:
        raise ValueError(
            f"depth must be a number of blocks from 1 to {MAX_DEPTH}, or None for the limit; "
            f"got {depth!r}"
        )
    return blocks


@widens_half
def depth_map(gap: Tensor, weight_variance: Tensor, spec: DepthMap) -> Tensor:
    """A map of single correlations, at gaps 1 - c_0 in [0, 2]; differentiable once."""
    return _DepthMap.apply(gap, weight_variance, spec)


def depth_slopes(gap: Tensor, weight_variance: Tensor, spec: DepthMap) -> tuple[Tensor, Tensor]:
    """The derivatives of ``depth_map`` in c_0 and in w."""
    return _DepthMapSlopes.apply(gap, weight_variance, spec)


class _DepthMap(Entrywise):
    @staticmethod
    def forward(gap: Tensor, weight_variance: Tensor, spec: DepthMap) -> Tensor:
        return depth_table(spec, weight_variance, gap.dtype).values(gap)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gap, weight_variance = ctx.saved_tensors
        slope, speed = depth_slopes(gap, weight_variance, *ctx.settings)
        return (
            (-grad * slope).sum_to_size(gap.shape) if ctx.needs_input_grad[0] else None,
            (grad * speed).sum_to_size(weight_variance.shape) if ctx.needs_input_grad[1] else None,
            None,
        )


class _DepthMapSlopes(Entrywise):
    @staticmethod
    def forward(gap: Tensor, weight_variance: Tensor, spec: DepthMap) -> tuple[Tensor, Tensor]:
        return depth_table(spec, weight_variance, gap.dtype).derivatives(gap)[1:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            "second derivatives of finite-depth and of tangent kernels are not implemented; "
            "ResNetLimitKernel with depth=None has them"
        )


@dataclass(frozen=True, eq=False)
class DepthTable:
    """Tables of a map for a batch of weight variances, in the variable of ``HorizonTable``.

    With the gap g = 1 - c_0, ``value`` is p with c_L = 1 - g p^2 for the correlation, and the
    tangent kernel itself otherwise. ``slope`` and ``speed`` are the derivatives in c_0 and in w:
    the correlation's are ``slope`` and g^{3/2} ``speed``, the tangent kernel's are
    ``slope`` / sin(theta_0) and ``speed``. ``kappa`` and ``value`` are ``batch_shape``; ``maps``,
    which are value, slope and speed, ``batch_shape x 3``.
    """

    tangent: bool
    kappa: Tensor
    value: Polynomial
    maps: Polynomial

    def values(self, gap: Tensor) -> Tensor:
        value = self.value(table_variable(gap, self.kappa))
        return value if self.tangent else 1 - gap * value.square_()

    def derivatives(self, gap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The value, and its derivatives in c_0 and in w.

        The tangent kernel has a kink at c_0 = 1, and at finite depth at -1; the derivative in c_0
        there counts as 0, which leaves the radial part of an input gradient.
        """
        x = table_variable(gap, self.kappa)
        value, slope, speed = (part(x) for part in self.maps.unbind())
        if not self.tangent:
            return 1 - gap * value.square_(), slope, gap**1.5 * speed
        sine = (gap * (2 - gap)).sqrt_()
        slope = torch.where(sine == 0, 0, slope / torch.where(sine == 0, 1, sine))
        return value, slope, speed


def depth_table(spec: DepthMap, weight_variance: Tensor, dtype: torch.dtype) -> DepthTable:
    """Return the tables of a batch of weight variances, ``batch_shape``, from a cache if possible.

    Raises:
        DomainError: the horizon w (1 - alpha)^2 is outside the range of tables, or the map is too
            rough for one.
    """
    values = tuple(weight_variance.detach().to("cpu", torch.float64).flatten().tolist())
    for value in values:
        refuse_horizon(value * (1 - spec.negative_slope) ** 2)
    table, shape = _table(spec, values, dtype), weight_variance.shape
    return DepthTable(
        table.tangent,
        table.kappa.reshape(shape),
        table.value.reshape(shape),
        table.maps.reshape(torch.Size((*shape, 3))),
    )


@functools.lru_cache(maxsize=64)
def _table(spec: DepthMap, weights: tuple[float, ...], dtype: torch.dtype) -> DepthTable:
    cells = [_cell(spec, *cell_edges(weight), dtype) for weight in weights]
    horizons = [weight * (1 - spec.negative_slope) ** 2 for weight in weights]
    kappa = torch.tensor([moebius_parameter(T) for T in horizons], dtype=dtype)
    maps = [cell.at(weight)[0] for cell, weight in zip(cells, weights, strict=True)]
    return DepthTable(spec.is_tangent, kappa, *polynomials(cells, maps, dtype))


@functools.lru_cache(maxsize=256)
def _cell(spec: DepthMap, low: float, high: float, dtype: torch.dtype) -> Cell:
    weights = cell_nodes(low, high)
    horizons = weights * (1 - spec.negative_slope) ** 2
    whole = _iterated(_Block(spec, weights), spec.blocks)
    for nodes in _NODES:
        grid = _Grid(horizons, nodes, is_table=True)
        series = chebyshev_transform(_tabulated(whole(grid.gaps), grid.gaps, spec))
        tails = _relative_tails(series)
        if tails.max() < _TAIL[dtype]:
            break
    # The derivative in w has a kink of width sqrt(h) next to theta = pi, too narrow for nodes where
    # w is small. There, an error of it moves the value by w times as much.
    tails[2] *= np.minimum(1, weights)
    tail = tails.max()
    if not tail < 1e3 * _TAIL[dtype]:
        raise DomainError(
            f"no table for weight_variance = {low:g}, depth = {spec.depth}: "
            f"its series still has terms of relative size {tail:.1g} after {nodes}"
        )
    return Cell.through(
        low, high, [_trimmed(row, dtype) for each in series.swapaxes(0, 1) for row in each]
    )


def _tabulated(whole: _Map, gaps: _Gaps, spec: DepthMap) -> Array:
    """The three maps of a ``DepthTable``, ``3 x weights x nodes``."""
    gap = gaps.gap
    if not spec.is_tangent:
        return np.stack([np.exp(-whole.decrease / 2), 1 - np.sqrt(gap) * whole.lag, whole.speed])
    value, slope, speed = whole.blocks, whole.blocks_slope, whole.blocks_speed
    if spec.layers == "all":
        start, factor = 1 - gap, 1 - np.sqrt(gap) * whole.lag
        value = value + 1 - gap * np.exp(-whole.decrease) + start * factor
        slope = slope + 2 * factor * gaps.sine + start * whole.curvature
        speed = speed + gap**1.5 * whole.speed + start * whole.lag_speed
    return np.stack([value, slope, speed])


class _Gaps(NamedTuple):
    """1 - c and 1 + c, both to full relative accuracy."""

    gap: Array
    rest: Array

    @property
    def sine(self) -> Array:
        return np.sqrt(self.gap * self.rest)

    @property
    def tau(self) -> Array:
        return np.sqrt(self.gap) / (math.sqrt(2) + np.sqrt(self.rest))

    def moved(self, by: _Map) -> _Gaps:
        return _Gaps(self.gap * np.exp(-by.decrease), self.rest - self.gap * np.expm1(-by.decrease))


class _Grid:
    """Chebyshev nodes for maps of given horizons, and the basis of interpolation from them.

    Gaps are ``horizons x nodes``.
    """

    # A long map is rough near theta = 0: its variable is that of table.py. A short one has branch
    # points at about root(horizon) from theta = pi: its variable is asinh((pi - theta) / root).

    def __init__(
        self, horizons: Array, nodes: int = _COMPOSED_NODES, is_table: bool = False
    ) -> None:
        self.long = is_table or horizons.max() > 1
        self.kappa = moebius_parameter(horizons)[:, None]
        self.width = np.sqrt(np.where(horizons > 0, horizons, 1))[:, None]
        self.orders = np.arange(nodes)
        s = np.cos(math.pi * (self.orders + 0.5) / (2 * nodes)) ** 2
        if self.long:
            theta = 4 * np.arctan(s / (1 + self.kappa - self.kappa * s))
            self.gaps = _Gaps(2 * np.sin(theta / 2) ** 2, 2 * np.cos(theta / 2) ** 2)
        else:
            rest = self.width * np.sinh(s * np.arcsinh(math.pi / self.width))
            self.gaps = _Gaps(2 * np.cos(rest / 2) ** 2, 2 * np.sin(rest / 2) ** 2)

    def basis(self, gaps: _Gaps) -> Array:
        """The Chebyshev polynomials at other gaps, ``horizons x orders x gaps``."""
        if self.long:
            tau = gaps.tau
            s = (1 + self.kappa) * tau / (1 + self.kappa * tau)
        else:
            mirrored = _Gaps(gaps.rest, gaps.gap)
            rest = np.where(
                gaps.gap < 1, math.pi - 4 * np.arctan(gaps.tau), 4 * np.arctan(mirrored.tau)
            )
            s = np.arcsinh(rest / self.width) / np.arcsinh(math.pi / self.width)
        phase = 2 * np.arccos(np.sqrt(np.clip(s, 0, 1)))
        phases = torch.from_numpy(self.orders[:, None] * phase[:, None])
        return phases.cos_().numpy()  # NumPy's takes three times as long


@dataclass(frozen=True, eq=False)
class _Map:
    """The maps of some blocks: functions of c_0, each ``weights x gaps``."""

    decrease: Array  # -log(gap after / gap before)
    lag: Array  # (1 - M) / gap^{1/2}, M = dc/dc_0
    speed: Array  # dc/dw / gap^{3/2}
    curvature: Array  # dM/dc_0 sin(theta_0)
    lag_speed: Array  # dM/dw
    blocks: Array  # J
    blocks_slope: Array  # dJ/dc_0 sin(theta_0)
    blocks_speed: Array  # dJ/dw

    def arrays(self) -> Array:
        return np.stack(list(vars(self).values()))


class _Block:
    """The map of one block at any gaps, for some weight variances."""

    def __init__(self, spec: DepthMap, weights: Array) -> None:
        self.gain = (1 + spec.negative_slope**2) / 2
        self.kink = (1 - spec.negative_slope) ** 2
        length = spec.blocks + weights[:, None] * self.gain
        self.kappa, self.kappa_speed = weights[:, None] / length, spec.blocks / length**2
        self.step, self.step_speed = self.kappa * self.kink, self.kappa_speed * self.kink

    def __call__(self, gaps: _Gaps) -> _Map:
        step, step_speed, gap = self.step, self.step_speed, gaps.gap
        theta = 4 * np.arctan(gaps.tau)
        phi = reduced_speed(theta)
        angle = theta / (2 * math.pi)
        seen = (1 - gap) * self.gain + self.kink * (gap / 2) ** 1.5 * phi
        return _Map(
            decrease=-np.log1p(-step * phi * np.sqrt(gap / 8)),
            lag=step * angle / np.sqrt(gap),
            speed=step_speed * phi / 2**1.5,
            curvature=np.broadcast_to(step / (2 * math.pi), gap.shape),
            lag_speed=-step_speed * angle,
            blocks=self.kappa * seen,
            blocks_slope=self.kappa * (self.gain - self.kink * angle) * gaps.sine,
            blocks_speed=self.kappa_speed * seen,
        )


def _after(first: _Map, maps: _Block | _Interpolant, gaps: _Gaps) -> _Map:
    """Compose two maps, by the chain rule."""
    middle = gaps.moved(first)
    second, middle_sine = maps(middle), middle.sine
    root, ratio = np.sqrt(gaps.gap), np.exp(-first.decrease)
    shrink, speed = gaps.sine / middle_sine, gaps.gap**1.5 * first.speed
    m, n = 1 - root * first.lag, 1 - np.sqrt(middle.gap) * second.lag
    n_speed = second.lag_speed + second.curvature * (speed / middle_sine)
    return _Map(
        decrease=first.decrease + second.decrease,
        lag=first.lag + second.lag * np.sqrt(ratio) * m,
        speed=n * first.speed + ratio**1.5 * second.speed,
        curvature=shrink * second.curvature * m**2 + n * first.curvature,
        lag_speed=n_speed * m + n * first.lag_speed,
        blocks=n * first.blocks + second.blocks,
        blocks_slope=shrink * m * (second.curvature * first.blocks + second.blocks_slope)
        + n * first.blocks_slope,
        blocks_speed=n_speed * first.blocks
        + n * first.blocks_speed
        + second.blocks_speed
        + second.blocks_slope * (speed / middle_sine),
    )


class _Interpolant:
    """The maps of some blocks at any gaps."""

    def __init__(self, grid: _Grid, whole: _Map) -> None:
        self.grid, self.series = grid, chebyshev_transform(whole.arrays()).swapaxes(0, 1)

    def __call__(self, gaps: _Gaps) -> _Map:
        return _Map(*(self.series @ self.grid.basis(gaps)).swapaxes(0, 1))


def _iterated(block: _Block, count: int) -> _Block | _Interpolant:
    """Compose ``count`` blocks by repeated doubling."""
    whole: _Block | _Interpolant = block
    for length in range(2, count.bit_length() + 1):
        blocks = count >> (count.bit_length() - length)
        grid = _Grid(blocks * block.step[:, 0])
        both = _after(whole(grid.gaps), whole, grid.gaps)
        if blocks % 2:
            both = _after(both, block, grid.gaps)
        whole = _Interpolant(grid, both)
    return whole


def _relative_tails(series: Array) -> Array:
    """The largest of the last eighth of the coefficients, over the largest of all."""
    sizes = np.abs(series)
    largest = sizes.max(-1)
    tails = sizes[..., -(series.shape[-1] // 8) :].max(-1)
    return np.asarray(np.divide(tails, largest, out=np.zeros_like(tails), where=largest > 0))


def _trimmed(row: Array, dtype: torch.dtype) -> Array:
    noise = {torch.float64: 1e-16, torch.float32: 1e-8}[dtype]
    return row[: np.nonzero(np.abs(row) >= noise * np.abs(row).max())[0][-1] + 1]
