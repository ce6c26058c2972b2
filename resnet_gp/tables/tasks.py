"""What differs between regression and classification of a table.

A task makes truth of a target column, estimators, splits, and arrays of predictions; it scores
these arrays and knows how they are written and drawn. For regression, predictions are ``n x 2``,
mean and standard deviation; for classification, ``n x classes``, probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.demo import COVERAGE, scores
from resnet_gp.tables.columns import first_text, numbers, refuse_decimal_commas, texts_of
from resnet_gp.tables.reading import TableError, row_numbers, shortened

Array = NDArray[np.float64]
Scores = dict[str, float | None]
Splits = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]

_BINS, _ROWS_PER_BIN = 20, 20  # of the calibration error
_SHOWN_CLASSES = 12  # in the confusion matrix
_SHOWN_COLUMNS = 15  # in the figure of relevance


@dataclass(frozen=True)
class Regression:
    """Predict a number with an interval of probability ``level``."""

    level: float = COVERAGE
    name: str = field(default="regression", init=False)
    baseline: str = field(default="mean and deviation of the training rows", init=False)

    def estimator(self, seed: int) -> Any:
        """An unfitted one."""
        from resnet_gp.estimators import ResNetGPRegressor

        return ResNetGPRegressor(random_state=seed, verbose=False)

    def splits(self, truth: Array, folds: int, seed: int) -> Splits:
        from sklearn.model_selection import KFold

        return KFold(folds, shuffle=True, random_state=seed).split(truth)

    def predict(self, model: Any, X: Any) -> Array:
        return np.stack(model.predict(X, return_std=True), axis=1)

    def trivial(self, truth: Array, n: int) -> Array:
        """Mean and standard deviation of the training targets, for ``n`` rows."""
        return np.tile([truth.mean(), truth.std(ddof=1)], (n, 1))

    def scores(self, truth: Array, predictions: Array) -> Scores:
        """RMSE and width in the units of the target, NLPD in nats."""
        mean, std = predictions.T
        rmse, nlpd, coverage = scores(truth, mean, std, self.level)
        variance = float(np.var(truth))
        return {
            "rmse": rmse,
            "r2": 1 - rmse**2 / variance if variance > 0 else None,
            "nlpd": nlpd,
            "coverage": coverage,
            "width": float(2 * self._half_width * std.mean()),
        }

    def headings(self) -> dict[str, str]:
        """What to call the scores."""
        interval = f"{100 * self.level:g} % interval"
        return {
            "rmse": "RMSE",
            "r2": "R²",
            "nlpd": "NLPD",
            "coverage": f"in {interval}",
            "width": "mean width",
        }

    def table(self, predictions: Array) -> dict[str, Array]:
        """Columns of a file, by name."""
        mean, std = predictions.T
        name = f"{100 * self.level:g}"
        half = self._half_width * std
        return {
            "mean": mean,
            "std": std,
            f"lower_{name}": mean - half,
            f"upper_{name}": mean + half,
        }

    def draw(
        self, axes: Any, truth: Array, predictions: Array, relevance: dict[str, float]
    ) -> None:
        """Three pictures: predictions against truth, coverage of intervals, relevance."""
        from resnet_gp.estimators.displays import (
            CoverageDisplay,
            PredictionDisplay,
            RelevanceDisplay,
        )

        mean, std = predictions.T
        PredictionDisplay(truth, mean, std).plot(ax=axes[0])
        CoverageDisplay.from_predictions(truth, mean, std, ax=axes[1])
        shown = dict(sorted(relevance.items(), key=lambda entry: -entry[1])[:_SHOWN_COLUMNS])
        names = np.array([_plain(name) for name in shown], dtype=object)
        RelevanceDisplay(names, np.array(list(shown.values()))).plot(ax=axes[2])

    @property
    def _half_width(self) -> float:
        return NormalDist().inv_cdf(0.5 + self.level / 2)


@dataclass(frozen=True)
class Classification:
    """Predict the probabilities of classes.

    Attributes:
        classes: the sorted labels, all integers or all texts.
    """

    classes: NDArray[Any]
    name: str = field(default="classification", init=False)
    baseline: str = field(default="shares of the classes in the training rows", init=False)

    def estimator(self, seed: int) -> Any:
        """An unfitted one."""
        from resnet_gp.estimators import ResNetGPClassifier

        return ResNetGPClassifier(random_state=seed, verbose=False)

    def splits(self, truth: NDArray[Any], folds: int, seed: int) -> Splits:
        """With members of every class in every training set, if each class has two."""
        import warnings

        from sklearn.model_selection import StratifiedKFold

        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            yield from list(splitter.split(truth, truth))

    def predict(self, model: Any, X: Any) -> Array:
        return np.asarray(model.predict_proba(X))

    def trivial(self, truth: NDArray[Any], n: int) -> Array:
        """The classes' shares of the training rows, for ``n`` rows."""
        return np.tile((truth[:, None] == self.classes).mean(0), (n, 1))

    def scores(self, truth: NDArray[Any], predictions: Array) -> Scores:
        """Log-loss in nats; the calibration error in bins of equal size."""
        from resnet_gp.estimators.displays import ReliabilityDisplay

        mine = (truth[:, None] == self.classes).argmax(1)
        likelihood = predictions[np.arange(len(truth)), mine]
        confidence, right = self._confidence(truth, predictions)
        display = ReliabilityDisplay.in_bins(confidence, right, _bins(len(truth)))
        return {
            "accuracy": float(right.mean()),
            "log_loss": float(-np.log(likelihood.clip(np.finfo(np.float64).tiny)).mean()),
            "calibration_error": display.expected_calibration_error,
        }

    def headings(self) -> dict[str, str]:
        """What to call the scores."""
        return {
            "accuracy": "accuracy",
            "log_loss": "log-loss",
            "calibration_error": "calibration error",
        }

    def table(self, predictions: Array) -> dict[str, NDArray[Any]]:
        """Columns of a file, by name."""
        probabilities = {
            f"probability_{label}": column
            for label, column in zip(self.classes, predictions.T, strict=True)
        }
        return {"class": self.classes[predictions.argmax(1)], **probabilities}

    def draw(
        self, axes: Any, truth: NDArray[Any], predictions: Array, relevance: dict[str, float]
    ) -> None:
        """Reliability, and the confusion matrix or, of many classes, their accuracy."""
        from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

        from resnet_gp.estimators.displays import ReliabilityDisplay

        confidence, right = self._confidence(truth, predictions)
        ReliabilityDisplay.in_bins(confidence, right, _bins(len(truth))).plot(ax=axes[0])
        if len(self.classes) > _SHOWN_CLASSES:
            shares = [right[truth == label].mean() for label in self.classes]
            axes[1].hist(shares, bins=np.linspace(0, 1, 21))
            axes[1].set(xlabel="share of a class that is recognised", ylabel="classes")
            return
        predicted = self.classes[predictions.argmax(1)]
        matrix = confusion_matrix(truth, predicted, labels=self.classes)
        labels = [_plain(str(label)) for label in self.classes]
        ConfusionMatrixDisplay(matrix, display_labels=labels).plot(
            ax=axes[1], colorbar=False, xticks_rotation="vertical"
        )

    def _confidence(
        self, truth: NDArray[Any], predictions: Array
    ) -> tuple[Array, NDArray[np.bool_]]:
        best = predictions.argmax(1)
        return predictions[np.arange(len(best)), best], self.classes[best] == truth


