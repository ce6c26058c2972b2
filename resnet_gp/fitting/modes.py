"""The modes of the hyperparameters under one or several kernels, and which kernel is likely."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.density import Density, curvature, density
from resnet_gp.fitting.exact_mode import fit_exact
from resnet_gp.fitting.importance import Proposal
from resnet_gp.fitting.inference import Training, number_of
from resnet_gp.fitting.lattice import tabulated_entries, tabulated_parameters
from resnet_gp.fitting.optimiser import (
    FitResult,
    Hyperparameters,
    free_parameters,
    get_raw,
    set_raw,
    value_and_gradient,
)
from resnet_gp.fitting.search import Search
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.priors import prior_density
from resnet_gp.threads import threads_for, torch_threads

Array = NDArray[np.float64]

# Precision of a raw parameter that has no prior: five units are one standard deviation.
_LEAST_PRIOR_CURVATURE = 0.04
# What one kernel's search may raise where others go on.
_PARTIAL = (*IMPOSSIBLE, KeyboardInterrupt)


@dataclass(frozen=True)
class Mode:
    """Where the search for the hyperparameters of one kernel ended.

    Attributes:
        number: of the kernel among those of the search.
        search: with this kernel alone.
        model: at the mode.
        result: of the search.
    """

    number: int
    search: Search
    model: ExactRegression
    result: FitResult


def find_modes(
    training: Training, search: Search, known: Hyperparameters | None = None
) -> list[Mode]:
    """Fit each kernel of a search to all of these rows; Ctrl-C ends with the best so far.

    Args:
        training: in standard units.
        search: with one or several kernels.
        known: hyperparameters of one of the kernels, which starts there, or keeps them if the
            search is fixed: of the kernel that they name, if they fit, else of the first that they
            fit. A fixed search has one mode.

    Raises:
        ValueError: ``known`` belongs to none of the kernels.
    """
    each = list(enumerate(search.each()))
    mine = None
    if known is not None:
        named = number_of(known) if "kernel" in known else 0
        known = shared_hyperparameters(known)
        likely = sorted(each, key=lambda one: one[0] != named)
        mine = next((i for i, one in likely if one.fits(training, known)), 0)
    if search.fixed:
        each = [each[mine or 0]]
    if len(each) == 1:
        return [_find(*each[0], training, known if each[0][0] == mine else None)]
    return _in_threads([(i, one, training, known if i == mine else None) for i, one in each])


def find_modes_of(searches: Sequence[tuple[Search, Training]]) -> list[Mode]:
    """Fit one kernel to each of several versions of the same rows; see ``find_modes``."""
    return _in_threads([(i, one, rows, None) for i, (one, rows) in enumerate(searches)])


def shared_hyperparameters(known: Hyperparameters) -> Hyperparameters:
    """Those of the kernel and the noise, which every inference has."""
    shared = ("covar_module.", "likelihood.")
    return {name: value for name, value in known.items() if name.startswith(shared)}


def _find(number: int, search: Search, training: Training, known: Hyperparameters | None) -> Mode:
    return Mode(number, search, *fit_exact(training, search, known))


def _in_threads(
    tasks: list[tuple[int, Search, Training, Hyperparameters | None]],
) -> list[Mode]:
    """One search for each kernel, at the same time where torch uses several threads.

    Small matrices leave threads idle within one search. Ctrl-C stops all after their next step.
    """
    stop, workers = Event(), min(len(tasks), torch.get_num_threads())
    tasks = [
        (number, search.by_itself(stop), training, known)
        for number, search, training, known in tasks
    ]
    share = max(1, torch.get_num_threads() // workers)
    with torch_threads(share), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_find, *task) for task in tasks]
        try:
            wait(futures)
        except KeyboardInterrupt:
            stop.set()
            wait(futures)
    errors = [error for one in futures if (error := one.exception()) is not None]
    if len(errors) == len(futures) or any(not isinstance(e, _PARTIAL) for e in errors):
        raise errors[0]
    modes = [one.result() for one in futures if one.exception() is None]
    if stop.is_set():
        modes[-1] = replace(modes[-1], result=modes[-1].result.as_interrupted())
    return modes


def most_probable(modes: list[Mode]) -> Mode:
    """The mode of the kernel with the largest evidence, by Laplace's approximation.

    Without priors there is no evidence; then by the Bayesian information criterion (Schwarz 1978).
    An interrupted search decides by the values at the modes.
    """
    if len(modes) == 1:
        return modes[0]
    best = max(modes, key=lambda mode: mode.result.value)
    best = replace(best, result=best.result.as_interrupted())
    if any(mode.result.interrupted for mode in modes):
        return best
    if not modes[0].search.with_priors:
        return max(modes, key=_information)

    def evidence(mode: Mode) -> float:
        try:
            with around(mode) as (_, proposal):
                return proposal.log_evidence(mode.result.value)
        except IMPOSSIBLE:  # next to the mode
            return -math.inf

    try:
        return max(modes, key=evidence)
    except KeyboardInterrupt:
        return best


def _information(mode: Mode) -> float:
    """The Bayesian information criterion over -2."""
    rows = len(mode.model.train_targets)
    return mode.result.value - 0.5 * len(get_raw(mode.model)) * math.log(rows)


def higher(mode: Mode, free: Array) -> Mode:
    """The mode to which a search leads from a likelier point.

    Args:
        mode: of the first search.
        free: the point, without tabulated parameters; see ``around``.
    """
    search, start = mode.search, all_raw(mode.model, free)
    with threads_for(len(mode.model.train_targets)):
        result = search.maximise(mode.model, [start], keep=True)
    return replace(mode, result=result)


@contextmanager
def around(mode: Mode) -> Iterator[tuple[Density, Proposal]]:
    """The posterior of the hyperparameters in threads, and a law of its width at the mode.

    Its vectors leave out parameters for whose values kernels make tables: these stay at the mode.
    """
    model = copy.deepcopy(mode.model)
    for parameter in tabulated_parameters(model).values():
        parameter.requires_grad_(False)
    at = get_raw(model)
    density_of_prior = prior_density(model)

    def all_free() -> Tensor:  # depends on all parameters, whether they have a prior or not
        return density_of_prior() + 0 * torch.stack([p.sum() for p in free]).sum()

    free = free_parameters(model)
    prior = curvature(
        lambda raws: np.array([value_and_gradient(all_free, model, raw)[1] for raw in raws]), at
    )
    set_raw(model, at)
    widths = np.maximum(prior.diagonal(), _LEAST_PRIOR_CURVATURE)
    if mode.search.spec.groups is not None:  # related lengthscales
        widths = prior + np.diag(widths - prior.diagonal())
    with density(model, mode.search.objective, mode.search.bar.update) as posterior:
        yield posterior, Proposal.of(at, curvature(posterior.gradients, at), widths)


def all_raw(mode: ExactRegression, free: Array) -> Array:
    """All raw parameters of a model from those that were drawn; the others stay at the mode."""
    raw = get_raw(mode)
    raw[~tabulated_entries(mode)] = free
    return raw
