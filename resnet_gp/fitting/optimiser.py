"""Maximum marginal likelihood: SciPy's L-BFGS-B on the raw parameters of a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor
from torch.nn import Module

from resnet_gp.flow.domain import IMPOSSIBLE, DomainError

Array = NDArray[np.float64]

_IMPOSSIBLE = 1e15  # the loss where a run starts at an impossible point; far above any real value
# Any other impossible point gets a loss above that of the last iterate, by this part of the drop
# that the gradient promises: a line search then takes a quarter of its step. With a constant as
# large as _IMPOSSIBLE it takes 1e-12 of it, and the run ends.
_WALL = 0.1
_LINE_SEARCH_FAILED = 2
_STOPPED = 99  # by the callback
_RELATIVE_GAIN = 2e-9  # of the objective; less in one iteration ends a run
_FLAT = 1e-3  # nats; less is nothing to search for


@dataclass(frozen=True)
class FitResult:
    """The best of all runs.

    Attributes:
        value: the maximum found.
        iterations: L-BFGS-B iterations of the best run.
        converged: whether the best run met L-BFGS-B's own criterion, or stopped where its line
            search finds nothing better within rounding.
        message: what L-BFGS-B said of it.
        values: what each run reached.
        trace: the objective after each iteration of the best run.
        interrupted: whether Ctrl-C ended the search; then this is the best point seen.
        as_planned: whether it was to end before it converged, to save time.
    """

    value: float
    iterations: int
    converged: bool
    message: str
    values: list[float]
    trace: list[float]
    interrupted: bool = False
    as_planned: bool = False


Watch = Callable[[Array, float], None]
"""Called after each iteration with the raw parameters and the objective."""


def maximise(
    objective: Callable[[], Tensor],
    module: Module,
    bounds: dict[str, tuple[float, float]],
    candidates: Sequence[Array],
    restarts: Sequence[Array] = (),
    max_iter: int = 200,
    least_gain: float = 0.0,
    screening: int = 15,
    watch: Watch | None = None,
    unit: float = 1.0,
    memory: int = 10,
) -> FitResult:
    """Maximise ``objective()`` over the free parameters of ``module``.

    Each candidate gets a few iterations, and the best of them is run to convergence; each restart
    is run to convergence by itself. The parameters are left at the best point of all, also when
    Ctrl-C ends the search.

    Args:
        objective: a scalar tensor that depends on ``module``; may raise any of ``IMPOSSIBLE``
            where it cannot be computed.
        module: the owner of the parameters.
        bounds: raw bounds by parameter name; parameters without bounds are free.
        candidates: raw parameters, concatenated in the order of ``named_parameters``.
        restarts: the same.
        max_iter: iterations of each run, after the screening.
        least_gain: a run ends where an iteration gains less than this, as well as where it gains
            less than 2e-9 of the objective. Only for starts that are known to be good: elsewhere a
            slow stretch is taken for the summit.
        screening: iterations that tell a good candidate from a bad one.
        watch: is told of each iteration.
        unit: the objective is divided by this where the optimiser sees it. Its first step is as
            long as the gradient: from a start that is known to be good, give the number of rows.
        memory: steps from which the optimiser takes the curvature.

    Raises:
        KeyboardInterrupt: before there was any value to keep.
        DomainError, torch.linalg.LinAlgError: the objective cannot be computed anywhere.
    """
    box = [
        bounds.get(name, (-np.inf, np.inf))
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
        for _ in range(parameter.numel())
    ]

    search = _Search(objective, module, box, least_gain, watch, unit, memory)
    runs: list[OptimizeResult] = []
    try:
        if len(candidates) > 1:
            screened = [search.run(start, min(screening, max_iter)) for start in candidates]
            runs.append(search.go_on(min(screened, key=_loss), max_iter))
        else:
            runs.extend(search.run(start, max_iter) for start in candidates)
        runs.extend(search.run(start, max_iter) for start in restarts)
    except KeyboardInterrupt:
        if not search.best_loss < _IMPOSSIBLE:
            raise
        return search.interrupted(runs)
    if not search.best_loss < _IMPOSSIBLE:
        if isinstance(search.failure, DomainError):
            raise search.failure
        raise torch.linalg.LinAlgError("the covariance is not positive definite anywhere")
    best = min(runs, key=_loss)
    if _loss(best) > search.best_loss:  # it ended worse than where it, or a screening, had been
        best.x, best.fun = search.best, search.best_loss
    set_raw(module, best.x)
    return FitResult(
        value=-_loss(best),
        iterations=int(best.nit),
        converged=bool(best.success),
        message=str(best.message),
        values=[-_loss(result) for result in runs],
        trace=best.trace,
    )


def _loss(result: OptimizeResult) -> float:
    return float(result.fun)


class _Search:
    """Runs of L-BFGS-B on one objective, and the best point that any of them saw."""

    def __init__(
        self,
        objective: Callable[[], Tensor],
        module: Module,
        box: list[tuple[float, float]],
        least_gain: float,
        watch: Watch | None,
        unit: float,
        memory: int,
    ) -> None:
        self.objective, self.module, self.box = objective, module, box
        self.least_gain, self.watch, self.unit, self.memory = least_gain, watch, unit, memory
        self.best_loss, self.best = math.inf, np.empty(0)
        self.failure: Exception | None = None
        self._trace: list[float] = []

    def run(self, start: Array, iterations: int) -> OptimizeResult:
        """To convergence, searching again where a line search failed."""
        start = np.clip(start, *np.transpose(self.box))
        self._last, self._trace = math.inf, []
        result = self._minimise(start, iterations)
        while result.status == _LINE_SEARCH_FAILED:  # its picture of the curvature may be stale
            before, result = result, self._minimise(result.x, iterations)
            result.nit += before.nit
            if before.fun - result.fun < _FLAT:
                result.success = True  # no better value within rounding
                break
        result.trace = self._trace
        return result

    def go_on(self, before: OptimizeResult, iterations: int) -> OptimizeResult:
        """A run from where another one ended, counted as one run."""
        result = self.run(before.x, iterations)
        result.nit += before.nit
        result.trace = [*before.trace, *result.trace]
        return result

    def _minimise(self, start: Array, iterations: int) -> OptimizeResult:
        self._iterate: tuple[Array, float, Array] | None = None
        result = minimize(
            self._negative,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=self.box,
            options={"maxiter": iterations, "ftol": _RELATIVE_GAIN, "maxcor": self.memory},
            callback=self._after_iteration,
        )
        result.fun = _loss(result) * self.unit
        if result.status == _STOPPED:
            result.success = True
            result.message = f"an iteration gained less than {self.least_gain:g}"
        return result

    def _negative(self, raw: Array) -> tuple[float, Array]:
        try:
            value, gradient = value_and_gradient(self.objective, self.module, raw)
        except IMPOSSIBLE as error:
            self.failure = error
            return self._wall(raw)
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            return self._wall(raw)
        if -value < self.best_loss:
            self.best_loss, self.best = -value, raw.copy()
        self._evaluated = raw.copy(), -value / self.unit, -gradient / self.unit
        if self._iterate is None:
            self._iterate = self._evaluated
        return self._evaluated[1:]

    def _wall(self, raw: Array) -> tuple[float, Array]:
        if self._iterate is None:
            return _IMPOSSIBLE, np.zeros_like(raw)
        iterate, loss, gradient = self._iterate
        return loss + _WALL * abs(float(gradient @ (raw - iterate))), np.zeros_like(raw)

    def _after_iteration(self, intermediate_result: OptimizeResult) -> None:
        self._iterate = self._evaluated
        before, self._last = self._last, _loss(intermediate_result) * self.unit
        self._trace.append(-self._last)
        if self.watch is not None:
            self.watch(intermediate_result.x, -self._last)
        if before - self._last < self.least_gain:
            raise StopIteration

    def interrupted(self, runs: list[OptimizeResult]) -> FitResult:
        set_raw(self.module, self.best)
        return FitResult(
            value=-self.best_loss,
            iterations=len(self._trace),
            converged=False,
            message="interrupted",
            values=[-_loss(result) for result in runs] + [-self.best_loss],
            trace=self._trace,
            interrupted=True,
        )


def value_and_gradient(
    objective: Callable[[], Tensor], module: Module, raw: Array
) -> tuple[float, Array]:
    """The objective and its gradient at raw parameters; ``module`` is left there."""
    set_raw(module, raw)
    parameters = free_parameters(module)
    with torch.enable_grad():
        value = objective()
        gradients = torch.autograd.grad(value, parameters)
    flat = torch.cat([gradient.detach().reshape(-1) for gradient in gradients])
    return float(value.detach()), flat.to("cpu", torch.float64).numpy()


def free_parameters(module: Module) -> list[torch.nn.Parameter]:
    """The parameters that are to be learned, in the order of ``named_parameters``."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def get_raw(module: Module) -> Array:
    """The free parameters of a module as one float64 vector."""
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in free_parameters(module)])
    return flat.to("cpu", torch.float64).numpy().copy()


@torch.no_grad()
def set_raw(module: Module, raw: Array) -> None:
    """The inverse of ``get_raw``."""
    parameters = free_parameters(module)
    pieces = torch.from_numpy(np.ascontiguousarray(raw)).split([p.numel() for p in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.copy_(piece.reshape(parameter.shape))
