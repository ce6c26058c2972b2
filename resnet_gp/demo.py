"""The demo: our regressor and scikit-learn's on the same splits of scikit-learn's diabetes set."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.predictive.law import Law
from resnet_gp.predictive.scores import LEVEL, scores_of

Array = NDArray[np.float64]
Splits = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
Summary = dict[str, dict[str, tuple[float, float]]]

DATA = "diabetes"
MEASURES = ("rmse", "nlpd", "crps", "coverage", "seconds")
_N_SPLITS = 3


@dataclass(frozen=True)
class Result:
    """Predictions of one model for the test rows of a split; ``seconds`` of fit and prediction."""

    split: int
    model: str
    truth: Array
    law: Law
    seconds: float

    def scores(self) -> dict[str, Any]:
        """Scores with the names of the data, the split and the model."""
        scores = scores_of(self.law, self.truth)._asdict() | {"seconds": self.seconds}
        return {"data": DATA, "split": self.split, "model": self.model, **scores}


def load() -> tuple[Array, Array, Splits]:
    """Return features (442 x 10), targets, and the rows of random 90 / 10 splits."""
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import ShuffleSplit

    X, y = load_diabetes(return_X_y=True)
    splitter = ShuffleSplit(n_splits=_N_SPLITS, test_size=0.1, random_state=0)
    return X, y, list(splitter.split(X))


def matern_model(d: int) -> Any:
    """Return scikit-learn's GP, with an ARD Matern-5/2 kernel and noise, on standardised data."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kernel = ConstantKernel(1.0, (1e-5, 1e6)) * Matern(np.ones(d), (1e-3, 1e4), nu=2.5)
    kernel += WhiteKernel(0.1, (1e-8, 1e2))
    return make_pipeline(
        StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    )


def models(d: int) -> dict[str, Any]:
    """Unfitted regressors for ``d`` features, by name."""
    from resnet_gp.estimators import ResNetGPRegressor

    return {"resnet-gp": ResNetGPRegressor(random_state=0), "scikit-learn": matern_model(d)}


def run(X: Array, y: Array, splits: Splits) -> Iterator[Result]:
    """Fit every model to every split, one at a time."""
    from resnet_gp.estimators.laws import law_of

    for split, (train, test) in enumerate(splits):
        for name, model in models(X.shape[1]).items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of lengthscales at a bound
                model.fit(X[train], y[train])
            law = law_of(model, X[test])
            yield Result(split, name, y[test], law, time.perf_counter() - start)


def summarise(results: Sequence[Result]) -> Summary:
    """Mean and standard error over splits, by model and measure."""
    summary: Summary = {}
    for model in dict.fromkeys(result.model for result in results):
        rows = [result.scores() for result in results if result.model == model]
        summary[model] = {
            measure: _mean_and_error(np.array([row[measure] for row in rows]))
            for measure in MEASURES
        }
    return summary


def _mean_and_error(values: Array) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def write_json(path: Path, results: Sequence[Result]) -> None:
    """Write all scores, their summary, and the versions of the packages."""
    packages = ("resnet-gp", "torch", "gpytorch", "scikit-learn", "numpy", "scipy")
    summary = {
        model: {
            measure: {"mean": mean, "standard_error": error}
            for measure, (mean, error) in measures.items()
        }
        for model, measures in summarise(results).items()
    }
    content = {
        "versions": {name: version(name) for name in packages},
        "coverage_level": LEVEL,
        "scores": [result.scores() for result in results],
        "summary": {DATA: summary},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def draw(path: Path, results: Sequence[Result]) -> None:
    """Draw predictions with 90 % intervals against the truth, each model in a column."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(result.model for result in results))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(names), sharex=True, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        shown = [result for result in results if result.model == name]
        truth = np.concatenate([result.truth for result in shown])
        mean = np.concatenate([result.law.mean for result in shown])
        low, high = np.concatenate([result.law.interval(LEVEL) for result in shown], axis=1)
        inside = (low <= truth) & (truth <= high)
        for mask, colour in ((inside, "tab:blue"), (~inside, "tab:red")):
            axis.errorbar(
                truth[mask], mean[mask], np.stack([mean - low, high - mean])[:, mask],
                fmt="o", markersize=3, linewidth=0.7, alpha=0.6, color=colour,
            )  # fmt: skip
        ends = [truth.min(), truth.max()]
        axis.plot(ends, ends, color="black", linewidth=1)
        axis.set_title(f"{DATA}: {name}\n{inside.mean():.0%} of the truth inside", fontsize=10)
        axis.set_xlabel("truth")
    axes[0].set_ylabel(f"prediction with {LEVEL:.0%} interval")
    figure.savefig(path, dpi=120)
