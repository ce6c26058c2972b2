"""Maximise a marginal likelihood where each weight variance needs new tables.

Tables of kernels that are not homogeneous take seconds for each pair of w and sigma_b^2, whatever
the number of rows. Here these two move on a lattice, by factors of two, and L-BFGS-B optimises the
other hyperparameters at each of its points; all of them, and later fits, share the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module, Parameter

from resnet_gp.fitting.optimiser import (
    FitResult,
    Watch,
    get_raw,
    maximise,
    set_raw,
    value_and_gradient,
)
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.kernels.resnet_kernel import ResNetKernel

Array = NDArray[np.float64]

Point = tuple[int, ...]

_STEP = math.log(2)
_LEAST_GAIN = 0.5  # nats that the gradient must promise at the next lattice point


def tabulated_parameters(module: Module) -> dict[str, Parameter]:
    """The free parameters, by name, for whose values kernels make tables."""
    return {
        f"{path}.{name}" if path else name: parameter
        for path, kernel in module.named_modules()
        if isinstance(kernel, ResNetKernel) and kernel.is_tabulated
        for name, parameter in kernel.named_parameters(recurse=False)
        if name in ("raw_weight_variance", "raw_block_bias_variance") and parameter.requires_grad
    }


def tabulated_entries(module: Module) -> NDArray[np.bool_]:
    """Which entries of ``get_raw`` belong to ``tabulated_parameters``."""
    tabulated = tabulated_parameters(module)
    free = [(name, p.numel()) for name, p in module.named_parameters() if p.requires_grad]
    return np.repeat([name in tabulated for name, _ in free], [size for _, size in free])


def maximise_on_lattice(
    objective: Callable[[], Tensor],
    module: Module,
    bounds: dict[str, tuple[float, float]],
    candidates: Sequence[Array],
    restarts: Sequence[Array] = (),
    max_iter: int = 200,
    *,
    watch: Watch | None = None,
    **options: Any,
) -> FitResult:
    """``maximise``, with the tabulated parameters on a lattice; without any, ``maximise`` itself.

    All candidates and restarts run at the lattice point next to the first candidate. From the best
    of them the search walks to neighbouring points, with one run at each, while the gradient in the
    tabulated parameters promises half a nat there and the run confirms a gain.
    """
    tabulated = tabulated_parameters(module)
    if not tabulated:
        return maximise(
            objective, module, bounds, candidates, restarts, max_iter, watch=watch, **options
        )
    on_lattice = tabulated_entries(module)
    box = np.array([bounds.get(name, (-np.inf, np.inf)) for name in tabulated])
    ends = np.ceil(box[:, 0] / _STEP), np.floor(box[:, 1] / _STEP)

    def join(point: Point, rest: Array) -> Array:
        raw = np.empty(len(on_lattice))
        raw[on_lattice], raw[~on_lattice] = np.multiply(point, _STEP), rest
        return raw

    def neighbours(point: Point, raw: Array) -> list[Point]:
        _, gradient = value_and_gradient(objective, module, raw)
        slopes = gradient[on_lattice]
        moved = []
        for axis in np.argsort(-np.abs(slopes)):
            k = point[axis] + int(np.sign(slopes[axis]))
            if abs(slopes[axis]) * _STEP > _LEAST_GAIN and ends[0][axis] <= k <= ends[1][axis]:
                moved.append((*point[:axis], k, *point[axis + 1 :]))
        return moved

    def run(point: Point, starts: list[Array], others: list[Array]) -> tuple[FitResult, Array]:
        set_raw(module, join(point, starts[0]))
        told = None if watch is None else lambda rest, value: watch(join(point, rest), value)
        with _frozen(tabulated.values()):
            found = maximise(
                objective, module, bounds, starts, others, max_iter, watch=told, **options
            )
        return found, get_raw(module)

    point = _to_point(candidates[0][on_lattice], ends)
    starts, others = ([raw[~on_lattice] for raw in group] for group in (candidates, restarts))
    best, raw = run(point, starts, others)
    values, seen = best.values, {point}
    try:
        waiting = [] if best.interrupted else neighbours(point, raw)
        while waiting and not best.interrupted:
            neighbour = waiting.pop(0)
            if neighbour in seen:
                continue
            seen.add(neighbour)
            with suppress(*IMPOSSIBLE):
                found, reached = run(neighbour, [raw[~on_lattice]], [])
                values = [*values, *found.values]
                if found.value > best.value:
                    best, raw = found, reached
                    waiting = [] if found.interrupted else neighbours(neighbour, raw)
                elif found.interrupted:
                    best = best.as_interrupted()
    except KeyboardInterrupt:
        best = best.as_interrupted()
    set_raw(module, raw)
    return replace(best, values=values)


def _to_point(raw: Array, ends: tuple[Array, Array]) -> Point:
    return tuple(int(k) for k in np.clip(np.round(raw / _STEP), *ends))


@contextmanager
def _frozen(parameters: Iterable[Parameter]) -> Iterator[None]:
    parameters = list(parameters)
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
