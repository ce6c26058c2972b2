"""The noise of a sparse model, by leave-one-out density.

The collapsed bound has the penalty tr(K - Q) / noise, so its optimum counts the variance that the
inducing points do not explain as noise. Predictions would count that variance twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from resnet_gp.models.inducing_features import InducingFeatures
from resnet_gp.models.row_sums import Statistics
from resnet_gp.models.sparse import SparseRegression, posterior_factor, remaining_share

_MOST = 4.0  # times the noise that maximises the bound
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
    """Return the noise variance that maximises the leave-one-out log density.

    Inducing points and all other hyperparameters stay the same. With v the whitened features and A
    the posterior precision of their weights, the variance at row i is g_i = v_i' A^{-1} v_i.
    Without that row's own observation, of noise s_i, it is g_i / (1 - g_i / s_i), and the error of
    the mean grows by the same factor (Rasmussen & Williams 2006, section 5.4.2, for this model).

    Args:
        model: fitted.
        x: a random subset of its training inputs, ``n x d``; thousands are enough.
        y: their targets, ``n`` or ``n x p``.
        extra_variance: their known noise variances, ``n``, if the model has any.
        sample_weight: their weights, which divide the noise, ``n``, if the model has any.
        least: lower bound of the variance.

    Returns:
        A variance from ``least`` to four times the present one; the upper bound takes precedence.
    """
    y = y[:, None] if y.dim() == 1 else y
    features = model.features()
    v = features(x)
    residual = features.residual_variance(x, v)
    extra = x.new_zeros(len(x)) if extra_variance is None else extra_variance
    weight = x.new_ones(len(x)) if sample_weight is None else sample_weight
    present = model.likelihood.noise
    sums = _sums(model, features, rescale=extra_variance is None)

    def loss(log_noise: float) -> float:
        noise = torch.full_like(present, math.exp(log_noise))
        return float(_loss(sums(noise), v, residual, y, (noise + extra) / weight))

    most = _MOST * float(present)
    bounds = (math.log(min(least, most)), math.log(most))
    found = minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": _LOG_TOLERANCE}
    )
    return math.exp(float(found.x))


def _sums(
    model: SparseRegression, features: InducingFeatures, rescale: bool
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Gram matrix and projection of all rows, as a function of the noise; one pass to rescale."""

    def statistics(noise: Tensor) -> Statistics:
        return model.rows.statistics(features, noise, differentiable=False)[0]

    if not rescale:
        return lambda noise: ((own := statistics(noise)).gram, own.projection)
    present = model.likelihood.noise
    once = statistics(present)
    return lambda noise: (once.gram * (present / noise), once.projection * (present / noise))


def _loss(
    sums: tuple[Tensor, Tensor], v: Tensor, residual: Tensor, y: Tensor, noise: Tensor
) -> Tensor:
    """Mean negative log density without constants; ``noise`` has one variance for each row."""
    gram, projection = sums
    factor = posterior_factor(gram)
    given = torch.linalg.solve_triangular(factor, v.mT, upper=False).square().sum(0)
    remaining = remaining_share(given, noise)
    errors = (y - v @ torch.cholesky_solve(projection, factor)) / remaining[:, None]
    variance = residual + noise / remaining
    return (variance.log() + errors.square().mean(1) / variance).mean() / 2
