"""Laws of targets given those of their neighbours, for any kernel.

A neighbourhood is a row of ``members``: rows of the data from the farthest neighbour to the nearest
and, last, the row whose target is predicted. With L L' the covariance of the members' targets,
z = L^{-1} y holds the standardised error of each target given all members that are farther. The
last one, z_m, is that of the prediction, whose deviation is s = L_mm (Vecchia 1988).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from gpytorch.kernels import Kernel
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.flow.covariance import Networks
from resnet_gp.flow.depth import DepthMap
from resnet_gp.flow.table import GROUP
from resnet_gp.flow.unit_points import NEAR, gradient_tables, value_table
from resnet_gp.models.network_likelihood import is_scaled_network
from resnet_gp.models.training_rows import Rows, TrainingRows
from resnet_gp.threads import PIECES, in_threads, row_ranges

#: The noise of a target is at least this share of the variance of f: neighbours may coincide.
FLOOR = {torch.float64: 1e-12, torch.float32: 1e-5}
#: The noise of a target whose f has no variance, which is known: variances stay positive.
LEAST_NOISE = 1e-37

_ENTRIES = {"cpu": 2**21, "cuda": 2**27}  # of covariances that are alive at a time
_SHARED = 2**24  # entries of a matrix from which all neighbourhoods take theirs


@dataclass(frozen=True)
class Neighbourhoods:
    """Whitened neighbourhoods.

    Attributes:
        deviation: s, ``b``; NaN where a covariance could not be factorised.
        z: ``b x p x m``.
    """

    deviation: Tensor
    z: Tensor


@torch.no_grad()
def whitened(kernel: Kernel, rows: Rows, members: Tensor) -> Neighbourhoods:
    """Factorise the covariance of each neighbourhood.

    Args:
        kernel: covariance of f.
        rows: the members and no others; targets and noises of rows that are predicted may be 0.
        members: ``b x m``.
    """
    loops = _loops(kernel, rows.x)
    if loops is not None:
        return _Compiled.of(loops, kernel, rows).whitened(members)
    covariance = _covariance(kernel, rows, members)
    parts = [_whitened(covariance, rows, part) for part in members.split(_chunk(rows.x, members))]
    deviations, z = zip(*parts, strict=True)
    return Neighbourhoods(torch.cat(deviations), torch.cat(z))


def log_density(kernel: Kernel, rows: Rows, members: Tensor) -> Tensor:
    """Sum of the log densities of the predicted targets, in nats, under normal laws.

    Differentiable once in the kernel's hyperparameters and the noises.

    Args:
        kernel, rows, members: as in ``whitened``.

    Raises:
        torch.linalg.LinAlgError: a covariance is not positive definite in this precision.
    """
    loops = _loops(kernel, rows.x)
    if loops is not None:
        value = _Compiled.of(loops, kernel, rows).log_density(members)
    else:
        covariance = _covariance(kernel, rows, members)
        parts = members.split(_chunk(rows.x, members))
        found = [
            checkpoint(_log_density, covariance, rows, part, use_reentrant=False) for part in parts
        ]
        value = torch.stack(found).sum()
    return value - 0.5 * len(members) * rows.y.shape[1] * math.log(2 * math.pi)


def predicted_means(kernel: Kernel, rows: Rows, members: Tensor) -> Tensor:
    """Means of the predicted targets given those of their neighbours, ``b x p``.

    Differentiable once in the kernel's hyperparameters and the noises.

    Args:
        kernel, rows, members: as in ``whitened``.

    Raises:
        torch.linalg.LinAlgError: a covariance is not positive definite in this precision.
    """
    loops = _loops(kernel, rows.x)
    if loops is not None:
        return _Compiled.of(loops, kernel, rows).means(members)
    covariance = _covariance(kernel, rows, members)
    parts = members.split(_chunk(rows.x, members))
    return torch.cat([checkpoint(_means, covariance, rows, x, use_reentrant=False) for x in parts])


def compact(rows: TrainingRows, members: Tensor) -> tuple[Rows, Tensor]:
    """The rows that are members, and where among them each member is."""
    used, index = torch.unique(members, return_inverse=True)
    return rows.take(used), index


def with_noise(covariance: Tensor, noise: Tensor) -> Tensor:
    """Covariances of targets, ``... x m x m``, from those of f and the noises, ``... x m``."""
    diagonal = covariance.diagonal(dim1=-2, dim2=-1).detach()
    floor = FLOOR[covariance.dtype] * diagonal + LEAST_NOISE
    return covariance + torch.diag_embed(torch.maximum(noise, floor))


def _chunk(x: Tensor, members: Tensor) -> int:
    return max(1, _ENTRIES.get(x.device.type, _ENTRIES["cuda"]) // members.shape[1] ** 2)


Covariance = Callable[[Tensor], Tensor]


def _covariance(kernel: Kernel, rows: Rows, members: Tensor) -> Covariance:
    """The covariances of f in some neighbourhoods.

    Neighbourhoods that share most of their rows take them from one matrix of all rows.
    """
    n, (b, m) = len(rows.x), members.shape
    if n**2 <= min(b * m**2, _SHARED):
        whole = kernel(rows.x).to_dense()
        return lambda part: whole[part[:, :, None], part[:, None]]
    return lambda part: kernel(rows.x[part]).to_dense()


def _whitened(covariance: Covariance, rows: Rows, members: Tensor) -> tuple[Tensor, Tensor]:
    noisy = with_noise(covariance(members), rows.noise[members])
    factor, failed = torch.linalg.cholesky_ex(noisy)
    z = torch.linalg.solve_triangular(factor, rows.y[members], upper=False).mT
    deviation = factor[:, -1, -1]
    if bool(failed.any()):
        deviation = torch.where(failed > 0, torch.nan, deviation)
        z = torch.where((failed > 0)[:, None, None], torch.nan, z)
    return deviation, z


def _log_density(covariance: Covariance, rows: Rows, members: Tensor) -> Tensor:
    """-log s - z_m^2 / 2, summed."""
    deviation, z = _factorised(*_whitened(covariance, rows, members))
    return -z.shape[1] * deviation.log().sum() - z[..., -1].square().sum() / 2


def _means(covariance: Covariance, rows: Rows, members: Tensor) -> Tensor:
    """y - s z_m."""
    deviation, z = _factorised(*_whitened(covariance, rows, members))
    return rows.y[members[:, -1]] - deviation[:, None] * z[..., -1]


def _factorised(deviation: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    if bool(deviation.isnan().any()):
        raise _failure()
    return deviation, z


def _failure() -> torch.linalg.LinAlgError:
    return torch.linalg.LinAlgError("the covariance of a neighbourhood cannot be factorised")


def _loops(kernel: Kernel, x: Tensor) -> ModuleType | None:
    """The compiled loops, or None where the kernel is not of the family that they know."""
    if not is_scaled_network(kernel) or x.dtype not in FLOOR:
        return None
    return compiled_loops("models.compiled_neighbourhoods", x)


@dataclass(frozen=True)
class _Compiled:
    """Arguments of the compiled loops, of the rows that are members."""

    loops: ModuleType
    networks: Networks
    rows: Rows

    @classmethod
    def of(cls, loops: ModuleType, kernel: Any, rows: Rows) -> _Compiled:
        return cls(loops, kernel.base_kernel.networks(kernel.outputscale), rows)

    def whitened(self, members: Tensor) -> Neighbourhoods:
        unit, scale = self._points()
        table = value_table(self.networks.time.detach(), unit.dtype, self.networks.map)
        b, m, p = *members.shape, self.rows.y.shape[1]
        deviation, z = self.rows.y.new_empty(b), self.rows.y.new_empty(b, p, m)
        arguments = (
            _arrays(unit, scale), table, self.networks.map.is_tangent, _targets(self.rows),
            FLOOR[unit.dtype], members.numpy(), (deviation.numpy(), z.numpy()),
        )  # fmt: skip
        laws = functools.partial(self.loops.laws, *arguments)
        in_threads([functools.partial(laws, *part) for part in row_ranges(b, m * m, pieces=PIECES)])
        return Neighbourhoods(deviation, z)

    def log_density(self, members: Tensor) -> Tensor:
        density: Tensor = _LogDensity.apply(
            *self._points(), self.networks.time, self.rows.noise,
            (self.loops, self.networks.map, self.rows.y, members),
        )  # fmt: skip
        return density

    def means(self, members: Tensor) -> Tensor:
        with torch.no_grad():
            found = self.whitened(members)
            deviation, z = _factorised(found.deviation, found.z)
            means = self.rows.y[members[:, -1]] - deviation[:, None] * z[..., -1]
        result: Tensor = _Means.apply(
            *self._points(), self.networks.time, self.rows.noise,
            (means, (self.loops, self.networks.map, self.rows.y, members)),
        )  # fmt: skip
        return result

    def _points(self) -> tuple[Tensor, Tensor]:
        unit, scale = self.networks.points(self.rows.x, self.networks.factor())
        return torch.nn.functional.pad(unit, (0, -unit.shape[-1] % GROUP)), scale


def _arrays(unit: Tensor, scale: Tensor) -> tuple[Any, ...]:
    unit, scale = (x.detach().contiguous() for x in (unit, scale))
    return unit.numpy(), scale.numpy(), NEAR[unit.dtype]


def _targets(rows: Rows) -> tuple[Any, Any]:
    y, noise = (x.detach().contiguous().numpy() for x in (rows.y, rows.noise))
    return y, noise


Settings = tuple[ModuleType, DepthMap, Tensor, Tensor]
"""The loops, the map of correlations, the targets and the members."""


class _LogDensity(Function):
    """The sum of log densities and, at the same time, its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        scale: Tensor,
        time: Tensor,
        noise: Tensor,
        settings: Settings,
    ) -> Tensor:
        y = settings[2]
        (value, failed), gradients = _gradients(unit, scale, time, noise, settings, y[:0])
        if failed > 0:
            raise _failure()
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(grad * x for x in ctx.saved_tensors), None


