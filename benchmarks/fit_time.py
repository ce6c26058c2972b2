"""How long does a fit take, against scikit-learn's, and is its optimum a good one?

    python benchmarks/fit_time.py --data DIR [--set wine_red] [--split 0] [--restarts 10]
    python benchmarks/fit_time.py --quick

Fits ResNetGPRegressor() and scikit-learn's Gaussian process in the demo's configuration on the same
training rows, then our regressor again with random restarts, for the distance in nats between the
default fit and the best of them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

from resnet_gp import ResNetGPRegressor
from resnet_gp.demo import DataSet, find_sets, load_set, matern_model

RESULTS = Path(__file__).parent / "results" / "fit_time.json"


def simulated(n: int = 80) -> DataSet:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=n)
    return DataSet("simulated", X, y, [(np.arange(n), np.arange(0))])


def measure(data: DataSet, split: int, restarts: int) -> dict[str, object]:
    rows = data.splits[split][0]
    X, y = data.X[rows], data.y[rows]
    ResNetGPRegressor(max_iter=1).fit(X[:50], y[:50])  # imports and compilation

    def timed(model):
        start = time.perf_counter()
        fitted, seconds = model.fit(X, y), time.perf_counter() - start
        print(f"{type(fitted).__name__}: {seconds:.1f} s", flush=True)
        return fitted, seconds

    ours, our_seconds = timed(ResNetGPRegressor(random_state=0))
    theirs, their_seconds = timed(matern_model(X.shape[1]))
    restarted, restart_seconds = timed(ResNetGPRegressor(n_restarts=restarts, random_state=0))
    return {
        "data": data.name,
        "shape": list(X.shape),
        "seconds": our_seconds,
        "seconds of scikit-learn": their_seconds,
        "ratio": our_seconds / their_seconds,
        "seconds with restarts": restart_seconds,
        "log marginal likelihood": ours.log_marginal_likelihood_value_,
        "of the runs with restarts": restarted.restart_values_,
        "nats below the best": max(restarted.restart_values_) - ours.log_marginal_likelihood_value_,
        "log marginal likelihood of scikit-learn": theirs[-1].log_marginal_likelihood_value_,
    }


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of .npz regression sets")
    parser.add_argument("--set", default="wine_red", dest="name")
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="simulated data, nothing saved")
    options = parser.parse_args(arguments)
    if options.quick:
        data, options.split, options.restarts = simulated(), 0, 1
    elif options.data is None:
        parser.error("--data or --quick is needed")
    else:
        data = load_set(find_sets(options.data, [options.name])[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = measure(data, options.split, options.restarts)
    print(json.dumps(result, indent=1))
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
