"""How well does the regressor predict, against other kernels in the same code?

    python benchmarks/regression.py --data DIR                 # the nine standard sets
    python benchmarks/regression.py --data DIR --sets all      # every set of the folder
    python benchmarks/regression.py --data DIR --models resnet forest ngboost
    python benchmarks/regression.py --quick                    # simulated data, seconds

Models: "resnet" is the regressor as it comes. The others are one kernel at its most probable
hyperparameters with a Gaussian law: "one", our own; "matern" and "rbf", GPyTorch's ARD Matern-5/2
and ARD RBF; "ibnn", BoTorch's InfiniteWidthBNNKernel. Up to 2000 training rows, every split is
fitted anew (at most 20); above, the first split chooses the hyperparameters, and three splits are
predicted with them.

Peers, chosen by name, are fitted to all rows of every split: "sklearn", a GP with an ARD
Matern-5/2 kernel, up to 2000 rows; "forest" of 500 trees, its variance the spread of the trees'
predictions plus the mean squared out-of-bag residual; "ngboost" with normal distributions; and
"catboost" with its loss RMSEWithUncertainty (extra "peers"). Their number of trees is chosen on a
fifth of the rows, and then all rows are used: with the packages' defaults, their intervals are much
too narrow on small sets.

Every cell (set, split, model) is saved to the JSON file once it is done, and a run that was stopped
resumes; small sets come first. Everything takes about ten hours on two cores, the sets below 3000
rows about one hour. Prints means and standard errors over splits, paired
differences to our kernel, published figures, and mean ranks over sets with Friedman's p.
"""

from __future__ import annotations

import argparse
import importlib
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel
from harness import (
    Cell,
    Cells,
    fill,
    mean_and_error,
    output,
    parsed,
    parser_of,
    print_table,
    simulated,
    timed,
)
from published import DEEP_ENSEMBLES, MC_DROPOUT
from ranks import friedman, mean_ranks
from regression_sets import DataSet, find_sets, load_set

from resnet_gp import ResNetGPRegressor
from resnet_gp.demo import matern_model
from resnet_gp.estimators.laws import law_of
from resnet_gp.kernels.constraints import log_positive
from resnet_gp.predictive import Law
from resnet_gp.predictive.scores import scores_of

STANDARD = [
    "yacht", "boston", "energy", "concrete", "wine_red", "kin8nm", "power", "naval", "protein",
]  # fmt: skip
REFIT_BELOW = 2000
SPLITS, SPLITS_ABOVE = 20, 3
# Rows for the hyperparameters of exact inference; inducing points of sparse inference.
HYPERPARAMETER_SAMPLES, INDUCING = 1500, 500
TREES = 500
PATIENCE = 50  # of boosting: trees without gain
Predict = Callable[[np.ndarray], Law]


def matern(d: int) -> Kernel:
    return MaternKernel(2.5, ard_num_dims=d, lengthscale_constraint=log_positive())


def rbf(d: int) -> Kernel:
    return RBFKernel(ard_num_dims=d, lengthscale_constraint=log_positive())


def infinite_width_bnn(d: int) -> Kernel:
    from botorch.models.kernels import InfiniteWidthBNNKernel

    return InfiniteWidthBNNKernel(depth=3)


PLAIN = {"n_components": 1, "hyperparameters": "map", "residuals": "gaussian"}
KERNELS: dict[str, Callable[[int], Kernel | str]] = {
    "one": lambda d: "limit",
    "matern": matern,
    "rbf": rbf,
    "ibnn": infinite_width_bnn,
}
MODELS = ("resnet", *KERNELS)


def settings(model: str, d: int) -> dict[str, Any]:
    """The regressor's parameters, for ``d`` features."""
    if model == "resnet":
        return {}
    return {"kernel": KERNELS[model](d), **PLAIN}


def sklearn(X: np.ndarray, y: np.ndarray) -> Predict:
    return partial(law_of, matern_model(X.shape[1]).fit(X, y))


