"""The demo: our regressor and scikit-learn's on the same splits of real data.

Takes sets with splits; returns scores and predictions; writes a JSON file and a figure.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.predictive.scores import LEVEL, gaussian_scores
from resnet_gp.regression_sets import DataSet

Array = NDArray[np.float64]

OURS = "resnet-gp"
PEER = "scikit-learn"  # its GaussianProcessRegressor with an ARD Matern-5/2 kernel


@dataclass(frozen=True)
class Score:
    """Scores of one model on one split, in the units of y; seconds of fit and prediction."""

    data: str
    split: int
    model: str
    rmse: float
    nlpd: float
    coverage: float
    seconds: float


@dataclass(frozen=True)
class Predictions:
    """Test targets of one split, with their predictive means and standard deviations."""

    data: str
    model: str
    truth: Array
    mean: Array
    std: Array


def resnet_model(d: int) -> Any:
    from resnet_gp.estimators import ResNetGPRegressor

    return ResNetGPRegressor(random_state=0)


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


MODELS: dict[str, Callable[[int], Any]] = {OURS: resnet_model, PEER: matern_model}


def run(data: DataSet) -> Iterator[tuple[Score, Predictions]]:
    """Fit every model to every split, one at a time."""
    for index, (train, test) in enumerate(data.splits):
        for name, make in MODELS.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of lengthscales at a bound
                model = make(data.X.shape[1]).fit(data.X[train], data.y[train])
            mean, std = model.predict(data.X[test], return_std=True)
            seconds = time.perf_counter() - start
            truth = data.y[test]
            score = Score(data.name, index, name, *gaussian_scores(truth, mean, std), seconds)
            yield score, Predictions(data.name, name, truth, mean, std)


def summarise(all_scores: list[Score]) -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
    """Mean and standard error over splits, by set, model and measure."""
    summary: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    for data, model in dict.fromkeys((score.data, score.model) for score in all_scores):
        chosen = [asdict(s) for s in all_scores if (s.data, s.model) == (data, model)]
        summary.setdefault(data, {})[model] = {
            measure: mean_and_error(np.array([row[measure] for row in chosen]))
            for measure in ("rmse", "nlpd", "coverage", "seconds")
        }
    return summary


def mean_and_error(values: Array) -> tuple[float, float]:
    """Mean and standard error (NaN for a single value)."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return float(values.mean()), error


def write_json(path: Path, all_scores: list[Score]) -> None:
    """Write all scores, their summary, and the versions of the packages."""
    packages = ("resnet-gp", "torch", "gpytorch", "scikit-learn", "numpy", "scipy")
    content = {
        "versions": {name: version(name) for name in packages},
        "coverage_level": LEVEL,
        "scores": [asdict(score) for score in all_scores],
        "summary": {
            data: {
                model: {
                    measure: {"mean": mean, "standard_error": None if math.isnan(error) else error}
                    for measure, (mean, error) in measures.items()
                }
                for model, measures in models.items()
            }
            for data, models in summarise(all_scores).items()
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def draw(path: Path, predictions: list[Predictions]) -> None:
    """Draw predictions with 90 % intervals against the truth: sets in rows, models in columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(p.data for p in predictions))
    figure = Figure(figsize=(9, 4.2 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), len(MODELS), squeeze=False, sharex="row", sharey="row")
    half_width = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    for row, name in zip(axes, names, strict=True):
        for axis, model in zip(row, MODELS, strict=True):
            shown = [p for p in predictions if (p.data, p.model) == (name, model)]
            truth, mean, std = (
                np.concatenate([getattr(p, field) for p in shown])
                for field in ("truth", "mean", "std")
            )
            inside = np.abs(truth - mean) <= half_width * std
            for mask, colour in ((inside, "tab:blue"), (~inside, "tab:red")):
                axis.errorbar(
                    truth[mask], mean[mask], half_width * std[mask],
                    fmt="o", markersize=3, linewidth=0.7, alpha=0.6, color=colour,
                )  # fmt: skip
            ends = [truth.min(), truth.max()]
            axis.plot(ends, ends, color="black", linewidth=1)
            axis.set_title(f"{name}: {model}\n{inside.mean():.0%} of the truth inside", fontsize=10)
            axis.set_xlabel("truth")
        row[0].set_ylabel(f"prediction with {LEVEL:.0%} interval")
    figure.savefig(path, dpi=120)
