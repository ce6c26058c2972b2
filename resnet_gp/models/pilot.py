"""Where a sparse fit starts: exact fits to few rows, then inducing points for what they found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Generator, Tensor

from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.fitting import get_raw, maximise, set_raw
from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.sparse import SparseRegression

_SELECTION_ROWS = 10_000


def pilot_fit(
    x: Tensor,
    y: Tensor,
    kernel: Kernel,
    bounds: dict[str, tuple[float, float]],
    candidates: Sequence[NDArray[np.float64]],
    sizes: Sequence[int] = (400, 1500),
    iterations: int = 50,
    generator: Generator | None = None,
) -> NDArray[np.float64]:
    """Raw hyperparameters of exact fits to random rows; each fit starts where the last one ended.

    Args:
        x: ``n x d``.
        y: ``n`` or ``n x p``.
        kernel: is left at the hyperparameters found.
        bounds, candidates: as for ``maximise``; of the candidates, the first fit chooses.
        sizes: numbers of rows, at most all.
        iterations: of each fit.
        generator: of the random rows.
    """
    order = torch.randperm(len(x), generator=generator)
    starts = list(candidates)
    for size in sizes:
        rows = order[:size]
        model = _exact_model(x[rows], y[rows], kernel)
        objective = model.log_marginal_likelihood
        maximise(objective, model, bounds, starts, max_iter=iterations)
        starts = [get_raw(model)]
    return starts[0]


def _exact_model(x: Tensor, y: Tensor, kernel: Kernel) -> ExactRegression | SparseRegression:
    return ExactRegression(x, y, kernel) if y.dim() == 1 else SparseRegression(x, y, kernel, x)


def select_inducing_points(
    model: ExactRegression | SparseRegression, x: Tensor, m: int, generator: Generator | None = None
) -> Tensor:
    """Greedy inducing points for the model's covariance, among at most 10,000 random rows of x.

    Returns:
        ``m x d``, or fewer, as ``greedy_inducing_points``.
    """
    rows = torch.randperm(len(x), generator=generator)[: max(m, _SELECTION_ROWS)]
    return x[rows][greedy_inducing_points(model.covar_module, x[rows], m)]


def pilot_model(
    x: Tensor,
    y: Tensor,
    kernel: Kernel,
    num_inducing_points: int,
    bounds: dict[str, tuple[float, float]],
    candidates: Sequence[NDArray[np.float64]],
    generator: Generator | None = None,
) -> SparseRegression:
    """A sparse model of all rows at the hyperparameters and inducing points of a pilot."""
    raw = pilot_fit(x, y, kernel, bounds, candidates, generator=generator)
    model = SparseRegression(x, y, kernel, x[:1])
    set_raw(model, raw)
    points = select_inducing_points(model, x, num_inducing_points, generator)
    model.inducing_points = torch.nn.Parameter(points, requires_grad=False)
    return model