def forest(X: np.ndarray, y: np.ndarray) -> Predict:
    """Variance: that of the trees' predictions plus the mean squared out-of-bag residual."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(TREES, oob_score=True, random_state=0).fit(X, y)
    noise = np.square(y - model.oob_prediction_).mean()

    def predict(new: np.ndarray) -> Law:
        each = np.stack([tree.predict(new) for tree in model.estimators_])
        return Law.normal(each.mean(0), np.sqrt(each.var(0) + noise))

    return predict


def held_out(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, and the fifth of all rows on which the number of trees is chosen."""
    order = np.random.default_rng(0).permutation(n)
    return order[n // 5 :], order[: n // 5]


def ngboost(X: np.ndarray, y: np.ndarray) -> Predict:
    make = partial(optional("ngboost").NGBRegressor, verbose=False, random_state=0)
    rows, others = held_out(len(y))
    trial = make().fit(X[rows], y[rows], X[others], y[others], early_stopping_rounds=PATIENCE)
    model = make(n_estimators=1 + trial.best_val_loss_itr).fit(X, y)

    def predict(new: np.ndarray) -> Law:
        normal = model.pred_dist(new)
        return Law.normal(normal.loc, normal.scale)

    return predict


def catboost(X: np.ndarray, y: np.ndarray) -> Predict:
    # The automatic learning rate depends on the number of trees.
    make = partial(
        optional("catboost").CatBoostRegressor, loss_function="RMSEWithUncertainty", random_seed=0,
        verbose=False, allow_writing_files=False, learning_rate=0.03,
    )  # fmt: skip
    rows, others = held_out(len(y))
    trial = make(early_stopping_rounds=PATIENCE)
    trial.fit(X[rows], y[rows], eval_set=(X[others], y[others]))
    model = make(iterations=1 + trial.best_iteration_).fit(X, y)

    def predict(new: np.ndarray) -> Law:
        mean, variance = model.predict(new).T
        return Law.normal(mean, np.sqrt(variance))

    return predict


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], Predict]] = {
    "sklearn": sklearn,
    "forest": forest,
    "ngboost": ngboost,
    "catboost": catboost,
}
OPTIONAL = ("ngboost", "catboost")
MEASURES = ("rmse", "nlpd", "crps", "coverage", "seconds")
RANKED = ("rmse", "nlpd", "crps")
PUBLISHED = ("rmse", "nlpd")  # measures of the papers


def optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'{name} is needed: pip install "resnet-gp[peers]"') from error


def cells(data: DataSet, splits: list[int], model: str) -> Iterator[Cell]:
    """The cells of some splits of one set, with one model."""
    own = with_kernel(data, splits, model) if model in MODELS else with_peer(data, splits, model)
    for split, (predict, seconds, about) in zip(splits, own, strict=True):
        train, test = data.splits[split]
        scores = scores_of(predict(data.X[test]), data.y[test])
        yield {
            "data": data.name, "split": split, "model": model, "rows": len(train),
            **scores._asdict(), "seconds": seconds, **about,
        }  # fmt: skip


def with_kernel(
    data: DataSet, splits: list[int], model: str
) -> Iterator[tuple[Predict, float, Cell]]:
    """Fit our regressor to each split; yield its predictions, seconds, and more about the fit."""
    large = len(data.splits[0][0]) > REFIT_BELOW
    parameters = settings(model, data.X.shape[1])
    usual = parameters.get("hyperparameters", "auto")
    fitted = ResNetGPRegressor(
        **parameters, hyperparameter_samples=HYPERPARAMETER_SAMPLES, n_inducing=INDUCING
    )
    if large and splits[0] != 0:  # resumed: the hyperparameters are those of the first split
        timed_fit(fitted.fit, data, 0)
    for split in splits:
        keep = large and hasattr(fitted, "theta_")
        fitted.set_params(hyperparameters="fixed" if keep else usual, warm_start=keep)
        _, seconds = timed_fit(fitted.fit, data, split)
        yield fitted.predict_law, seconds, {
            "log_marginal_likelihood": fitted.log_marginal_likelihood_value_,
            "iterations": fitted.n_iter_, "converged": fitted.converged_,
            "inference": fitted.inference_,
        }  # fmt: skip


def with_peer(
    data: DataSet, splits: list[int], model: str
) -> Iterator[tuple[Predict, float, Cell]]:
    for split in splits:
        yield *timed_fit(PEERS[model], data, split), {}