Task = Regression | Classification


def choose_task(column: Any, wanted: str) -> tuple[Task, NDArray[Any]]:
    """The task for a target column, and its truth: floats, or labels (integers or texts).

    Args:
        column: the target.
        wanted: "regression", "classification", or "auto", which takes the first for numbers.

    Raises:
        TableError: a target is missing, infinite or not a number, all are the same, or a class has
            one row only.
    """
    absent = column.isna().to_numpy()
    if absent.any():
        raise TableError(
            f"column {column.name!r} is missing in {absent.sum()} of {len(absent)} rows: "
            f"{row_numbers(absent)}; leave such rows out",
            "--target",
        )
    values = numbers(column)
    if values is None and wanted != "classification":
        refuse_decimal_commas(column, "--target")
    if wanted == "regression" or (wanted == "auto" and values is not None):
        return Regression(), _numeric_truth(column, values)
    truth = labels_of(column)
    classes, counts = np.unique(truth, return_counts=True)
    _check_classes(str(column.name), classes, counts)
    return Classification(classes), truth


def labels_of(column: Any) -> NDArray[Any]:
    """Integers if all values are, else texts."""
    values = numbers(column)
    if values is not None and (np.abs(values) < 2**53).all() and (values % 1 == 0).all():
        return values.astype(np.int64)
    return texts_of(column).to_numpy(dtype=object).astype(str)


def _numeric_truth(column: Any, values: Array | None) -> Array:
    name = str(column.name)
    if values is None:
        raise TableError(
            f"column {name!r} holds {first_text(column)[1]!r}: regression needs numbers",
            "--target",
        )
    if np.isinf(values).any():
        raise TableError(
            f"column {name!r} is infinite in {row_numbers(np.isinf(values))}", "--target"
        )
    if (values == values[0]).all():
        raise TableError(f"column {name!r} is {values[0]:g} in all rows", "--target")
    return values


def _check_classes(name: str, classes: NDArray[Any], counts: NDArray[np.int64]) -> None:
    if len(classes) < 2:
        raise TableError(f"column {name!r} is {str(classes[0])!r} in all rows", "--target")
    single = classes[counts < 2].tolist()
    if single:
        word = "class has" if len(single) == 1 else "classes have"
        raise TableError(
            f"column {name!r}: {len(single)} of {len(classes)} {word} one row only, two are "
            f"needed: {shortened(single)}",
            "--target",
        )


def _bins(n: int) -> int:
    return int(np.clip(math.ceil(n / _ROWS_PER_BIN), 1, _BINS))


def _plain(text: str) -> str:
    """A text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
