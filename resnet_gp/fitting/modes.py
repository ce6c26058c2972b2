"""The modes of the hyperparameters under one or several kernels, and which kernel is likely."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.density import Density, curvature, density
from resnet_gp.fitting.exact_mode import fit_exact
from resnet_gp.fitting.importance import Proposal
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.lattice import tabulated_parameters
from resnet_gp.fitting.optimiser import (
    FitResult,
    Hyperparameters,
    free_parameters,
    get_raw,
    set_raw,
    value_and_gradient,
)
from resnet_gp.fitting.search import Search
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.priors import log_prior

Array = NDArray[np.float64]

# Precision of a raw parameter that has no prior: five units are one standard deviation.
_LEAST_PRIOR_CURVATURE = 0.04


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
    """Fit each kernel of a search to all of these rows; Ctrl-C ends with those that are done.

    Args:
        training: in standard units.
        search: with one or several kernels.
        known: hyperparameters of one of the kernels, which starts there, or keeps them if the
            search is fixed. A fixed search has one mode.

    Raises:
        ValueError: ``known`` belongs to none of the kernels.
    """
    if known is not None:
        known = {name: value for name, value in known.items() if name != "inducing_points"}
    each = list(enumerate(search.each()))
    mine = None
    if known is not None:
        mine = next((i for i, one in each if one.fits(training, known)), 0)
    if search.fixed:
        each = [each[mine or 0]]
    modes: list[Mode] = []
    for number, one in each:
        try:
            model, result = fit_exact(training, one, known if number == mine else None)
        except KeyboardInterrupt:
            if not modes:
                raise
            modes[-1] = replace(modes[-1], result=modes[-1].result.but_interrupted())
            break
        modes.append(Mode(number, one, model, result))
        if result.interrupted:
            break
    return modes


def most_probable(modes: list[Mode]) -> Mode:
    """The mode of the kernel with the largest evidence, by Laplace's approximation.

    Without priors there is no evidence; then by Schwarz' criterion. An interrupted search decides
    by the values at the modes.
    """
    if len(modes) == 1:
        return modes[0]
    if any(mode.result.interrupted for mode in modes):
        best = max(modes, key=lambda mode: mode.result.value)
        return replace(best, result=best.result.but_interrupted())
    if not modes[0].search.with_priors:
        return max(modes, key=_schwarz)

    def evidence(mode: Mode) -> float:
        with around(mode) as (_, proposal):
            return proposal.log_evidence(mode.result.value)

    return max(modes, key=evidence)


def _schwarz(mode: Mode) -> float:
    rows = len(mode.model.train_targets)
    return mode.result.value - 0.5 * len(get_raw(mode.model)) * math.log(rows)


@contextmanager
def around(mode: Mode) -> Iterator[tuple[Density, Proposal]]:
    """The posterior of the hyperparameters in threads, and a law of its width at the mode.

    Its vectors leave out parameters for whose values kernels make tables: these stay at the mode.
    """
    model = copy.deepcopy(mode.model)
    freeze_tabulated(model)
    at = get_raw(model)
    prior = curvature(lambda raws: np.array([_prior_gradient(model, raw) for raw in raws]), at)
    set_raw(model, at)
    widths = np.maximum(prior.diagonal(), _LEAST_PRIOR_CURVATURE)
    with density(model, mode.search.objective, mode.search.bar.update) as posterior:
        yield posterior, Proposal.of(at, curvature(posterior.gradients, at), widths)


def freeze_tabulated(model: ExactRegression) -> None:
    """Exclude the parameters for whose values kernels make tables from the free ones."""
    for parameter in tabulated_parameters(model).values():
        parameter.requires_grad_(False)


def _prior_gradient(model: ExactRegression, raw: Array) -> Array:
    def objective() -> Tensor:  # which depends on all parameters, whether they have a prior or not
        return log_prior(model) + 0 * sum(p.sum() for p in free_parameters(model))

    return value_and_gradient(objective, model, raw)[1]
