"""How good and how fast is the regressor on many rows, against what is used there?

    python benchmarks/large.py --data DIR              # every set above 5000 rows, three splits
    python benchmarks/large.py --data DIR --models resnet lightgbm --sets kin40k protein
    python benchmarks/large.py --rows 10000 100000 1000000     # simulated, time against rows
    python benchmarks/large.py --quick

Models: "resnet" is the regressor as it comes; "catboost" and "lightgbm" are boosted trees whose
number is chosen on a fifth of the rows (extra "peers"): "catboost" with the law of its loss
RMSEWithUncertainty, up to 1000 trees; "catboost_rmse", up to 3000, and "lightgbm", up to 5000, with
squared errors and a normal law whose deviation is that of the fifth's residuals;
"sgpr" and "svgp" are GPyTorch's sparse GPs with ARD Matern-5/2 kernels: 512 inducing points and 100
steps of Adam, and 1024 inducing points and minibatches of 1024 rows, 20 passes. All get
standardised inputs and targets.

Every cell (set, split, model) is saved once it is done; a run that was stopped resumes, small sets
first. Seconds on sets are those of the processor, all threads together, which other work on the
machine hardly changes; on simulated rows, they are those of a clock. The simulated function has
eight inputs, of which two have no effect, and noise of deviation 0.1; peaks of memory are those of
the process, its data included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import gpytorch
import numpy as np
import torch
from gpytorch.distributions import MultivariateNormal
from harness import (
    Cell,
    Cells,
    fill,
    high_water_mark,
    in_own_process,
    mean_and_error,
    output,
    parsed,
    parser_of,
    print_table,
    simulated,
    timed,
)
from regression import PATIENCE, Predict, catboost, held_out, optional, timed_fit
from regression_sets import DataSet, find_sets, load_set

from resnet_gp import ResNetGPRegressor
from resnet_gp.predictive import Law
from resnet_gp.predictive.scores import scores_of

LEAST_ROWS, SPLITS = 5000, 3
MEASURES = ("rmse", "nlpd", "crps", "coverage", "seconds", "ms_per_prediction")
D, NOISE, NEW = 8, 0.1, 100_000


def resnet(X: np.ndarray, y: np.ndarray) -> Predict:
    return ResNetGPRegressor().fit(X, y).predict_law


def lightgbm(X: np.ndarray, y: np.ndarray) -> Predict:
    package = optional("lightgbm")
    make = partial(package.LGBMRegressor, learning_rate=0.05, num_leaves=63, verbose=-1)
    rows, others = held_out(len(y))
    trial = make(n_estimators=5000)
    stop = package.early_stopping(PATIENCE, verbose=False)
    trial.fit(X[rows], y[rows], eval_set=[(X[others], y[others])], callbacks=[stop])
    deviation = float(np.std(y[others] - trial.predict(X[others])))
    model = make(n_estimators=max(1, trial.best_iteration_)).fit(X, y)
    return lambda new: Law.normal(model.predict(new), np.full(len(new), deviation))


def catboost_rmse(X: np.ndarray, y: np.ndarray) -> Predict:
    make = partial(
        optional("catboost").CatBoostRegressor, loss_function="RMSE", random_seed=0, verbose=False,
        allow_writing_files=False, learning_rate=0.1,
    )  # fmt: skip
    rows, others = held_out(len(y))
    trial = make(iterations=3000, early_stopping_rounds=PATIENCE)
    trial.fit(X[rows], y[rows], eval_set=(X[others], y[others]))
    deviation = float(np.std(y[others] - trial.predict(X[others])))
    model = make(iterations=1 + trial.best_iteration_).fit(X, y)
    return lambda new: Law.normal(model.predict(new), np.full(len(new), deviation))


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
    "resnet": resnet, "catboost": catboost, "catboost_rmse": catboost_rmse, "lightgbm": lightgbm,
    "sgpr": sgpr, "svgp": svgp,
}  # fmt: skip
OPTIONAL = {"catboost": "catboost", "catboost_rmse": "catboost", "lightgbm": "lightgbm"}


def cell(data: DataSet, split: int, model: str) -> Cell:
    """Fit one model to one split, and predict all of its test rows."""
    train, test = data.splits[split]
    start = time.process_time()
    predict, _ = timed_fit(MODELS[model], data, split)
    fitted = time.process_time()
    law = predict(data.X[test])
    seconds, predicting = fitted - start, time.process_time() - fitted
    return {
        "data": data.name, "split": split, "model": model, "rows": len(train),
        **scores_of(law, data.y[test])._asdict(), "seconds": seconds,
        "ms_per_prediction": 1000 * predicting / len(test),
    }  # fmt: skip


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) * np.cos(x[:, 1]) + x[:, 2] * x[:, 3] + np.abs(x[:, 4]) + x[:, 5]


def simulated_cell(rows: int, model: str) -> Cell:
    """Fit one model to simulated rows, and predict ``NEW`` new ones, or as many as the rows."""
    rng = np.random.default_rng(rows)
    x, new = rng.normal(size=(rows, D)), rng.normal(size=(min(NEW, rows), D))
    y = truth(x) + NOISE * rng.normal(size=rows)
    predict, seconds = timed(lambda: MODELS[model](x, y))
    law, predicting = timed(lambda: predict(new))
    return {
        "data": f"simulated, {rows:,} rows", "split": 0, "model": model, "rows": rows,
        "rmse": float(np.sqrt(np.mean(np.square(law.mean - truth(new))))), "seconds": seconds,
        "ms_per_prediction": 1000 * predicting / len(new), "peak_bytes": high_water_mark(),
    }  # fmt: skip


def report(done: Cells) -> None:
    names = list(dict.fromkeys(one["data"] for one in done.all))
    models = [model for model in MODELS if done.where(model=model)]
    for measure in MEASURES:
        rows: list[Sequence[Any]] = []
        for name in names:
            values = {m: done.values(measure, data=name, model=m) for m in models}
            if any(len(each) for each in values.values()):
                texts = [mean_and_error(each) if len(each) else "" for each in values.values()]
                rows.append([name, *texts])
        print_table(f"{measure}: mean ± standard error over splits", ["set", *models], rows)


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, ".npz regression sets", resumes=True)
    parser.add_argument("--sets", nargs="+", help="names; default: all above 5000 rows")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--splits", type=int, default=SPLITS, help="at most")
    parser.add_argument("--rows", type=int, nargs="+", help="simulated rows in place of sets")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(simulated_cell(int(options.one[0]), options.one[1])))
        return []
    for model in OPTIONAL.keys() & options.models:
        optional(OPTIONAL[model])
    done = Cells(output(options, "large"), ["data", "split", "model"])
    if options.rows:
        fill(
            done,
            list(product(options.rows, options.models)),
            lambda rows, model: in_own_process(__file__, "--one", rows, model),
            options.seconds,
            lambda rows, model: (f"simulated, {rows:,} rows", 0, model),
        )
    else:
        options = parsed(parser, arguments)
        fill(
            done,
            list(work(options)),
            cell,
            options.seconds,
            lambda data, split, model: (data.name, split, model),
        )
    report(done)
    return done.all


def work(options: argparse.Namespace) -> Iterator[tuple[DataSet, int, str]]:
    if options.quick:
        sets = [simulated(80, 20, splits=1)]
    else:
        sets = [load_set(path, options.splits) for path in find_sets(options.data, options.sets)]
    least = 0 if options.quick or options.sets else LEAST_ROWS
    for data in sorted(sets, key=lambda one: len(one.splits[0][0])):
        if len(data.splits[0][0]) >= least:
            for split, model in product(range(len(data.splits)), options.models):
                yield data, split, model


if __name__ == "__main__":
    main()
