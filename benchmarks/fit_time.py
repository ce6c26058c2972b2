"""How long does a fit take, against scikit-learn's, and is its optimum a good one?

    python benchmarks/fit_time.py --data DIR [--set wine_red] [--split 0] [--restarts 10]
    python benchmarks/fit_time.py --quick

Fits one network of ours to the features as they are, and scikit-learn's Gaussian process,
configured as in the demo, to the same training rows. Then fits ours with random restarts, and
prints by how many nats the first fit is below the best of them.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

from harness import output, parsed, parser_of, processor, save, simulated, timed
from regression import PLAIN
from regression_sets import DataSet, find_sets, load_set

from resnet_gp import ResNetGPRegressor
from resnet_gp.demo import matern_model


def measure(data: DataSet, split: int, restarts: int) -> dict[str, object]:
    rows = data.splits[split][0]
    X, y = data.X[rows], data.y[rows]
    ResNetGPRegressor(max_iter=1).fit(X[:50], y[:50])  # imports and compilation

    def fit(model: Any) -> tuple[Any, float]:
        fitted, seconds = timed(lambda: model.fit(X, y))
        print(f"{type(fitted).__name__}: {seconds:.1f} s", flush=True)
        return fitted, seconds

    options: dict[str, Any] = {**PLAIN, "rank_features": False, "rotate_features": False}
    ours, our_seconds = fit(ResNetGPRegressor(**options))
    theirs, their_seconds = fit(matern_model(X.shape[1]))
    restarted, restart_seconds = fit(ResNetGPRegressor(n_restarts=restarts, **options))
    return {
        "processor": processor(),
        "data": data.name,
        "shape": list(X.shape),
        "seconds": our_seconds,
        "seconds of scikit-learn": their_seconds,
        "ratio": our_seconds / their_seconds,
        "seconds with restarts": restart_seconds,
        "log marginal likelihood": ours.log_marginal_likelihood_value_,
        "log marginal likelihood with restarts": restarted.log_marginal_likelihood_value_,
        "log posterior density of each run": restarted.restart_values_,
        "nats below the best": max(restarted.restart_values_) - restarted.restart_values_[0],
        "log marginal likelihood of scikit-learn": theirs[-1].log_marginal_likelihood_value_,
    }


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = parser_of(__doc__, ".npz regression sets")
    parser.add_argument("--set", default="wine_red", dest="name")
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--restarts", type=int, default=10)
    options = parsed(parser, arguments)
    if options.quick:
        data, options.split, options.restarts = simulated(80), 0, 1
    else:
        data = load_set(find_sets(options.data, [options.name])[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = measure(data, options.split, options.restarts)
    print(json.dumps(result, indent=1))
    save(result, output(options, "fit_time"))
    return result


if __name__ == "__main__":
    main()
