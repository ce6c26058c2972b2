"""Exact inference: one Cholesky factor of the covariance of all rows."""

from __future__ import annotations

from torch import Tensor

from resnet_gp.fitting.inference import (
    Fitted,
    Inference,
    Training,
    with_parameters,
    with_row_tensors,
)
from resnet_gp.fitting.modes import Mode, find_modes, most_probable
from resnet_gp.fitting.optimiser import FitResult, Hyperparameters, get_raw, set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.models.exact import ExactRegression


class Exact(Inference):
    """Hyperparameters from at most ``max_samples`` rows of the search, predictions from all.

    Of several kernels, it takes the most probable one.
    """

    name = "exact"

    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        mode = most_probable(find_modes(training.sample(search.max_samples), search, known))
        return conditioned(mode, training)

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        number = number_of(tensors)
        model = restored_model(training, search.each()[number], tensors)
        posterior = model.posterior_from(tensors["cholesky"], tensors["weights"])
        return Fitted(model, posterior, FitResult.not_searched(), number)


def conditioned(mode: Mode, training: Training) -> Fitted:
    """The fit at a mode, given all rows."""
    model = mode.model
    if len(model.train_targets) < len(training):
        model = mode.search.exact_model(training)
        set_raw(model, get_raw(mode.model))
    return Fitted(model, model.posterior(), mode.result, mode.number)


def number_of(tensors: dict[str, Tensor]) -> int:
    """Which of the search's kernels a file holds."""
    return int(tensors["kernel"])


def restored_model(
    training: Training, search: Search, tensors: dict[str, Tensor]
) -> ExactRegression:
    """The model of a file, see ``Inference.restore``."""
    return with_parameters(search.exact_model(with_row_tensors(training, tensors)), tensors)
