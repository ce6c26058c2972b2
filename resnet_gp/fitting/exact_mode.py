"""Hyperparameters of an exact model by maximum likelihood or maximum a posteriori."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.optimiser import FitResult, Hyperparameters, get_raw, raw_of, set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.models.exact import ExactRegression
from resnet_gp.threads import threads_for

Array = NDArray[np.float64]

# Above this number of rows, a pilot fit to some of them finds where the full fit starts.
_PILOT_ABOVE, _PILOT_ROWS = 1000, 400
# Then a smaller gain per row and iteration ends the full fit. From the first starts, that would
# lose 30 nats on the energy data.
_GAIN_PER_ROW = 1e-6
# Optima of the pilot are told apart sooner than first starts.
_SCREENING_AFTER_PILOT = 10


def fit_exact(
    training: Training, search: Search, known: Hyperparameters | None = None
) -> tuple[ExactRegression, FitResult]:
    """Fit an exact model to all of these rows.

    Args:
        training: in standard units.
        search: how hyperparameters are chosen.
        known: hyperparameters to start from, or to keep, instead of the usual ones.
    """
    model = search.exact_model(training)
    if search.fixed:
        return model, search.keep(model, known)
    if known is None and search.checkpoint is not None:
        known = search.checkpoint.read()
    candidates = search.starts(model) if known is None else [raw_of(model, known)]
    piloted = known is None and len(training) > _PILOT_ABOVE
    if piloted:
        pilot = search.exact_model(training.sample(_PILOT_ROWS))
        candidates, interrupted = _optima(pilot, search, candidates)
        if interrupted is not None:
            set_raw(model, candidates[0])
            return model, interrupted
    options: dict[str, Any] = {}
    if piloted or known is not None:
        options = {
            "least_gain": _GAIN_PER_ROW * len(training), "screening": _SCREENING_AFTER_PILOT
        }  # fmt: skip
    with _threads(search, len(training)):
        result = search.maximise(model, candidates, search.restarts(model), keep=True, **options)
    return model, result


def _threads(search: Search, rows: int) -> AbstractContextManager[None]:
    """Threads for evaluations: those of LAPACK, unless the entries take longer."""
    return nullcontext() if search.spec.is_integrated else threads_for(rows)


def _optima(
    model: ExactRegression, search: Search, starts: list[Array]
) -> tuple[list[Array], FitResult | None]:
    """The different local maxima that the starts lead to; after Ctrl-C, the best and its result."""
    found: dict[int, tuple[FitResult, Array]] = {}
    with _threads(search, len(model.train_targets)):
        for start in starts:
            try:
                result = search.maximise(model, [start])
            except KeyboardInterrupt:  # before the first value
                if not found:
                    raise
                interrupted = True
            else:
                found.setdefault(round(result.value), (result, get_raw(model)))
                interrupted = result.interrupted
            if interrupted:
                best, at = max(found.values(), key=lambda one: one[0].value)
                return [at], best.as_interrupted()
    return [at for _, at in found.values()], None
