"""Which activation predicts better?

    python benchmarks/activations.py --data DIR       # sets up to 1000 rows, three splits each
    python benchmarks/activations.py --quick          # simulated data, seconds

The regressor with each activation, without ranks of features. With "relu" that means up to two
networks whose hyperparameters are averaged; the others have one, at its most probable
hyperparameters, and so "relu" also comes in that form ("relu, one"). "relu or relu + gelu" also has
the sum of a rough and a smooth network among the kernels that are weighed by their evidence. Prints
means over splits, mean ranks over the sets with Friedman's p-value, and seconds of processor time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from gpytorch.kernels import Kernel, ScaleKernel
from harness import Cell, Cells, fill, output, parsed, parser_of, print_table, simulated
from ranks import friedman, mean_ranks
from regression_sets import DataSet, find_sets, load_set

from resnet_gp import ResNetGPRegressor, ResNetLimitKernel
from resnet_gp.predictive.scores import scores_of

SPLITS, MOST_ROWS = 3, 1000
MEASURES = ("rmse", "nlpd", "crps")
MODELS: dict[str, dict[str, Any]] = {
    "relu": {},
    "relu, one": {"hyperparameters": "map", "n_components": 1},
    **{name: {"activation": name} for name in ("erf", "tanh", "gelu", "silu", "sin")},
}
SUM = "relu or relu + gelu"
ALL = (*MODELS, SUM)


def rough_and_smooth(num_dims: int) -> Kernel:
    """The sum of a ReLU and a GELU network, each with its own scale and lengthscales."""
    options: dict[str, Any] = {"input_bias": True, "ard_num_dims": num_dims}
    rough = ResNetLimitKernel(variance="no_growth", contrast=True, **options)
    smooth = ResNetLimitKernel("gelu", **options)
    return ScaleKernel(rough) + ScaleKernel(smooth)


def measure(data: DataSet, split: int, model: str) -> Cell:
    """One fit and its scores."""
    train, test = data.splits[split]
    kernel: Any = ["limit", rough_and_smooth(data.X.shape[1])] if model == SUM else "limit"
    regressor = ResNetGPRegressor(
        kernel=kernel, **MODELS.get(model, {}), rank_features=False, verbose=False
    )
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regressor.fit(data.X[train], data.y[train])
    seconds = time.process_time() - start
    scores = scores_of(regressor.predict_law(data.X[test]), data.y[test])
    about = {"data": data.name, "split": split, "model": model, "rows": len(train)}
    return {**about, **scores._asdict(), "seconds": seconds}


def names_of(done: Cells, models: Sequence[str] = ALL) -> list[str]:
    """The sets on which every one of these models has finished one split, small ones first."""
    rows: dict[str, int] = {}
    for cell in done.all:
        rows[cell["data"]] = cell["rows"]
    return [
        name for name in sorted(rows, key=rows.__getitem__) if shared_splits(done, name, models)
    ]


def shared_splits(done: Cells, name: str, models: Sequence[str] = ALL) -> set[int]:
    """The splits of a set that every one of these models has finished."""
    finished = [{c["split"] for c in done.where(data=name, model=model)} for model in models]
    return set.intersection(*finished)


def means(done: Cells, measure: str, models: Sequence[str] = ALL) -> np.ndarray:
    """Means over the shared splits, ``sets x models``."""
    found = []
    for name in names_of(done, models):
        shared = shared_splits(done, name, models)
        found.append(
            [
                np.mean(
                    [c[measure] for c in done.where(data=name, model=m) if c["split"] in shared]
                )
                for m in models
            ]
        )
    return np.array(found)


def report(done: Cells, models: Sequence[str]) -> None:
    names = names_of(done, models)
    for what in (*MEASURES, "coverage", "seconds"):
        rows = zip(names, means(done, what, models), strict=True)
        table = [[name, *(f"{value:.3g}" for value in values)] for name, values in rows]
        print_table(f"{what}: means over splits", ["", *models], table)
    ranked = []
    for what in MEASURES:
        values = means(done, what, models)
        ranks = (f"{rank:.2f}" for rank in mean_ranks(values))
        ranked.append([what, *ranks, f"{friedman(values):.2g}"])
    print_table(f"mean ranks, sets: {len(names)}", ["", *models, "Friedman's p"], ranked)


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, ".npz regression sets", resumes=True)
    parser.add_argument("--splits", type=int, default=SPLITS, help="at most")
    options = parsed(parser, arguments)
    if options.quick:
        sets = [simulated(40, 10)]
    else:
        sets = [load_set(path, options.splits) for path in find_sets(options.data, None)]
        sets = [one for one in sets if len(one.splits[0][0]) <= MOST_ROWS]
        sets.sort(key=lambda one: len(one.splits[0][0]))
    chosen = ("relu", "relu, one", "erf") if options.quick else ALL
    todo = [
        (data, split, model)
        for split in range(max(len(one.splits) for one in sets))
        for data in sets
        if split < len(data.splits)
        for model in chosen
    ]
    done = Cells(output(options, "activations"), ["data", "split", "model"])
    fill(done, todo, measure, options.seconds, lambda data, *way: (data.name, *way))
    report(done, chosen)
    return done.all


if __name__ == "__main__":
    main()
