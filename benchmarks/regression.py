"""How well does the regressor predict, against other kernels in the same code, and other packages?

    python benchmarks/regression.py --data DIR                 # the nine standard sets
    python benchmarks/regression.py --data DIR --sets all      # every set of the folder
    python benchmarks/regression.py --data DIR --models resnet catboost xrfm
    python benchmarks/regression.py --quick                    # simulated data, seconds

Models: "resnet" is the regressor as it comes. Four are one kernel at its most probable
hyperparameters with a Gaussian law, for sets of at most 2000 training rows: "one", our own;
"matern" and "rbf", GPyTorch's ARD Matern-5/2 and ARD RBF; "ibnn", BoTorch's
InfiniteWidthBNNKernel. The others are packages, tuned, of the extra "peers": see peers.py.

Every model is fitted to all training rows of each split: 20 splits, or what there is, up to 2000
rows, and 5 above. Seconds are those of the processor, all threads together, which other work on the
machine hardly changes; those of a peer's search are an entry of its own.

Every cell (set, split, model) is saved to the JSON file once it is done, and a run that was stopped
resumes; small sets come first. Prints means and standard errors over splits, paired differences to
ours, and mean ranks over sets with Friedman's p.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import peers
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
)
from peers import REGRESSORS as PEERS
from ranks import friedman, mean_ranks
from regression_sets import DataSet, find_sets, load_set

from resnet_gp import ResNetGPRegressor
from resnet_gp.kernels.constraints import log_positive
from resnet_gp.predictive.scores import scores_of

STANDARD = [
    "yacht", "boston", "energy", "concrete", "wine_red", "kin8nm", "power", "naval", "protein",
]  # fmt: skip
SMALL = 2000  # training rows: the kernels are compared up to here
SPLITS, SPLITS_ABOVE = 20, 5


def matern(d: int) -> Kernel:
    return MaternKernel(2.5, ard_num_dims=d, lengthscale_constraint=log_positive())


def rbf(d: int) -> Kernel:
    return RBFKernel(ard_num_dims=d, lengthscale_constraint=log_positive())


def infinite_width_bnn(d: int) -> Kernel:
    from botorch.models.kernels import InfiniteWidthBNNKernel

    # The default, 1e-7, is for float32: with it, rows at a small angle have equal covariances, and
    # long fits end where the matrix is not positive definite (concreteslump).
    return InfiniteWidthBNNKernel(depth=3, acos_eps=1e-12)


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


MEASURES = ("rmse", "nlpd", "crps", "coverage", "seconds")
RANKED = ("rmse", "nlpd", "crps")


def cells(data: DataSet, splits: list[int], model: str, setting: peers.Setting) -> Iterator[Cell]:
    """The cells of some splits of one set, with one model.

    Args:
        setting: what gives the setting of a peer, which it searches once for a set.
    """
    for split in splits:
        train, test = data.splits[split]
        X, y = data.X[train], data.y[train]
        about: Cell = {}
        peer = PEERS.get(model)
        chosen = {} if peer is None else setting(data, model)
        if split == 0 and chosen:
            about["setting"] = chosen
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the result says whether it converged
            if peer is None:
                fitted = ResNetGPRegressor(**settings(model, X.shape[1])).fit(X, y)
                predict = fitted.predict_law
                about = {
                    "log_marginal_likelihood": fitted.log_marginal_likelihood_value_,
                    "iterations": fitted.n_iter_, "converged": fitted.converged_,
                    "inference": fitted.inference_,
                }  # fmt: skip
            else:
                predict = peers.fit(peer, chosen, X, y)
        end = time.process_time()
        scores = scores_of(predict(data.X[test]), data.y[test])._asdict()
        milliseconds = 1000 * (time.process_time() - end) / len(test)
        yield {
            "data": data.name, "split": split, "model": model, "rows": len(train),
            **{name: value for name, value in scores.items() if math.isfinite(value)},
            "seconds": end - start, "ms_per_prediction": milliseconds, **about,
        }  # fmt: skip


def searched(done: Cells, seconds: float) -> peers.Setting:
    """A search on the rows of a set's first split, unless its cell has the setting."""

    def search(data: DataSet, model: str) -> peers.Settings:
        train = data.splits[0][0]
        return peers.search(PEERS[model], data.X[train], data.y[train], seconds)

    return peers.once(search, done.all, "data")


def report(done: Cells) -> None:
    names = list(dict.fromkeys(cell["data"] for cell in done.all))
    models = [m for m in (*MODELS, *PEERS) if done.where(model=m)]
    for measure in MEASURES:
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
            rows.append(row)
        title = f"{measure}: mean ± standard error; in brackets, resnet less the model"
        print_table(title, ["set", "splits", *models], rows)
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
    parser.add_argument(
        "--budget", type=float, default=peers.SECONDS, help="seconds of a peer's search"
    )
    parser.add_argument("--models", nargs="+", choices=[*MODELS, *PEERS], default=list(MODELS))
    options = parsed(parser, arguments)
    for peer in (PEERS[name] for name in PEERS if name in options.models):
        peers.optional(peer.package)
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
        partial(cells, setting=searched(done, 1.0 if options.quick else options.budget)),
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
        count = min(SPLITS_ABOVE, len(data.splits)) if rows > SMALL else len(data.splits)
        for model in options.models:
            left = [i for i in range(count) if (data.name, i, model) not in done]
            most = SMALL if model in KERNELS else PEERS[model].most_rows if model in PEERS else rows
            if left and rows <= most:
                yield data, left, model


if __name__ == "__main__":
    main()
