"""What happens with few rows, and outside the data?

    python benchmarks/small_data.py
    python benchmarks/small_data.py --quick

The models of regression.py on scikit-learn's diabetes set: the regressor as it comes, and with one
kernel at its most probable hyperparameters and a Gaussian law. Few: 10, 20, 40 or 80 rows drawn at
random, ten times; the other rows are predicted. Outside: half of the rows, drawn at random ten
times; the model is trained on rows whose linear prediction is in the middle 60 %, and tested on the
others. Prints RMSE, negative log predictive density, CRPS and coverage of 90 % intervals, means and
standard errors over draws.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
from harness import Cell, Cells, fill, mean_and_error, output, parser_of, print_table
from regression import MODELS, settings
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from resnet_gp import ResNetGPRegressor
from resnet_gp.predictive.scores import scores_of

COUNTS, DRAWS = (10, 20, 40, 80), 10
OUTSIDE = "outside"
MEASURES = ("rmse", "nlpd", "crps", "coverage")


@cache
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    return load_diabetes(return_X_y=True)


def rows(case: str, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Training rows and test rows."""
    X, y = diabetes()
    rng = np.random.default_rng(draw)
    if case != OUTSIDE:
        order = rng.permutation(len(y))
        return order[: int(case)], order[int(case) :]
    line = LinearRegression().fit(X, y).predict(X)
    low, high = np.quantile(line, [0.2, 0.8])
    inside = (line > low) & (line < high)
    kept = rng.random(len(y)) < 0.5
    return np.flatnonzero(inside & kept), np.flatnonzero(~inside & kept)


def measure(case: str, draw: int, model: str) -> Cell:
    X, y = diabetes()
    train, test = rows(case, draw)
    fitted = ResNetGPRegressor(**settings(model, X.shape[1]), verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(X[train], y[train])
    found = scores_of(fitted.predict_law(X[test]), y[test])
    return {"case": case, "draw": draw, "model": model, **found._asdict()}


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, resumes=True)
    options = parser.parse_args(arguments)
    cases, draws = [*map(str, COUNTS), OUTSIDE], DRAWS
    if options.quick:
        cases, draws = ["10"], 2
    cells = Cells(output(options, "small_data"), ["case", "draw", "model"])
    todo = [(case, draw, model) for case in cases for draw in range(draws) for model in MODELS]
    fill(cells, todo, measure, options.seconds)
    for what in MEASURES:
        table = [
            [case, *(mean_and_error(cells.values(what, case=case, model=m)) for m in MODELS)]
            for case in cases
            if cells.where(case=case, model=[*MODELS][-1])
        ]
        print_table(f"diabetes: {what}", ["rows", *MODELS], table)
    return cells


if __name__ == "__main__":
    main()
