"""How do time, memory and error grow with the number of rows?

    python benchmarks/large.py                              # 10,000, 100,000 and 1,000,000 rows
    python benchmarks/large.py --models resnet lightgbm --rows 10000 100000
    python benchmarks/large.py --quick

Large sets of data are in regression.py. Here, the rows are simulated: eight inputs, two of them
without effect, and noise of deviation 0.1. Models: "resnet" is the regressor as it comes;
"catboost" and "lightgbm" are boosted trees with their packages' defaults, whose number is chosen on
a fifth of the rows (extra "peers"); "sgpr" and "svgp" are GPyTorch's sparse GPs with ARD Matern-5/2
kernels: 512 inducing points and 100 steps of Adam, and 1024 inducing points and minibatches of 1024
rows, 20 passes.

Each model and number of rows has a process of its own; its cell is saved once it is done, and a run
that was stopped resumes. Seconds are those of a clock; peaks of memory are those of the process,
its data included.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import gpytorch
import numpy as np
import peers
import torch
from gpytorch.distributions import MultivariateNormal
from harness import (
    Cell,
    Cells,
    fill,
    high_water_mark,
    in_own_process,
    output,
    parser_of,
    print_table,
    timed,
)

from resnet_gp import ResNetGPRegressor
from resnet_gp.predictive import Law

MEASURES = ("rmse", "seconds", "ms_per_prediction", "peak_bytes")
ROWS = (10_000, 100_000, 1_000_000)
D, NOISE, NEW = 8, 0.1, 100_000
Predict = Callable[[np.ndarray], Law]


def resnet(X: np.ndarray, y: np.ndarray) -> Predict:
    return ResNetGPRegressor().fit(X, y).predict_law


def untuned(peer: peers.Peer, X: np.ndarray, y: np.ndarray) -> Predict:
    return peers.fit(peer, peers.search(peer, X, y, seconds=0), X, y)


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
    x = torch.from_numpy((new - centre) / scale).float()
    model.eval()
    likelihood.eval()
    with torch.no_grad():
        found = [likelihood(model(part)) for part in x.split(2000)]
    mean = torch.cat([one.mean for one in found]).double().numpy()
    variance = torch.cat([one.variance for one in found]).double().numpy()
    return Law.normal(mean, np.sqrt(variance))


def _standardised(
    X: np.ndarray, y: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, Callable[[Any, Any], Predict]]:
    """float32 tensors, and what turns a model and its likelihood into predictions."""
    centre, scale = X.mean(0), np.where(X.std(0) > 0, X.std(0), 1.0)
    middle, spread = float(y.mean()), float(y.std())

    def predictions(model: Any, likelihood: Any) -> Predict:
        return lambda new: _laws(model, likelihood, new, centre, scale).affine(middle, spread)

    x = torch.from_numpy((X - centre) / scale).float()
    return x, torch.from_numpy((y - middle) / spread).float(), predictions


def sgpr(X: np.ndarray, y: np.ndarray, inducing: int = 512, steps: int = 100) -> Predict:
    x, targets, predictions = _standardised(X, y)
    torch.manual_seed(0)
    model = _Sparse(x, targets, x[torch.randperm(len(x))[:inducing]].clone())
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
    model = _Variational(x[torch.randperm(len(x))[:inducing]].clone())
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
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


MODELS: dict[str, Callable[[np.ndarray, np.ndarray], Predict]] = {
    "resnet": resnet,
    **{name: partial(untuned, peers.REGRESSORS[name]) for name in ("catboost", "lightgbm")},
    "sgpr": sgpr,
    "svgp": svgp,
}


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) * np.cos(x[:, 1]) + x[:, 2] * x[:, 3] + np.abs(x[:, 4]) + x[:, 5]


def cell(rows: int, model: str) -> Cell:
    """Fit one model to simulated rows, and predict ``NEW`` new ones, or as many as the rows."""
    rng = np.random.default_rng(rows)
    x, new = rng.normal(size=(rows, D)), rng.normal(size=(min(NEW, rows), D))
    y = truth(x) + NOISE * rng.normal(size=rows)
    predict, seconds = timed(lambda: MODELS[model](x, y))
    law, predicting = timed(lambda: predict(new))
    return {
        "model": model, "rows": rows,
        "rmse": float(np.sqrt(np.mean(np.square(law.mean - truth(new))))), "seconds": seconds,
        "ms_per_prediction": 1000 * predicting / len(new), "peak_bytes": high_water_mark(),
    }  # fmt: skip


def report(done: Cells) -> None:
    cells = sorted(done.all, key=lambda one: (one["rows"], list(MODELS).index(one["model"])))
    rows = [[one["rows"], one["model"], *(f"{one[m]:.3g}" for m in MEASURES)] for one in cells]
    print_table("simulated rows", ["rows", "model", *MEASURES], rows, left=2)


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, resumes=True)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["resnet"])
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(cell(int(options.one[0]), options.one[1])))
        return []
    for model in peers.REGRESSORS.keys() & options.models:
        peers.optional(peers.REGRESSORS[model].package)
    done = Cells(output(options, "large"), ["rows", "model"])
    rows = [80] if options.quick else options.rows
    measure = cell if options.quick else partial(in_own_process, __file__, "--one")
    fill(done, list(product(rows, options.models)), measure, options.seconds)
    report(done)
    return done.all


if __name__ == "__main__":
    main()