def timed_fit(fit: Callable[..., Any], data: DataSet, split: int) -> tuple[Any, float]:
    train = data.splits[split][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the result says whether it converged
        return timed(lambda: fit(data.X[train], data.y[train]))


def report(done: Cells) -> None:
    names = list(dict.fromkeys(cell["data"] for cell in done.all))
    models = [m for m in (*MODELS, *PEERS) if done.where(model=m)]
    for measure in MEASURES:
        published = [DEEP_ENSEMBLES, MC_DROPOUT] if measure in PUBLISHED else []
        rows = []
        for name in names:
            values = {m: by_split(done, name, m, measure) for m in models}
            ours = values.get("resnet", {})
            row = [name, len(ours)]
            for model, theirs in values.items():
                text = mean_and_error(np.array([*theirs.values()])) if theirs else ""
                shared = sorted(ours.keys() & theirs.keys())
                if model != "resnet" and shared and measure != "seconds":
                    gap = np.array([ours[i] - theirs[i] for i in shared])
                    text += f" ({mean_and_error(gap, '+.3g')})"
                row.append(text)
            row += [
                f"{source[name][PUBLISHED.index(measure)]:.2f}" if name in source else ""
                for source in published
            ]
            rows.append(row)
        title = f"{measure}: mean ± standard error; in brackets, resnet less the model"
        papers = ["deep ensembles", "MC dropout"] if published else []
        print_table(title, ["set", "splits", *models, *papers], rows)
    ranked = {measure: complete(done, names, models, measure) for measure in RANKED}
    print_table(
        "mean rank over the sets that all models have done",
        ["measure", *models, "Friedman's p"],
        [
            [measure, *(f"{rank:.2f}" for rank in mean_ranks(means)), f"{friedman(means):.2g}"]
            for measure, means in ranked.items()
            if len(means)
        ],
    )


def by_split(done: Cells, name: str, model: str, measure: str) -> dict[int, float]:
    cells = done.where(data=name, model=model)
    return {cell["split"]: cell[measure] for cell in cells if measure in cell}


def complete(done: Cells, names: list[str], models: list[str], measure: str) -> np.ndarray:
    """Means of models (columns) over the splits of each set (row) that all models have finished."""
    means = [
        [np.mean([*by_split(done, n, m, measure).values()] or [math.nan]) for m in models]
        for n in names
    ]
    table = np.array(means).reshape(len(names), len(models))
    return table[np.isfinite(table).all(1)]


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, ".npz regression sets", resumes=True)
    parser.add_argument("--sets", nargs="+", default=STANDARD, help='names, or "all"')
    parser.add_argument("--splits", type=int, default=SPLITS, help="at most")
    parser.add_argument("--max-rows", type=int, default=None, help="leave out larger sets")
    parser.add_argument("--models", nargs="+", choices=[*MODELS, *PEERS], default=list(MODELS))
    options = parsed(parser, arguments)
    for name in set(OPTIONAL).intersection(options.models):
        optional(name)
    if options.quick:
        data_sets = [simulated(60, 10, splits=2)]
    else:
        chosen = None if options.sets == ["all"] else options.sets
        data_sets = [load_set(path, options.splits) for path in find_sets(options.data, chosen)]
    done = Cells(output(options, "regression"), ["data", "split", "model"])
    todo = list(work(data_sets, options, done.keys()))
    fill(
        done,
        todo,
        cells,
        options.seconds,
        lambda data, splits, model: (data.name, splits[0], model),
    )
    report(done)
    return done.all


def work(
    data_sets: list[DataSet], options: argparse.Namespace, done: set[tuple[object, ...]]
) -> Iterator[tuple[DataSet, list[int], str]]:
    """Sets, splits and models that are not finished, small sets first."""
    for data in sorted(data_sets, key=lambda one: len(one.splits[0][0])):
        rows = len(data.splits[0][0])
        if options.max_rows is not None and rows > options.max_rows:
            continue
        large = rows > REFIT_BELOW
        count = min(SPLITS_ABOVE, len(data.splits)) if large else len(data.splits)
        for model in options.models:
            left = [i for i in range(count) if (data.name, i, model) not in done]
            if left and not (large and model == "sklearn"):
                yield data, left, model


if __name__ == "__main__":
    main()
