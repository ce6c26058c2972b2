# %% [markdown]
# # Intervals from a pipeline
#
# The regressor at the end of a scikit-learn pipeline that turns the column "sex" of the diabetes
# set into an indicator and passes the numbers on. Scaling is not needed: the regressor
# standardises. In cross-validation, 50 % and 90 % intervals are judged by the share of left-out
# targets inside, their width, and the interval score, which combines both (lower is better;
# Gneiting & Raftery 2007). The comparison is with quantile regression by gradient boosting, with
# default settings and with small trees, and with a Bayesian linear model, which does as well on
# this set.
#
#     python examples/pipeline_intervals.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from resnet_gp import ResNetGPRegressor
from resnet_gp.estimators.displays import CoverageDisplay, PredictionDisplay
from resnet_gp.estimators.laws import law_of
from resnet_gp.predictive import Law

LEVELS = (0.5, 0.9)
PROBABILITIES = np.array([0.25, 0.75, 0.05, 0.95])  # the ends of both intervals


# %%
def pipeline(*steps) -> Pipeline:
    indicator = OneHotEncoder(drop="if_binary", sparse_output=False)
    return make_pipeline(
        make_column_transformer((indicator, ["sex"]), remainder="passthrough"), *steps
    )


def predicted_law(model: Pipeline, X, y, X_new) -> Law:
    """The law of the pipeline's last step, or the normal law of its mean and deviation."""
    return law_of(model.fit(X, y), X_new)


def boosted_quantiles(X, y, X_new, **settings) -> np.ndarray:
    """Quantiles by one boosted model each, `n x 4`."""
    models = [
        pipeline(GradientBoostingRegressor(loss="quantile", alpha=p, random_state=0, **settings))
        for p in PROBABILITIES
    ]
    return np.stack([model.fit(X, y).predict(X_new) for model in models], 1)


SMALL = {"max_depth": 1, "learning_rate": 0.05, "subsample": 0.5, "min_samples_leaf": 10}
WAYS = {
    "ResNet GP": lambda *data: predicted_law(pipeline(ResNetGPRegressor()), *data),
    "linear": lambda *data: predicted_law(pipeline(StandardScaler(), BayesianRidge()), *data),
    "boosting": boosted_quantiles,
    "boosting, small trees": lambda *data: boosted_quantiles(*data, **SMALL),
}


# %%
@dataclass
class Intervals:
    """Ends `n x 4`, in the order of `PROBABILITIES`, and the targets, `n`.

    `below` has the predictive probabilities of values below the targets, from ways with a law.
    """

    ends: np.ndarray
    y: np.ndarray
    below: np.ndarray | None = None

    def scores(self, k: int) -> tuple[float, float, float]:
        """Coverage, mean width and interval score at `LEVELS[k]`."""
        low, high = self.ends[:, 2 * k], self.ends[:, 2 * k + 1]
        outside = np.maximum(low - self.y, 0) + np.maximum(self.y - high, 0)
        score = high - low + 2 / (1 - LEVELS[k]) * outside
        return float(np.mean(outside == 0)), float(np.mean(high - low)), float(np.mean(score))


def cross_validated(ways: list[str], folds: int, rows: int) -> dict[str, Intervals]:
    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    X, y = X[:rows], y[:rows]
    found = {way: Intervals(np.empty((len(y), 4)), y.to_numpy(), np.empty(len(y))) for way in ways}
    for train, test in KFold(folds, shuffle=True, random_state=0).split(X):
        for way, intervals in found.items():
            ends = WAYS[way](X.iloc[train], y.iloc[train], X.iloc[test])
            if isinstance(ends, Law):
                intervals.below[test] = ends.cdf(y.iloc[test])
                ends = ends.quantile(PROBABILITIES)
            intervals.ends[test] = ends
    return found


# %% [markdown]
# The displays take any predictions, including those of cross-validation.


# %%
def draw(path: Path, found: dict[str, Intervals]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    intervals = found["ResNet GP"]
    low, high = intervals.ends[:, 2:].T
    PredictionDisplay(intervals.y, (low + high) / 2, low, high).plot(ax=left)
    CoverageDisplay.from_pit(intervals.below, ax=right)
    for k, (way, marker) in enumerate(zip(list(found)[1:], "s^v", strict=False)):
        coverage = [found[way].scores(i)[0] for i in range(len(LEVELS))]
        right.plot(LEVELS, coverage, marker, color=f"C{k + 1}", ms=5, label=way)
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90)


# %%
def main(arguments: list[str] | None = None) -> dict[str, Intervals]:
    parser = argparse.ArgumentParser(description="Intervals from a pipeline")
    parser.add_argument("--quick", action="store_true", help="two folds of 160 rows")
    parser.add_argument("--figure", type=Path, help="where to draw the intervals")
    options = parser.parse_args(arguments)
    found = cross_validated(list(WAYS), *(2, 160) if options.quick else (5, 442))
    print(f"{'':22s}" + "".join(f" {level:5.0%}: inside width  score" for level in LEVELS))
    for way, intervals in found.items():
        scores = [intervals.scores(k) for k in range(len(LEVELS))]
        print(f"{way:22s}" + "".join(f" {c:13.1%} {w:5.0f} {s:6.1f}" for c, w, s in scores))
    if options.figure:
        draw(options.figure, found)
    return found


# %%
if __name__ == "__main__":
    main()
