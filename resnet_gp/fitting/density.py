"""A log density at many points at once, in threads that share tables and no model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from resnet_gp.fitting.optimiser import free_parameters, gradient_of, set_values
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.memory import keep_freed_memory
from resnet_gp.models.exact import ExactRegression
from resnet_gp.threads import torch_threads

Array = NDArray[np.float64]
Result = TypeVar("Result")
Objective = Callable[[], Tensor]


class Density:
    """log p(y, raw parameters), or another objective of a model, evaluated in threads.

    Args:
        model: is copied, once for each thread.
        objective: makes the function to evaluate from a copy.
        pool: the threads, see ``density``.
        advance: called after each evaluation.
    """

    def __init__(
        self,
        model: ExactRegression,
        objective: Callable[[ExactRegression], Objective],
        pool: ThreadPoolExecutor,
        workers: int,
        advance: Callable[[], object],
    ) -> None:
        self._pool, self._advance = pool, advance
        self._idle: SimpleQueue[tuple[list[Parameter], Objective]] = SimpleQueue()
        for _ in range(workers):
            own = copy.deepcopy(model)
            self._idle.put((free_parameters(own), objective(own)))

    def _map(
        self, function: Callable[[list[Parameter], Objective], Result], raws: Iterable[Array]
    ) -> list[Result]:
        """Call a function of a copy's parameters and objective at each vector, in order."""

        def call(raw: Array) -> Result:
            parameters, objective = self._idle.get()
            try:
                set_values(parameters, raw)
                return function(parameters, objective)
            finally:
                self._idle.put((parameters, objective))

        results = []
        for result in self._pool.map(call, raws):
            self._advance()
            results.append(result)
        return results

    def values(self, raws: Array) -> Array:
        """The density at each row of ``S x p``; -inf where it cannot be computed."""
        return np.array(self._map(_value, raws))

    def gradients(self, raws: Array) -> Array:
        """Its gradient at each row, ``S x p``.

        Raises:
            DomainError, torch.linalg.LinAlgError: it cannot be computed at one of them.
        """
        return np.array(self._map(_gradient, raws))


def _value(_: list[Parameter], objective: Objective) -> float:
    try:
        with torch.no_grad():
            value = float(objective())
    except IMPOSSIBLE:
        return -np.inf
    return value if np.isfinite(value) else -np.inf


def _gradient(parameters: list[Parameter], objective: Objective) -> Array:
    gradient = gradient_of(objective, parameters)[1]
    if not np.isfinite(gradient).all():
        raise torch.linalg.LinAlgError("the gradient is not finite in this precision")
    return gradient


@contextmanager
def density(
    model: ExactRegression,
    objective: Callable[[ExactRegression], Objective],
    advance: Callable[[], object],
) -> Iterator[Density]:
    """A ``Density`` with as many threads as torch uses, each of which computes serially."""
    keep_freed_memory()
    workers = torch.get_num_threads()
    with (
        torch_threads(1),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            yield Density(model, objective, pool, workers, advance)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def curvature(gradients: Callable[[Array], Array], at: Array, step: float = 1e-3) -> Array:
    """Minus the second derivatives, ``p x p``, by central differences of gradients."""
    steps = step * np.eye(len(at))
    found = gradients(np.concatenate([at - steps, at + steps]))
    below, above = found[: len(at)], found[len(at) :]
    matrix = (below - above) / (2 * step)
    return np.asarray((matrix + matrix.T) / 2)
