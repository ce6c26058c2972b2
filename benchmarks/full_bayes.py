"""What is gained by drawing the hyperparameters, where rows are few?

    python benchmarks/full_bayes.py --data DIR [--set yacht] [--rows 100] [--splits 5]
    python benchmarks/full_bayes.py --quick

One kernel and a Gaussian law, with the hyperparameters at maximum likelihood ("ml"), at the mode of
their posterior under weak priors ("map"), and averaged over that posterior by importance sampling
("laplace") and by four chains ("nuts"), on the first rows of each split's training part. Prints
RMSE, negative log predictive density and coverage of 90 % intervals on the test part, and the
coverage on all rows not used in training: means and standard errors over splits, median seconds,
and paired differences to "map".
"""

from __future__ import annotations

import warnings

import numpy as np
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
from regression_sets import DataSet, find_sets, load_set
from sklearn.utils import Bunch

from resnet_gp import ResNetGPRegressor

WAYS = ("ml", "map", "laplace", "nuts")
MEASURES = ("rmse", "nlpd", "coverage", "coverage of all others", "seconds")


def measure(data: DataSet, rows: int, split: int, way: str, chains: Bunch) -> Cell:
    train, test = data.splits[split]
    train, others = train[:rows], train[rows:]
    model = ResNetGPRegressor(
        hyperparameters=way, n_components=1, residuals="gaussian", random_state=split,
        n_chains=chains.number, n_draws=chains.draws, n_jobs=chains.n_jobs, verbose=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, seconds = timed(lambda: model.fit(data.X[train], data.y[train]))
    X, y = data.X[test], data.y[test]
    inside, inside_others = (covered(model, data, part) for part in (test, others))
    cell: Cell = {
        "set": data.name, "rows": rows, "split": split, "way": way, "seconds": seconds,
        "rmse": float(np.sqrt(np.mean((model.predict(X) - y) ** 2))),
        "nlpd": -float(model.predict_log_density(X, y).mean()),
        "coverage": float(inside.mean()),
        "coverage of all others": float(np.concatenate([inside, inside_others]).mean()),
    }  # fmt: skip
    if way == "nuts":
        from resnet_gp.bayes import problems

        cell |= {"divergences": model.draws_.num_divergences, "problems": problems(model.draws_)}
    return cell


def covered(model: ResNetGPRegressor, data: DataSet, rows: np.ndarray) -> np.ndarray:
    """Whether each of these targets lies in its 90 % interval."""
    if not len(rows):
        return np.empty(0, bool)
    low, high = model.predict_quantiles(data.X[rows], (0.05, 0.95)).T
    return (low < data.y[rows]) & (data.y[rows] < high)


def report(cells: Cells, name: str, rows: int) -> None:
    def of(way: str, what: str) -> np.ndarray:
        return cells.values(what, set=name, rows=rows, way=way)

    def text(way: str, what: str) -> str:
        if what == "seconds":  # the machine may have been busy
            return f"{np.median(of(way, what)):.0f}"
        return mean_and_error(of(way, what)) if len(of(way, what)) else ""

    table = [[way, *(text(way, what) for what in MEASURES)] for way in WAYS if len(of(way, "rmse"))]
    print_table(f"{name}, {rows} rows, {len(of('map', 'rmse'))} splits", ["", *MEASURES], table)
    for way in ("ml", "nuts"):
        gaps = {
            what: mean_and_error(of(way, what) - of("map", what))
            for what in MEASURES[:-1]
            if len(of(way, what)) == len(of("map", what)) > 0
        }
        print(f"{way} less map: " + ", ".join(f"{what} {gap}" for what, gap in gaps.items()))


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, data=".npz regression sets", resumes=True)
    parser.add_argument("--set", default="yacht", dest="name")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--draws", type=int, default=200, help="of each of four chains")
    parser.add_argument("--jobs", type=int, default=1, help="processes that run chains")
    options = parsed(parser, arguments)
    chains = Bunch(number=4, draws=options.draws, n_jobs=options.jobs)
    if options.quick:
        data, options.rows, options.splits = simulated(40, 20, 2), 15, 2
        chains = Bunch(number=1, draws=8, n_jobs=1)
    else:
        [path] = find_sets(options.data, [options.name])
        data = load_set(path, options.splits)
    cells = Cells(output(options, "full_bayes"), ["set", "rows", "split", "way"])
    todo = [
        (data.name, options.rows, split, way) for split in range(options.splits) for way in WAYS
    ]
    fill(cells, todo, lambda _, *work: measure(data, *work, chains), options.seconds)
    report(cells, data.name, options.rows)
    return cells


if __name__ == "__main__":
    main()
