"""Exact inference: one Cholesky factor of the covariance of all rows."""

from __future__ import annotations

from torch import Tensor

from resnet_gp.fitting.inference import (
    Fitted,
    Inference,
    Training,
    number_of,
    with_row_tensors,
)
from resnet_gp.fitting.kernel_spec import takes_whole_inputs
from resnet_gp.fitting.modes import Mode, find_modes, most_probable
from resnet_gp.fitting.nearest import Nearest
from resnet_gp.fitting.optimiser import FitResult, Hyperparameters, get_raw, set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.regression import with_parameters


class Exact(Inference):
    """Hyperparameters by marginal likelihood, predictions from one factor of all rows.

    Of several kernels, it takes the most probable one. More rows than ``max_samples`` of the search
    choose kernel and hyperparameters as ``Nearest`` does: all of them count, where marginal
    likelihood would be that of a subset; where those of the kernel are fixed, a subset decides on
    noise and output scale, and where the kernel is of images, on everything.
    """

    name = "exact"
    reweighs_rows = True

    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        some = training.sample(search.max_samples)
        known_kernel = search.spec.is_fixed and not search.others
        subset = known_kernel or takes_whole_inputs(search.spec.kernel)
        if search.fixed or subset or len(some) == len(training):
            return conditioned(most_probable(find_modes(some, search, known)), training)
        found = Nearest(student=False).learn(training, search, known)
        model = search.each()[found.number].exact_model(training)
        set_raw(model, get_raw(found.model))
        if model.likelihood.noise_covar.raw_noise.requires_grad:
            least = model.least_noise[training.x.dtype]
            model.likelihood.noise = model.likelihood.noise.detach().clamp(min=least)
        return Fitted(model, model.posterior(), found.result, found.number)

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


def restored_model(
    training: Training, search: Search, tensors: dict[str, Tensor]
) -> ExactRegression:
    """The model of a file, see ``Inference.restore``."""
    return with_parameters(search.exact_model(with_row_tensors(training, tensors)), tensors)
