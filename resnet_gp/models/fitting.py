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

Array = NDArray[np.float64]

# Where the covariance is not positive definite in floating point; far above any real value.
_IMPOSSIBLE = 1e15
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
    """

    value: float
    iterations: int
    converged: bool
    message: str
    values: list[float]


def maximise(
    objective: Callable[[], Tensor],
    module: Module,
    bounds: dict[str, tuple[float, float]],
    candidates: Sequence[Array],
    restarts: Sequence[Array] = (),
    max_iter: int = 200,
    least_gain: float = 0.0,
    screening: int = 15,
) -> FitResult:
    """Maximise ``objective()`` over the free parameters of ``module``.

    Each candidate gets a few iterations, and the best of them is run to convergence; each restart
    is run to convergence by itself. The parameters are left at the best point of all.

    Args:
        objective: a scalar tensor that depends on ``module``; may raise ``LinAlgError`` where it
            cannot be computed.
        module: the owner of the parameters.
        bounds: raw bounds by parameter name; parameters without bounds are free.
        candidates: raw parameters, concatenated in the order of ``named_parameters``.
        restarts: the same.
        max_iter: iterations of each run.
        least_gain: a run ends where an iteration gains less than this, as well as where it gains
            less than 2e-9 of the objective. Only for starts that are known to be good: elsewhere a
            slow stretch is taken for the summit.
        screening: iterations that tell a good candidate from a bad one.

    Raises:
        torch.linalg.LinAlgError: the objective cannot be computed at the best point of any run.
    """
    box = [
        bounds.get(name, (-np.inf, np.inf))
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
        for _ in range(parameter.numel())
    ]

    def negative(raw: Array) -> tuple[float, Array]:
        try:
            value, gradient = value_and_gradient(objective, module, raw)
        except torch.linalg.LinAlgError:
            return _IMPOSSIBLE, np.zeros_like(raw)
        return -value, -gradient

    def run(start: Array, iterations: int) -> OptimizeResult:
        start = np.clip(start, *np.transpose(box))
        options = {"maxiter": iterations, "ftol": _RELATIVE_GAIN}
        value = math.inf

        def stop_where_little_is_gained(intermediate_result: OptimizeResult) -> None:
            nonlocal value
            before, value = value, float(intermediate_result.fun)
            if before - value < least_gain:
                raise StopIteration

        def search(start: Array) -> OptimizeResult:
            result = minimize(
                negative,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=box,
                options=options,
                callback=stop_where_little_is_gained,
            )
            if result.status == _STOPPED:
                result.success = True
                result.message = f"an iteration gained less than {least_gain:g}"
            return result

        result = search(start)
        while result.status == _LINE_SEARCH_FAILED:  # its picture of the curvature may be stale
            before, result = result, search(result.x)
            result.nit += before.nit
            if before.fun - result.fun < _FLAT:
                result.success = True  # no better value within rounding
                break
        return result

    starts = list(candidates)
    if len(starts) > 1:
        screened = [run(start, min(screening, max_iter)) for start in starts]
        starts = [min(screened, key=lambda result: float(result.fun)).x]
    runs = [run(start, max_iter) for start in [*starts, *restarts]]
    best = min(runs, key=lambda result: float(result.fun))
    if best.fun >= _IMPOSSIBLE:
        raise torch.linalg.LinAlgError("the covariance is not positive definite anywhere")
    set_raw(module, best.x)
    return FitResult(
        value=-float(best.fun),
        iterations=int(best.nit),
        converged=bool(best.success),
        message=str(best.message),
        values=[-float(result.fun) for result in runs],
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
