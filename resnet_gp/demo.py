"""The main job on real data: our regressor beside scikit-learn's, on the same splits.

Sets and splits in, numbers, a figure and a JSON file out. What is printed is up to the caller.
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

Array = NDArray[np.float64]

COVERAGE = 0.9
OURS = "resnet-gp"
PEER = "scikit-learn"  # its GaussianProcessRegressor with an ARD Matern-5/2 kernel
_KEYS = ("X", "y", "n_splits")


@dataclass(frozen=True)
class DataSet:
    """A regression set with its train/test splits (row indices)."""

    name: str
    X: Array
    y: Array
    splits: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True)
class Score:
    """One model on one split, in the units of y; times in seconds."""

    data: str
    split: int
    model: str
    rmse: float
    nlpd: float
    coverage: float
    seconds: float


@dataclass(frozen=True)
class Predictions:
    """Test targets of one split, with predictive means and standard deviations."""

    data: str
    model: str
    truth: Array
    mean: Array
    std: Array


def shipped_set(n_splits: int) -> DataSet:
    """scikit-learn's diabetes set (442 x 10) with random 90 / 10 splits."""
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import ShuffleSplit

    X, y = load_diabetes(return_X_y=True)
    splitter = ShuffleSplit(n_splits=n_splits, test_size=0.1, random_state=0)
    return DataSet("diabetes", X, y, list(splitter.split(X)))


def load_set(path: Path, n_splits: int | None = None) -> DataSet:
    """An .npz archive with X, y, n_splits, train_0, test_0, train_1, ...

    Raises:
        ValueError: a key is missing, or X and y are not a regression problem.
    """
    with np.load(path, allow_pickle=False) as archive:
        missing = [key for key in _KEYS if key not in archive]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}")
        X, y = archive["X"], archive["y"]
        if X.ndim != 2 or y.shape != (len(X),) or y.dtype.kind != "f":
            raise ValueError(
                f"{path} is not a regression set: X has shape {X.shape}, y {y.shape} of {y.dtype}"
            )
        available = int(archive["n_splits"])
        count = available if n_splits is None else min(n_splits, available)
        splits = [
            (archive[f"train_{i}"].astype(np.int64), archive[f"test_{i}"].astype(np.int64))
            for i in range(count)
        ]
    return DataSet(path.stem, X, y, splits)


def find_sets(folder: Path, names: list[str] | None = None) -> list[Path]:
    """The .npz files of a folder (or of its folder ``regression``), in order.

    Raises:
        FileNotFoundError: there is no such folder, it has no sets, or lacks one of ``names``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--data: {folder} is not a folder")
    inner = folder / "regression"
    paths = sorted((inner if inner.is_dir() else folder).glob("*.npz"))
    if not paths:
        raise FileNotFoundError(f"--data: {folder} holds no .npz sets")
    if not names:
        return paths
    known = {path.stem: path for path in paths}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise FileNotFoundError(
            f"--set: {', '.join(unknown)} not in {folder}; there are {', '.join(known)}"
        )
    return [known[name] for name in names]


def resnet_model(d: int) -> Any:
    from resnet_gp.estimators import ResNetGPRegressor

    return ResNetGPRegressor(random_state=0)


def matern_model(d: int) -> Any:
    """scikit-learn's GP with an ARD Matern-5/2 kernel and white noise, on standardised data."""
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
    """Every model on every split, one at a time."""
    for index, (train, test) in enumerate(data.splits):
        for name, make in MODELS.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # lengthscales at a bound are no news here
                model = make(data.X.shape[1]).fit(data.X[train], data.y[train])
            mean, std = model.predict(data.X[test], return_std=True)
            seconds = time.perf_counter() - start
            truth = data.y[test]
            score = Score(data.name, index, name, *scores(truth, mean, std), seconds)
            yield score, Predictions(data.name, name, truth, mean, std)


def scores(
    truth: Array, mean: Array, std: Array, level: float = COVERAGE
) -> tuple[float, float, float]:
    """RMSE, mean negative log predictive density, coverage of the central interval."""
    error = truth - mean
    density = 0.5 * math.log(2 * math.pi) + np.log(std) + 0.5 * (error / std) ** 2
    inside = np.abs(error) <= NormalDist().inv_cdf(0.5 + level / 2) * std
    return float(np.sqrt(np.mean(error**2))), float(np.mean(density)), float(np.mean(inside))


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
    """All scores, their summary, and the versions of what produced them."""
    packages = ("resnet-gp", "torch", "gpytorch", "scikit-learn", "numpy", "scipy")
    content = {
        "versions": {name: version(name) for name in packages},
        "coverage_level": COVERAGE,
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
    """Predictions against truth with 90 % intervals: a row for each set, a column per model."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(p.data for p in predictions))
    figure = Figure(figsize=(9, 4.2 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), len(MODELS), squeeze=False, sharex="row", sharey="row")
    half_width = NormalDist().inv_cdf(0.5 + COVERAGE / 2)
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
        row[0].set_ylabel(f"prediction with {COVERAGE:.0%} interval")
    figure.savefig(path, dpi=120)
