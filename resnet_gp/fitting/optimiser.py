"""Maximise a marginal likelihood: SciPy's L-BFGS-B on the raw parameters of a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor
from torch.nn import Module

from resnet_gp.flow.domain import IMPOSSIBLE, DomainError
from resnet_gp.memory import keep_freed_memory

Array = NDArray[np.float64]

# Loss where a run starts at a point that cannot be computed; far above any real value.
_IMPOSSIBLE = 1e15
# Any other impossible point gets a loss above that of the last iterate, by this share of the drop
# that the gradient promises, so that a line search takes a quarter of its step. With a constant as
# large as _IMPOSSIBLE it would take 1e-12 of it, and the run would end.
_WALL = 0.1
_LINE_SEARCH_FAILED = 2
_STOPPED = 99  # by the callback
_RELATIVE_GAIN = 2e-9  # an iteration that gains less of the objective ends a run
_FLAT = 1e-3  # nats; a smaller gain is not worth another search


class Outcome(Enum):
    """How a search for hyperparameters ended."""

    CONVERGED = "L-BFGS-B's criterion is met, or its line search finds nothing better in rounding"
    OUT_OF_ITERATIONS = "the iterations that were asked for ran out"
    CUT_SHORT = "ended before convergence, as planned, to save time"
    INTERRUPTED = "Ctrl-C ended the search; the result is the best point seen"
    NOT_SEARCHED = "the hyperparameters were given"


@dataclass(frozen=True)
class FitResult:
    """Result of a search: the best of all its runs.

    Attributes:
        value: maximum found, in nats.
        iterations: L-BFGS-B iterations of the best run.
        outcome: how the search ended.
        message: L-BFGS-B's own words.
        values: maximum of each run.
        trace: objective after each iteration of the best run.
    """

    value: float
    iterations: int
    outcome: Outcome
    message: str
    values: list[float]
    trace: list[float]

    @property
    def converged(self) -> bool:
        return self.outcome in (Outcome.CONVERGED, Outcome.NOT_SEARCHED)

    @property
    def interrupted(self) -> bool:
        return self.outcome is Outcome.INTERRUPTED

    @classmethod
    def not_searched(cls) -> FitResult:
        """Result of a fit whose hyperparameters were given."""
        return cls(math.nan, 0, Outcome.NOT_SEARCHED, "nothing was searched", [], [])

    def after(self, first: FitResult) -> FitResult:
        """This result, of a search that went on where the first one had ended."""
        return replace(
            self, iterations=first.iterations + self.iterations, trace=first.trace + self.trace
        )

    def as_interrupted(self) -> FitResult:
        """This result, of a search that Ctrl-C ended later."""
        return replace(self, outcome=Outcome.INTERRUPTED, message="interrupted")


Hyperparameters = dict[str, Tensor]
"""Raw parameters by the names that ``named_parameters`` gives them.

Those of a fit also say, as "kernel", which of the search's kernels they belong to.
"""

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

    Each candidate gets a few iterations, and the best one continues to convergence. Each restart
    runs to convergence by itself. The parameters are left at the best point of all runs, also if
    Ctrl-C ends the search.

    Args:
        objective: returns a scalar tensor that depends on ``module``; may raise any of
            ``IMPOSSIBLE`` where it cannot be computed.
        module: owns the parameters.
        bounds: raw bounds by parameter name; other parameters are unbounded.
        candidates: raw parameters, concatenated in the order of ``named_parameters``.
        restarts: likewise.
        max_iter: most iterations of each run, those of the screening included.
        least_gain: a run ends once an iteration gains less than this, or less than 2e-9 of the
            objective. Only for good starts: elsewhere it mistakes a slow stretch for the maximum.
        screening: iterations after which candidates are compared.
        watch: called after each iteration.
        unit: divides the objective that the optimiser sees. Its first step is as long as the
            gradient; for a good start, give the number of rows.
        memory: steps from which the optimiser estimates the curvature.

    Raises:
        KeyboardInterrupt: Ctrl-C came before the first value.
        DomainError, torch.linalg.LinAlgError: the objective could not be computed anywhere.
    """
    keep_freed_memory()
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
            best = min(screened, key=_loss)
            left = max_iter - int(best.nit)
            runs.append(search.go_on(best, left) if left > 0 else best)
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
    if _loss(best) > search.best_loss:  # a run or a screening passed a better point
        best.x, best.fun = search.best, search.best_loss
    set_raw(module, best.x)
    return FitResult(
        value=-_loss(best),
        iterations=int(best.nit),
        outcome=Outcome.CONVERGED if best.success else Outcome.OUT_OF_ITERATIONS,
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
        """Run to convergence, and start again after a failed line search."""
        start = np.clip(start, *np.transpose(self.box))
        self._last, self._trace = math.inf, []
        result = self._minimise(start, iterations)
        while result.status == _LINE_SEARCH_FAILED and result.nit < iterations:
            # its estimate of the curvature may be stale
            before, result = result, self._minimise(result.x, iterations - int(result.nit))
            result.nit += before.nit
            if before.fun - result.fun < _FLAT:
                result.success = True  # no better value within rounding
                break
        result.trace = self._trace
        return result

    def go_on(self, before: OptimizeResult, iterations: int) -> OptimizeResult:
        """Continue a run; both count as one."""
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
            outcome=Outcome.INTERRUPTED,
            message="interrupted",
            values=[-_loss(result) for result in runs] + [-self.best_loss],
            trace=self._trace,
        )


