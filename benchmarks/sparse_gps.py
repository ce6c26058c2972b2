"""GPyTorch's sparse Gaussian processes, with ARD Matern-5/2 kernels, on standardised data.

"sgpr" maximises the collapsed bound of Titsias (2009) with 512 inducing points in 100 steps of
Adam; "svgp" that of Hensman et al. (2013) with 1024 inducing points and minibatches of 1024 rows in
20 passes. In float64: variances of float32 round to less than nothing on few rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gpytorch
import numpy as np
import torch
from gpytorch.distributions import MultivariateNormal

from resnet_gp.predictive import Law

Predict = Callable[[np.ndarray], Law]


class _Sparse(gpytorch.models.ExactGP):
    """GPyTorch's collapsed bound of Titsias (2009)."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, inducing: torch.Tensor) -> None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        super().__init__(x, y, likelihood)
        kernel = gpytorch.kernels.ScaleKernel(
            gpytorch.kernels.MaternKernel(2.5, ard_num_dims=x.shape[1])
        )
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.InducingPointKernel(kernel, inducing, likelihood)

    def forward(self, x: torch.Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))


class _Variational(gpytorch.models.ApproximateGP):
    """GPyTorch's SVGP of Hensman et al. (2013)."""

    def __init__(self, inducing: torch.Tensor) -> None:
        law = gpytorch.variational.CholeskyVariationalDistribution(len(inducing))
        super().__init__(gpytorch.variational.VariationalStrategy(self, inducing, law))
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(
            gpytorch.kernels.MaternKernel(2.5, ard_num_dims=inducing.shape[1])
        )

    def forward(self, x: torch.Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))


def _laws(
    model: Any, likelihood: Any, new: np.ndarray, centre: np.ndarray, scale: np.ndarray
) -> Law:
    x = torch.from_numpy((new - centre) / scale)
    model.eval()
    likelihood.eval()
    with torch.no_grad():
        found = [likelihood(model(part)) for part in x.split(2000)]
    mean = torch.cat([one.mean for one in found]).numpy()
    variance = torch.cat([one.variance for one in found]).numpy()
    return Law.normal(mean, np.sqrt(variance))


def _standardised(
    X: np.ndarray, y: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, Callable[[Any, Any], Predict]]:
    """Tensors, and what turns a model and its likelihood into predictions."""
    centre, scale = X.mean(0), np.where(X.std(0) > 0, X.std(0), 1.0)
    middle, spread = float(y.mean()), float(y.std())

    def predictions(model: Any, likelihood: Any) -> Predict:
        return lambda new: _laws(model, likelihood, new, centre, scale).affine(middle, spread)

    x = torch.from_numpy((X - centre) / scale)
    return x, torch.from_numpy((y - middle) / spread), predictions


def sgpr(X: np.ndarray, y: np.ndarray, inducing: int = 512, steps: int = 100) -> Predict:
    x, targets, predictions = _standardised(X, y)
    torch.manual_seed(0)
    model = _Sparse(x, targets, x[torch.randperm(len(x))[:inducing]].clone()).double()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = -objective(model(x), targets)
        loss.backward()
        optimiser.step()
    return predictions(model, model.likelihood)


def svgp(X: np.ndarray, y: np.ndarray, inducing: int = 1024, passes: int = 20) -> Predict:
    x, targets, predictions = _standardised(X, y)
    torch.manual_seed(0)
    model = _Variational(x[torch.randperm(len(x))[:inducing]].clone()).double()
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    objective = gpytorch.mlls.VariationalELBO(likelihood, model, len(x))
    optimiser = torch.optim.Adam([*model.parameters(), *likelihood.parameters()], lr=0.01)
    model.train()
    for _ in range(passes):
        for rows in torch.randperm(len(x)).split(1024):
            optimiser.zero_grad()
            loss = -objective(model(x[rows]), targets[rows])
            loss.backward()
            optimiser.step()
    return predictions(model, likelihood)
