"""Exact inference: one Cholesky factor of the covariance of all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.inference import (
    Fitted,
    Inference,
    Training,
    with_parameters,
    with_row_tensors,
)
from resnet_gp.fitting.optimiser import FitResult, Hyperparameters, get_raw, raw_of, set_raw
from resnet_gp.fitting.search import Search, threads_for
from resnet_gp.models.exact import ExactRegression

Array = NDArray[np.float64]

# Above this number of rows, a pilot fit to some of them finds where the full fit starts.
_PILOT_ABOVE, _PILOT_ROWS = 1000, 400
# Then a smaller gain per row and iteration ends the full fit. From the first starts, that would
# lose 30 nats on the energy data.
_GAIN_PER_ROW = 1e-6
# Optima of the pilot are told apart sooner than first starts.
_SCREENING_AFTER_PILOT = 10


class Exact(Inference):
    """Hyperparameters from at most ``max_samples`` rows of the search, predictions from all."""

    name = "exact"

    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        if known is not None:
            known = {name: value for name, value in known.items() if name != "inducing_points"}
        some = training.sample(search.max_samples)
        model, result = fit_exact(some, search, known)
        if some is not training:
            raw = get_raw(model)
            model = search.exact_model(training)
            set_raw(model, raw)
        return Fitted(model, model.posterior(), result)

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        model = restored_model(training, search, tensors)
        posterior = model.posterior_from(tensors["cholesky"], tensors["weights"])
        return Fitted(model, posterior, FitResult.not_searched())


def restored_model(
    training: Training, search: Search, tensors: dict[str, Tensor]
) -> ExactRegression:
    """The model of a file, see ``Inference.restore``."""
    return with_parameters(search.exact_model(with_row_tensors(training, tensors)), tensors)


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
            set_raw(model, candidates[-1])
            return model, interrupted
    options: dict[str, Any] = {}
    if piloted or known is not None:
        options = {
            "least_gain": _GAIN_PER_ROW * len(training), "screening": _SCREENING_AFTER_PILOT
        }  # fmt: skip
    with threads_for(len(training)):
        result = search.maximise(model, candidates, search.restarts(model), keep=True, **options)
    return model, result


def _optima(
    model: ExactRegression, search: Search, starts: list[Array]
) -> tuple[list[Array], FitResult | None]:
    """The different local maxima that the starts lead to; the result if interrupted."""
    found: dict[int, Array] = {}
    with threads_for(len(model.train_targets)):
        for start in starts:
            result = search.maximise(model, [start])
            found.setdefault(round(result.value), get_raw(model))
            if result.interrupted:
                return [get_raw(model)], result
    return list(found.values()), None
