"""How well does the regressor predict, against other kernels in the same code?

    python benchmarks/regression.py --data DIR                 # the nine standard sets
    python benchmarks/regression.py --data DIR --sets all      # every set of the folder
    python benchmarks/regression.py --quick                    # simulated data, seconds

Models: the regressor with its own kernel; with GPyTorch's ARD Matern-5/2 and ARD RBF; with
BoTorch's InfiniteWidthBNNKernel. Up to 2000 training rows, every split is fitted anew (at most 20);
above, the first split chooses the hyperparameters, and three splits are predicted with them.

Every cell (set, split, model) is saved to the JSON file when it is done, and a run that was stopped
goes on where it was; small sets come first. A run of everything takes about ten hours on two cores,
the sets below 3000 rows about one of them. Prints means and standard errors over splits, paired
differences to our kernel, published figures, and mean ranks over sets.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel
from published import DEEP_ENSEMBLES, MC_DROPOUT
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.stats import rankdata

from resnet_gp import ResNetGPRegressor
from resnet_gp.demo import DataSet, find_sets, load_set, mean_and_error, scores
from resnet_gp.kernels.constraints import log_positive

STANDARD = [
    "yacht", "boston", "energy", "concrete", "wine_red", "kin8nm", "power", "naval", "protein",
]  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "regression.json"
REFIT_BELOW = 2000
SPLITS, SPLITS_ABOVE = 20, 3
# Rows on which exact inference chooses hyperparameters; inducing points of the sparse one.
HYPERPARAMETER_SAMPLES, INDUCING = 1500, 500
Cell = dict[str, float | int | str | bool]


def matern(d: int) -> Kernel:
    return MaternKernel(2.5, ard_num_dims=d, lengthscale_constraint=log_positive())


def rbf(d: int) -> Kernel:
    return RBFKernel(ard_num_dims=d, lengthscale_constraint=log_positive())


def infinite_width_bnn(d: int) -> Kernel:
    from botorch.models.kernels import InfiniteWidthBNNKernel

    return InfiniteWidthBNNKernel(depth=3)


MODELS: dict[str, Callable[[int], Kernel | str]] = {
    "resnet": lambda d: "limit",
    "matern": matern,
    "rbf": rbf,
    "ibnn": infinite_width_bnn,
}
MEASURES = ("rmse", "nlpd", "coverage", "seconds")


def simulated(n: int = 60) -> DataSet:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=n)
    splits = [(order[10:], order[:10]) for order in (rng.permutation(n) for _ in range(2))]
    return DataSet("simulated", X, y, splits)


def cells(data: DataSet, splits: list[int], model: str) -> Iterator[Cell]:
    """The splits of one set that are still to be done, with one model."""
    large = len(data.splits[0][0]) > REFIT_BELOW
    fitted = ResNetGPRegressor(
        kernel=MODELS[model](data.X.shape[1]),
        hyperparameter_samples=HYPERPARAMETER_SAMPLES,
        n_inducing=INDUCING,
    )
    if large and splits[0] != 0:  # resumed: the hyperparameters are those of the first split
        timed_fit(fitted, data, 0)
    for split in splits:
        keep = large and hasattr(fitted, "theta_")
        fitted.set_params(hyperparameters="fixed" if keep else "map", warm_start=keep)
        seconds = timed_fit(fitted, data, split)
        test = data.splits[split][1]
        mean, std = fitted.predict(data.X[test], return_std=True)
        rmse, nlpd, coverage = scores(data.y[test], mean, std)
        yield {
            "data": data.name, "split": split, "model": model, "rows": len(data.splits[split][0]),
            "rmse": rmse, "nlpd": nlpd, "coverage": coverage, "seconds": seconds,
            "log_marginal_likelihood": fitted.log_marginal_likelihood_value_,
            "iterations": fitted.n_iter_, "converged": fitted.converged_,
            "inference": fitted.inference_,
        }  # fmt: skip


def timed_fit(model: ResNetGPRegressor, data: DataSet, split: int) -> float:
    train = data.splits[split][0]
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converged is in the result
        model.fit(data.X[train], data.y[train])
    return time.perf_counter() - start


def values(done: list[Cell], name: str, model: str, measure: str) -> dict[int, float]:
    """By split."""
    return {
        int(c["split"]): float(c[measure]) for c in done if (c["data"], c["model"]) == (name, model)
    }


def report(done: list[Cell], console: Console) -> None:
    names = list(dict.fromkeys(c["data"] for c in done))
    models = [m for m in MODELS if any(c["model"] == m for c in done)]
    for measure in MEASURES:
        published = {"rmse": 0, "nlpd": 1}.get(measure)
        table = Table(title=f"{measure}: mean ± standard error; in brackets, resnet less the model")
        for title in ("set", "splits", *models):
            table.add_column(title, justify="left" if title == "set" else "right")
        if published is not None:
            table.add_column("deep ensembles", justify="right")
            table.add_column("MC dropout", justify="right")
        for name in names:
            ours = values(done, name, "resnet", measure)
            row = [str(name), str(len(ours))]
            for model in models:
                theirs = values(done, name, model, measure)
                cell = "{:.4g} ± {:.2g}".format(*mean_and_error(np.array([*theirs.values()])))
                shared = sorted(ours.keys() & theirs.keys())
                if model != "resnet" and shared and measure != "seconds":
                    gap = np.array([ours[i] - theirs[i] for i in shared])
                    cell += " ({:+.3g} ± {:.2g})".format(*mean_and_error(gap))
                row.append(cell if theirs else "")
            if published is not None:
                row += [
                    f"{source[name][published]:.2f}" if name in source else ""
                    for source in (DEEP_ENSEMBLES, MC_DROPOUT)
                ]
            table.add_row(*row)
        console.print(table)
    print_ranks(done, [str(name) for name in names], models, console)


def mean_ranks(done: list[Cell], names: list[str], models: list[str], measure: str) -> np.ndarray:
    """Mean ranks of the models over the sets that all of them have done."""
    means = np.array(
        [
            [np.mean([*values(done, n, m, measure).values()] or [math.nan]) for m in models]
            for n in names
        ]
    )
    complete = means[np.isfinite(means).all(1)]
    return rankdata(complete, axis=1).mean(0) if len(complete) else np.full(len(models), math.nan)


def print_ranks(done: list[Cell], names: list[str], models: list[str], console: Console) -> None:
    table = Table(title="mean rank over the sets that all models have done")
    for title in ("measure", *models):
        table.add_column(title, justify="left" if title == "measure" else "right")
    for measure in ("rmse", "nlpd"):
        ranks = mean_ranks(done, names, models, measure)
        table.add_row(measure, *(f"{rank:.2f}" for rank in ranks))
    console.print(table)


def save(path: Path, done: list[Cell]) -> None:
    lines = ",\n".join(json.dumps(cell) for cell in done)
    path.write_text(f"[\n{lines}\n]\n")


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of .npz regression sets")
    parser.add_argument("--sets", nargs="+", default=STANDARD, help='names, or "all"')
    parser.add_argument("--splits", type=int, default=SPLITS, help="at most")
    parser.add_argument("--max-rows", type=int, default=None, help="leave out larger sets")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--out", type=Path, default=None, help=f"default: {RESULTS.name}")
    parser.add_argument("--quick", action="store_true", help="a simulated set, nothing saved")
    options = parser.parse_args(arguments)
    console = Console()
    if options.quick:
        data_sets, out = [simulated()], options.out
    elif options.data is None:
        parser.error("--data or --quick is needed")
    else:
        chosen = None if options.sets == ["all"] else options.sets
        data_sets = [load_set(path, options.splits) for path in find_sets(options.data, chosen)]
        out = options.out or RESULTS
    done: list[Cell] = json.loads(out.read_text()) if out and out.exists() else []
    todo = list(work(data_sets, options, {(c["data"], c["split"], c["model"]) for c in done}))
    with Progress(console=console) as progress:
        task = progress.add_task("", total=sum(len(splits) for _, splits, _ in todo))
        for data, splits, model in todo:
            progress.update(task, description=f"{data.name} {model}")
            for cell in cells(data, splits, model):
                done.append(cell)
                if out:
                    save(out, done)
                progress.advance(task)
    report(done, console)
    return done


def work(
    data_sets: list[DataSet], options: argparse.Namespace, done: set[tuple[object, ...]]
) -> Iterator[tuple[DataSet, list[int], str]]:
    """Set, splits and model, what is left of them, small sets first."""
    for data in sorted(data_sets, key=lambda one: len(one.splits[0][0])):
        rows = len(data.splits[0][0])
        if options.max_rows is not None and rows > options.max_rows:
            continue
        count = len(data.splits) if rows <= REFIT_BELOW else min(SPLITS_ABOVE, len(data.splits))
        for model in options.models:
            left = [i for i in range(count) if (data.name, i, model) not in done]
            if left:
                yield data, left, model


if __name__ == "__main__":
    main()
