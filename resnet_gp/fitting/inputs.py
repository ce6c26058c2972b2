"""The inputs of a fit: features, ranks of skewed ones beside them, then other directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resnet_gp.fitting.directions import DirectedStandardiser
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.input_choice import helpful_directions, may_choose, ranks_help
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.nearest import Here
from resnet_gp.fitting.ranks import RankingStandardiser, skewed_columns
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.fitting.units import Units

Array = NDArray[np.float64]
Choice = Literal["auto"] | bool


def choose_inputs(
    X: Array,
    units: Units,
    training: Training,
    search: Search,
    last: Units | None,
    rank_features: Choice,
    rotate_features: Choice,
) -> tuple[Units, Training, Search]:
    """Units, rows and kernels with the inputs that help.

    After Ctrl-C the inputs are those chosen so far, and the search ends after its first step.

    Args:
        X: features of the training rows, ``n x d``.
        units: their standard units.
        training: the same rows in these units.
        search: the fit's.
        last: units of the fit that this one continues; it has the same inputs, if it may.
        rank_features, rotate_features: "auto" for what predicts left-out rows better, True, False.
    """
    specs = (search.spec, *search.others)

    def on(x: Standardiser) -> tuple[Units, Training, Search]:
        changed = replace(units, x=x)
        spec, *others = (on_inputs(spec, changed) for spec in specs)
        return changed, _seen(training, X, x), replace(search, spec=spec, others=tuple(others))

    try:
        if last is not None and _goes_on(rank_features, bool(last.ranked_columns)):
            columns, taken = last.ranked_columns, True
        else:
            columns, taken = _ranked_columns(X, search, rank_features), rank_features is True
        if columns:
            x = RankingStandardiser.add_to(units.x, X, columns)
            if taken or ranks_help(training, _seen(training, X, x), search):
                units, training, search = on(x)
        same = last is not None and last.ranked_columns == units.ranked_columns
        if last is not None and same and _goes_on(rotate_features, last.directions is not None):
            directions = last.directions
        else:
            directions = helpful_directions(Here(training), search, rotate_features)
        if directions is not None:
            units, training, search = on(DirectedStandardiser.along(units.x, directions))
    except KeyboardInterrupt:
        search = search.stopped()
    return units, training, search


def on_inputs(spec: KernelSpec, units: Units) -> KernelSpec:
    """A kernel of the features as one of the inputs that are made of them."""
    spec = spec.with_inputs(len(units.ranked_columns))
    return spec if units.directions is None else spec.ungrouped()


def _goes_on(choice: Choice, chosen: bool) -> bool:
    """Whether a fit has the inputs of the one that it continues."""
    return choice == "auto" or (choice is True and chosen)


def _ranked_columns(X: Array, search: Search, choice: Choice) -> list[int]:
    """Features whose ranks may become inputs."""
    may = choice is True or (choice == "auto" and may_choose(search))
    return skewed_columns(X) if may else []


def _seen(training: Training, X: Array, x: Standardiser) -> Training:
    """The rows with the inputs that a standardiser makes of their features."""
    return replace(training, x=x(X).to(training.x))
