"""GPyTorch models and their inference: everything between a kernel and a fit."""

from resnet_gp.models.exact import ExactRegression, gaussian_log_likelihood
from resnet_gp.models.exact_posterior import ExactPosterior
from resnet_gp.models.inducing import cluster_centres, greedy_inducing_points
from resnet_gp.models.pathwise import (
    CovarianceError,
    PosteriorPaths,
    PriorPaths,
    condition,
    draw_posterior,
    draw_prior,
)
from resnet_gp.models.sparse import SparsePosterior, SparseRegression

__all__ = [
    "CovarianceError",
    "ExactPosterior",
    "ExactRegression",
    "PosteriorPaths",
    "PriorPaths",
    "SparsePosterior",
    "SparseRegression",
    "cluster_centres",
    "condition",
    "draw_posterior",
    "draw_prior",
    "gaussian_log_likelihood",
    "greedy_inducing_points",
]
