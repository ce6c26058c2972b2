"""What does each part of the predictive law bring?

    python benchmarks/ablation.py --data DIR          # sets up to 1500 rows, three splits each
    python benchmarks/ablation.py --quick             # simulated data, seconds

The regressor with one network, with two, and with both weighed ("auto"); at its most probable
hyperparameters ("map"), averaged over draws ("laplace"), and, on the first split, over one chain of
the no-U-turn sampler ("nuts": 100 draws after as many that adapt it, given at most 300 rows); each
with the Gaussian law and with the residual law ("student"), which share a fit. Ranks of features,
directions and second fits for outliers are left out. Prints means over splits, and mean ranks over
the sets.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from harness import Cell, Cells, fill, output, parsed, parser_of, print_table, simulated, timed
from ranks import mean_ranks
from regression_sets import DataSet, find_sets, load_set

from resnet_gp import ResNetGPRegressor
from resnet_gp.fitting.residuals import with_residual_law
from resnet_gp.predictive import Law
from resnet_gp.predictive.scores import scores_of

COMPONENTS = (1, 2, "auto")
HYPERPARAMETERS = ("map", "laplace", "nuts")
RESIDUALS = ("gaussian", "student")
MEASURES = ("rmse", "nlpd", "crps", "coverage", "seconds")
SPLITS, MOST_ROWS = 3, 1500
CHAIN = {"n_chains": 1, "n_draws": 100, "hyperparameter_samples": 300}
WAYS = list(itertools.product(COMPONENTS, HYPERPARAMETERS[:2], RESIDUALS))  # on every set


def cells(data: DataSet, split: int, components: Any, hyperparameters: str) -> list[Cell]:
    """One fit, scored with both laws."""
    train, test = data.splits[split]
    chain = CHAIN if hyperparameters == "nuts" else {}
    model = ResNetGPRegressor(
        n_components=components,
        hyperparameters=hyperparameters,
        rank_features=False,
        rotate_features=False,
        residuals="gaussian",
        verbose=False,
        **chain,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, seconds = timed(lambda: model.fit(data.X[train], data.y[train]))
    laws = model.predict_law(data.X[test]), student_law(model, data.X[test])
    about = {"data": data.name, "split": split, "rows": len(train)}
    return [
        {
            **about, "components": components, "hyperparameters": hyperparameters,
            "residuals": name, **scores_of(law, data.y[test])._asdict(), "seconds": seconds,
        }
        for name, law in zip(RESIDUALS, laws, strict=True)
    ]  # fmt: skip


def student_law(model: ResNetGPRegressor, X: np.ndarray) -> Law:
    """The law of the same fit with a residual law."""
    training = model._training(model.X_train_, model.y_train_, None)
    posterior = with_residual_law(model._fitted, training).posterior
    return model._units.law(posterior.law(model._standardised(X)))


def work(sets: list[DataSet]) -> Iterator[tuple[DataSet, int, Any, str]]:
    """Data set, split, networks and hyperparameters of every fit; chains, which are slow, last."""
    for data in sets:
        ways = itertools.product(range(len(data.splits)), COMPONENTS, HYPERPARAMETERS[:2])
        yield from ((data, *way) for way in ways)
    for components in reversed(COMPONENTS):
        yield from ((data, 0, components, HYPERPARAMETERS[2]) for data in sets)


def report(done: Cells) -> None:
    names = list(dict.fromkeys(cell["data"] for cell in done.all))
    for measure in MEASURES:
        columns = {}
        for way in itertools.product(COMPONENTS, HYPERPARAMETERS, RESIDUALS):
            fixed = dict(zip(("components", "hyperparameters", "residuals"), way, strict=True))
            columns[way] = [done.values(measure, data=name, **fixed) for name in names]
        rows = [
            [", ".join(map(str, way)), *(f"{v.mean():.3g}" if len(v) else "" for v in values)]
            for way, values in columns.items()
        ]
        print_table(f"{measure}: means over splits", ["", *names], rows)
    columns = [", ".join(map(str, way)) for way in WAYS]
    ranked = [[m, *(f"{rank:.2f}" for rank in mean_ranks(means(done, m)))] for m in MEASURES[:3]]
    print_table("mean ranks over sets", ["", *columns], ranked)


def means(done: Cells, measure: str) -> np.ndarray:
    """Means over splits, ``sets x WAYS``, of the sets on which every way has finished."""
    names = dict.fromkeys(cell["data"] for cell in done.all)
    keys = ("components", "hyperparameters", "residuals")
    values = [
        [done.values(measure, data=name, **dict(zip(keys, way, strict=True))) for way in WAYS]
        for name in names
    ]
    return np.array([[each.mean() for each in row] for row in values if all(map(len, row))])


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, ".npz regression sets", resumes=True)
    parser.add_argument("--sets", nargs="+", default=["all"], help='names, or "all"')
    parser.add_argument("--splits", type=int, default=SPLITS, help="at most")
    options = parsed(parser, arguments)
    if options.quick:
        sets = [simulated(40, 10, splits=1)]
    else:
        chosen = None if options.sets == ["all"] else options.sets
        sets = [load_set(path, options.splits) for path in find_sets(options.data, chosen)]
    sets = [one for one in sets if len(one.splits[0][0]) <= MOST_ROWS]
    todo = list(work(sorted(sets, key=lambda one: len(one.splits[0][0]))))
    if options.quick:
        todo = [one for one in todo if one[3] != "nuts"]
    done = Cells(output(options, "ablation"), ["data", "split", "components", "hyperparameters"])
    fill(done, todo, cells, options.seconds, lambda data, *way: (data.name, *way))
    report(done)
    return done.all


if __name__ == "__main__":
    main()
