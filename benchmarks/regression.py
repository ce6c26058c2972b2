"""How well does the regressor predict, against ARD Matern-5/2 in the same code?

    python benchmarks/regression.py --data DIR [--sets yacht boston energy concrete] [--splits 20]
    python benchmarks/regression.py --quick          # simulated data, seconds

Every cell (set, split, model) is saved to the JSON file when it is done, and a run that was stopped
goes on where it was. Prints means and standard errors over splits, and the paired differences.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
from gpytorch.kernels import Kernel, MaternKernel
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from resnet_gp import ResNetGPRegressor
from resnet_gp.demo import DataSet, find_sets, load_set, mean_and_error, scores
from resnet_gp.kernels.constraints import log_positive

SETS = ["yacht", "boston", "energy", "concrete"]
RESULTS = Path(__file__).parent / "results" / "regression.json"


class MaternGPRegressor(ResNetGPRegressor):
    """The regressor with GPyTorch's ARD Matern-5/2 kernel in place of ours, all else equal."""

    def _kernel(self) -> Kernel:
        return MaternKernel(
            2.5, ard_num_dims=self.n_features_in_, lengthscale_constraint=log_positive()
        )

    def _raw(self, horizon: float, noise: float, lengthscale: np.ndarray) -> np.ndarray:
        return np.log(np.concatenate([[noise, 1.0], lengthscale]))

    def _publish_hyperparameters(self) -> None:
        self.noise_variance_ = self._noise() * float(self._y_scaler.scale) ** 2


MODELS = {"resnet": ResNetGPRegressor, "matern": MaternGPRegressor}


def simulated(n: int = 60) -> DataSet:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=n)
    splits = [(order[10:], order[:10]) for order in (rng.permutation(n) for _ in range(2))]
    return DataSet("simulated", X, y, splits)


def cell(data: DataSet, split: int, model: str, restarts: int) -> dict[str, float | int | str]:
    train, test = data.splits[split]
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converged is in the result
        fitted = MODELS[model](n_restarts=restarts, random_state=split).fit(
            data.X[train], data.y[train]
        )
    seconds = time.perf_counter() - start
    mean, std = fitted.predict(data.X[test], return_std=True)
    rmse, nlpd, coverage = scores(data.y[test], mean, std)
    return {
        "data": data.name, "split": split, "model": model, "restarts": restarts,
        "rmse": rmse, "nlpd": nlpd, "coverage": coverage, "seconds": seconds,
        "log_marginal_likelihood": fitted.log_marginal_likelihood_value_,
        "iterations": fitted.n_iter_, "converged": fitted.converged_,
    }  # fmt: skip


def report(cells: list[dict], console: Console) -> None:
    table = Table(title="mean ± standard error over splits; difference is resnet - matern, paired")
    for title in ("set", "splits", "measure", *MODELS, "difference", "z"):
        table.add_column(title, justify="left" if title in ("set", "measure") else "right")
    for name in dict.fromkeys(c["data"] for c in cells):
        by_model = {
            model: {c["split"]: c for c in cells if (c["data"], c["model"]) == (name, model)}
            for model in MODELS
        }
        shared = sorted(set.intersection(*(set(one) for one in by_model.values())))
        if not shared:
            continue
        for measure in ("rmse", "nlpd", "coverage", "seconds"):
            values = [np.array([by_model[m][i][measure] for i in shared]) for m in MODELS]
            difference, error = mean_and_error(values[0] - values[1])
            means = ["{:.4g} ± {:.2g}".format(*mean_and_error(v)) for v in values]
            z = "" if not error > 0 or math.isnan(error) else f"{difference / error:+.1f}"
            table.add_row(
                name, str(len(shared)), measure, *means, f"{difference:+.4g} ± {error:.2g}", z
            )
    console.print(table)


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of .npz regression sets")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help=f"default: {RESULTS.name}")
    parser.add_argument("--quick", action="store_true", help="a simulated set, nothing saved")
    options = parser.parse_args(arguments)
    console = Console()
    if options.quick:
        data_sets, out = [simulated()], options.out
    elif options.data is None:
        parser.error("--data or --quick is needed")
    else:
        paths = find_sets(options.data, options.sets)
        data_sets = [load_set(path, options.splits) for path in paths]
        out = options.out or RESULTS
    cells: list[dict] = json.loads(out.read_text()) if out and out.exists() else []
    done = {(c["data"], c["split"], c["model"], c["restarts"]) for c in cells}
    todo = [
        key
        for data in data_sets
        for split in range(len(data.splits))
        for model in options.models
        if (key := (data.name, split, model, options.restarts)) not in done
    ]
    by_name = {data.name: data for data in data_sets}
    with Progress(console=console) as progress:
        task = progress.add_task("", total=len(todo))
        for name, split, model, restarts in todo:
            progress.update(task, description=f"{name} {split} {model}")
            cells.append(cell(by_name[name], split, model, restarts))
            if out:
                out.write_text(json.dumps(cells, indent=1) + "\n")
            progress.advance(task)
    report([c for c in cells if c["restarts"] == options.restarts], console)
    return cells


if __name__ == "__main__":
    main()
