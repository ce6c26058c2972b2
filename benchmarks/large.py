"""How do time, memory and error grow with the number of rows?

    python benchmarks/large.py                              # 100 to 10,000,000 rows
    python benchmarks/large.py --models resnet lightgbm --rows 10000 100000
    python benchmarks/large.py --quick

Large sets of data are in regression.py. Here, the rows are simulated: eight inputs, two of them
without effect, and noise of deviation 0.1. Models: "resnet" is the regressor as it comes;
"catboost" and "lightgbm" are boosted trees with their packages' defaults, whose number is chosen on
a fifth of the rows (extra "peers"); "sgpr" and "svgp" are GPyTorch's sparse GPs (sparse_gps.py).

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

import numpy as np
import peers
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
ROWS = (100, 300, 1000, 3000, 10_000, 100_000, 1_000_000, 10_000_000)
OTHERS = ("catboost", "lightgbm", "sgpr", "svgp")
D, NOISE = 8, 0.1
LEAST_NEW, MOST_NEW = 10_000, 100_000  # rows to predict
Predict = Callable[[np.ndarray], Law]


def resnet(X: np.ndarray, y: np.ndarray) -> Predict:
    return ResNetGPRegressor().fit(X, y).predict_law


def untuned(peer: peers.Peer, X: np.ndarray, y: np.ndarray) -> Predict:
    return peers.fit(peer, peers.search(peer, X, y, seconds=0), X, y)


MODELS: dict[str, Callable[[np.ndarray, np.ndarray], Predict]] = {
    "resnet": resnet,
    **{name: partial(untuned, peers.REGRESSORS[name]) for name in OTHERS},
}


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) * np.cos(x[:, 1]) + x[:, 2] * x[:, 3] + np.abs(x[:, 4]) + x[:, 5]


def cell(rows: int, model: str) -> Cell:
    """Fit one model to simulated rows, and predict new ones: as many, within bounds."""
    rng = np.random.default_rng(rows)
    x, new = rng.normal(size=(rows, D)), rng.normal(size=(min(max(rows, LEAST_NEW), MOST_NEW), D))
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