class _Means(Function):
    """The means, whose gradient takes one more pass."""

    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        scale: Tensor,
        time: Tensor,
        noise: Tensor,
        settings: tuple[Tensor, Settings],
    ) -> Tensor:
        means, ctx.settings = settings
        ctx.save_for_backward(unit, scale, time, noise)
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        unit, scale, time, noise = ctx.saved_tensors
        _, gradients = _gradients(unit, scale, time, noise, ctx.settings, grad)
        return *gradients, None


def _gradients(
    unit: Tensor, scale: Tensor, time: Tensor, noise: Tensor, settings: Settings, weights: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """What the loops ``densities`` add up: the last of its sums, and the gradients."""
    loops, spec, y, members = settings
    tables, limit = gradient_tables(time.detach(), unit.dtype, spec)
    arguments = (
        _arrays(unit, scale), (value_table(time.detach(), unit.dtype, spec), tables), limit,
        spec.is_tangent, _targets(Rows(y, y, noise)), FLOOR[unit.dtype], members.numpy(),
        weights.contiguous().numpy(),
    )  # fmt: skip
    ranges = row_ranges(len(members), members.shape[1] ** 2)
    shapes: Sequence[Any] = (unit.shape, scale.shape, time.shape, noise.shape, (2,))
    sums = [tuple(np.zeros(shape, y.numpy().dtype) for shape in shapes) for _ in ranges]
    run = functools.partial(loops.densities, *arguments)
    in_threads([functools.partial(run, own, *part) for own, part in zip(sums, ranges, strict=True)])
    *gradients, value = [torch.from_numpy(sum(parts)) for parts in zip(*sums, strict=True)]
    return value, gradients
