"""GPyTorch models and their inference: everything between a kernel and an estimator.

Tensors in and out; no scikit-learn, no standardisation.
"""

from resnet_gp.models.exact import ExactPosterior, ExactRegression, gaussian_log_likelihood
from resnet_gp.models.fitting import FitResult, maximise
from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.pathwise import (
    CovarianceError,
    PosteriorPaths,
    PriorPaths,
    condition,
    draw_posterior,
    draw_prior,
)

__all__ = [
    "CovarianceError",
    "ExactPosterior",
    "ExactRegression",
    "FitResult",
    "PosteriorPaths",
    "PriorPaths",
    "condition",
    "draw_posterior",
    "draw_prior",
    "gaussian_log_likelihood",
    "greedy_inducing_points",
    "maximise",
]