def value_and_gradient(
    objective: Callable[[], Tensor], module: Module, raw: Array
) -> tuple[float, Array]:
    """The objective and its gradient at raw parameters; ``module`` is left there."""
    parameters = free_parameters(module)
    set_values(parameters, raw)
    return gradient_of(objective, parameters)


def gradient_of(
    objective: Callable[[], Tensor], parameters: list[torch.nn.Parameter]
) -> tuple[float, Array]:
    """The objective and its gradient at the present values of some parameters."""
    with torch.inference_mode(False), torch.enable_grad():
        value = objective()
        gradients = torch.autograd.grad(value, parameters)
    flat = torch.cat([gradient.detach().reshape(-1) for gradient in gradients])
    return float(value.detach()), flat.to("cpu", torch.float64).numpy()


def free_parameters(module: Module) -> list[torch.nn.Parameter]:
    """The parameters to learn, in the order of ``named_parameters``."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def named_of(shapes: Mapping[str, torch.Size], raw: Array) -> Hyperparameters:
    """Parameters by name, from their shapes and their values in the order of ``get_raw``."""
    pieces = torch.from_numpy(raw.copy()).split([shape.numel() for shape in shapes.values()])
    return {
        name: piece.reshape(shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


def raw_of(module: Module, known: Hyperparameters) -> Array:
    """The free parameters of ``module`` in the order of ``get_raw``, from values by name.

    Raises:
        ValueError: names or shapes are not those of the module.
    """
    wanted = dict(module.named_parameters())
    shapes = {name: tuple(value.shape) for name, value in known.items() if name not in wanted}
    unlike = [f"{name} of shape {shape} has no place" for name, shape in shapes.items()]
    for name, parameter in wanted.items():
        if not parameter.requires_grad:
            continue
        if name not in known:
            unlike.append(f"{name} is missing")
        elif known[name].shape != parameter.shape:
            there, here = tuple(known[name].shape), tuple(parameter.shape)
            unlike.append(f"{name} has shape {there}, not {here}")
    if unlike:
        raise ValueError(
            "the hyperparameters to start from are of another model: " + "; ".join(unlike)
        )
    return torch.cat(
        [known[n].reshape(-1).cpu().double() for n, p in wanted.items() if p.requires_grad]
    ).numpy()


def get_raw(module: Module) -> Array:
    """The free parameters of a module as one float64 vector."""
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in free_parameters(module)])
    return flat.to("cpu", torch.float64).numpy().copy()


def set_raw(module: Module, raw: Array) -> None:
    """The inverse of ``get_raw``."""
    set_values(free_parameters(module), raw)


@torch.no_grad()
def set_values(parameters: list[torch.nn.Parameter], raw: Array) -> None:
    """Set parameters from one vector of all their values."""
    pieces = torch.from_numpy(np.ascontiguousarray(raw)).split([p.numel() for p in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.copy_(piece.reshape(parameter.shape))
