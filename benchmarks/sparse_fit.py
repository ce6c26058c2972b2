"""How good is sparse regression, against GPyTorch's own in the same wall time?

    python benchmarks/sparse_fit.py --data DIR [--sets kin40k protein] [--seconds 360]
    python benchmarks/sparse_fit.py --quick

ResNetGPRegressor(inference="sparse") against GPyTorch's InducingPointKernel of an ARD Matern-5/2
kernel, trained by Adam and by L-BFGS-B, inducing points included. Both have 1000 inducing points,
standardised data and float64, and are stopped after ``--seconds``; ours ends by itself before that,
if the machine is not busy. Prints the error and the negative log predictive density on the first
split's test rows.
"""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import gpytorch
import numpy as np
import torch
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.kernels import InducingPointKernel, MaternKernel, ScaleKernel
from harness import Cell, output, parsed, parser_of, save, simulated, timed
from regression_sets import DataSet, find_sets, load_set

from resnet_gp import ResNetGPRegressor
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.predictive import Law
from resnet_gp.predictive.scores import scores_of

HYPERPARAMETER_SAMPLES = 1500
# of the seconds for the fit; the rest is for predictions
SHARE = 0.95
ITERATIONS = 1000
Predicted = tuple[np.ndarray, np.ndarray]


class Budget(NamedTuple):
    """The end of a fit: seconds, or iterations."""

    seconds: float
    iterations: int


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise KeyboardInterrupt after these seconds: fits keep their best model so far."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resnet(x: np.ndarray, y: np.ndarray, new: np.ndarray, m: int, budget: Budget) -> Predicted:
    model = ResNetGPRegressor(
        inference="sparse", n_inducing=m, hyperparameter_samples=HYPERPARAMETER_SAMPLES,
        random_state=0,
    )  # fmt: skip
    with interrupted_after(SHARE * budget.seconds):
        model.fit(x, y)
    return model.predict(new, return_std=True)


class Titsias(gpytorch.models.ExactGP):
    """GPyTorch's example of sparse regression."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, m: int) -> None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        rows = torch.from_numpy(np.random.RandomState(0).permutation(len(x))[:m])
        kernel = ScaleKernel(MaternKernel(2.5, ard_num_dims=x.shape[1]))
        self.covar_module = InducingPointKernel(kernel, x[rows].clone(), likelihood)
        self.double()

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def transform_inputs(self, X: torch.Tensor) -> torch.Tensor:
        """Required by BoTorch's optimiser."""
        return X


def adam(mll: gpytorch.mlls.MarginalLogLikelihood, budget: Budget) -> None:
    end = time.perf_counter() + SHARE * budget.seconds
    model = mll.model
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(budget.iterations):
        optimiser.zero_grad()
        (-mll(model(*model.train_inputs), model.train_targets)).backward()
        optimiser.step()
        if time.perf_counter() > end:
            break


def l_bfgs_b(mll: gpytorch.mlls.MarginalLogLikelihood, budget: Budget) -> None:
    fit_gpytorch_mll_scipy(
        mll, options={"maxiter": budget.iterations}, timeout_sec=SHARE * budget.seconds
    )


def matern(
    optimise: Callable[..., None],
    x: np.ndarray,
    y: np.ndarray,
    new: np.ndarray,
    m: int,
    budget: Budget,
) -> Predicted:
    x_scaler, y_scaler = Standardiser.of(x), Standardiser.of(y)
    model = Titsias(x_scaler(x), y_scaler(y), m)
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model).train()
    # GPyTorch's defaults: importing BoTorch turns them off, and n x n matrices would be made.
    with gpytorch.settings.fast_computations(True, True, True):
        optimise(mll, budget)
    model.eval()
    with torch.no_grad(), gpytorch.settings.fast_computations(True, True, True):
        parts = [model.likelihood(model(part)) for part in x_scaler(new).split(1000)]
        mean = torch.cat([part.mean for part in parts]).numpy()
        deviation = torch.cat([part.variance.sqrt() for part in parts]).numpy()
    return mean * y_scaler.scale + y_scaler.mean, deviation * y_scaler.scale


MODELS: dict[str, Callable[..., Predicted]] = {
    "resnet": resnet,
    "matern, Adam": partial(matern, adam),
    "matern, L-BFGS-B": partial(matern, l_bfgs_b),
}


def measure(data: DataSet, model: str, m: int, budget: Budget) -> Cell:
    train, test = data.splits[0]
    processor = time.process_time()
    (mean, std), elapsed = timed(
        lambda: MODELS[model](data.X[train], data.y[train], data.X[test], m, budget)
    )
    processor = time.process_time() - processor
    scores = scores_of(Law.normal(mean, std), data.y[test])
    return {
        "set": data.name, "rows": len(train), "m": m, "model": model, **scores._asdict(),
        "seconds": elapsed, "processor seconds": processor,
        "load of the machine": os.getloadavg()[0],
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, ".npz regression sets")
    parser.add_argument("--sets", nargs="+", default=["kin40k", "protein"])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--inducing", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=360, help="of each model and set")
    options = parsed(parser, arguments)
    if options.quick:
        sets, options.inducing = [simulated(400, 100)], 30
    else:
        sets = [load_set(path) for path in find_sets(options.data, options.sets)]
    budget = Budget(options.seconds, 20 if options.quick else ITERATIONS)
    cells, out = [], output(options, "sparse_fit")
    for data in sets:
        for model in options.models:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cell = measure(data, model, options.inducing, budget)
            print(json.dumps(cell), flush=True)
            cells.append(cell)
            save(cells, out)
    return cells


if __name__ == "__main__":
    main()
