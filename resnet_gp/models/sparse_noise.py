"""The noise of a sparse model, by the density of each observation given all others.

The collapsed bound pays for what the inducing points cannot represent, tr(K - Q) / noise, and so
counts it as noise, which predictions would add to the variance that the inducing points leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from resnet_gp.models.row_sums import InducingFeatures, Statistics
from resnet_gp.models.sparse import SparseRegression, posterior_factor

# Of the noise that the bound chose.
_MOST = 4.0
_LOG_TOLERANCE = 1e-4


@torch.no_grad()
def leave_one_out_noise(
    model: SparseRegression,
    x: Tensor,
    y: Tensor,
    extra_variance: Tensor | None = None,
    sample_weight: Tensor | None = None,
    least: float = 1e-8,
) -> float:
    """The noise variance under which held-out observations have the highest log density.

    Inducing points and all other hyperparameters stay. With v the whitened features and A the
    precision of their weights, row i leaves v_i' A^{-1} v_i = g_i, and without its own observation
    of noise s_i, g_i / (1 - g_i / s_i); the error of its mean grows by the same factor (Rasmussen &
    Williams 2006, section 5.4.2, for the sparse model).

    Args:
        model: fitted.
        x: some of its training inputs, ``n x d``, at random; thousands are enough.
        y: their targets, ``n`` or ``n x p``.
        extra_variance: their known noise variances, ``n``, if the model has any.
        sample_weight: by which their noise is divided, ``n``, if the model has any.
        least: the lowest variance to be considered.

    Returns:
        A variance from ``least`` to four times the present one.
    """
    y = y[:, None] if y.dim() == 1 else y
    features = model.features()
    v = features.whiten(features.cross(x))
    left = (features.variance(x) - v.square().sum(1)).clamp(min=0)
    extra = x.new_zeros(len(x)) if extra_variance is None else extra_variance
    weight = x.new_ones(len(x)) if sample_weight is None else sample_weight
    present = model.likelihood.noise
    sums = _sums(model, features, rescale=extra_variance is None)

    def loss(log_noise: float) -> float:
        noise = torch.full_like(present, math.exp(log_noise))
        return float(_loss(sums(noise), v, left, y, (noise + extra) / weight))

    most = _MOST * float(present)
    bounds = (math.log(min(least, most)), math.log(most))
    found = minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": _LOG_TOLERANCE}
    )
    return math.exp(float(found.x))


def _sums(
    model: SparseRegression, features: InducingFeatures, rescale: bool
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The gram matrix and the projection of all training rows, as a function of the noise."""

    def statistics(noise: Tensor) -> Statistics:
        return model.rows.statistics(features, noise, differentiable=False)[0]

    if not rescale:
        return lambda noise: ((own := statistics(noise)).gram, own.projection)
    present = model.likelihood.noise
    once = statistics(present)
    return lambda noise: (once.gram * (present / noise), once.projection * (present / noise))


def _loss(sums: tuple[Tensor, Tensor], v: Tensor, left: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """Mean negative log density without constants; ``noise`` is of each row."""
    gram, projection = sums
    factor = posterior_factor(gram)
    given = torch.linalg.solve_triangular(factor, v.mT, upper=False).square().sum(0)
    remaining = (1 - given / noise).clamp(min=torch.finfo(noise.dtype).eps)
    errors = (y - v @ torch.cholesky_solve(projection, factor)) / remaining[:, None]
    variance = left + noise / remaining
    return (variance.log() + errors.square().mean(1) / variance).mean() / 2
