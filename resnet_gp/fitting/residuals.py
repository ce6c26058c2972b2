"""The residual law on top of whatever inference."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from resnet_gp.fitting.inference import Fitted, Training
from resnet_gp.models.posterior import UnsupportedError
from resnet_gp.models.residual_posterior import ResidualPosterior
from resnet_gp.predictive.residual_law import ResidualLaw


def with_residual_law(fitted: Fitted, training: Training, optimism: float = 1.0) -> Fitted:
    """The same fit with a law of new targets that is learned from its left-out residuals.

    Without leave-one-out predictions the law stays that of the fit. ``optimism``: of the residuals,
    see ``ResidualLaw``, beside that of hyperparameters at an optimum.
    """
    try:
        posterior = ResidualPosterior.fit(
            fitted.posterior,
            fitted.model.covar_module,
            training.x,
            training.y,
            fitted.num_optimised,
            optimism,
        )
    except UnsupportedError:
        return fitted
    return replace(fitted, posterior=posterior)


def with_saved_residual_law(
    fitted: Fitted, training: Training, tensors: dict[str, Tensor]
) -> Fitted:
    """The inverse of ``Fitted.tensors``, for a fit that was restored without its residual law."""
    if not ResidualLaw.is_in(tensors):
        return fitted
    posterior = ResidualPosterior(
        fitted.posterior,
        ResidualLaw.from_tensors(tensors),
        fitted.model.covar_module,
        training.x,
        training.y,
    )
    return replace(fitted, posterior=posterior)
