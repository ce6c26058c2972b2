"""Regression and classification of a table: estimators, splits, scores, tables and figures.

Predictions are laws of ``n`` rows, or probabilities ``n x classes``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resnet_gp.predictive.law import Law
from resnet_gp.predictive.scores import LEVEL, scores_of
from resnet_gp.tables.joined import JoinedLaw

if TYPE_CHECKING:
    from resnet_gp.estimators.displays import ReliabilityDisplay

Array = NDArray[np.float64]
Scores = dict[str, float | None]
Splits = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]

_BINS, _ROWS_PER_BIN = 20, 20  # of the calibration error
_SHOWN_CLASSES = 12  # in the confusion matrix
_SHOWN_COLUMNS = 15  # in the figure of relevance


@dataclass(frozen=True)
class Regression:
    """Predict a number with an interval of probability ``level``."""

    level: float = LEVEL
    name: ClassVar[str] = "regression"
    leaves_rows_out: ClassVar[bool] = True
    baseline: ClassVar[str] = "mean and deviation of the training rows"

    def estimator(self, seed: int) -> Any:
        """Return an unfitted estimator."""
        from resnet_gp.estimators import ResNetGPRegressor

        return ResNetGPRegressor(random_state=seed, verbose=False)

    def splits(self, truth: Array, folds: int, seed: int) -> Splits:
        from sklearn.model_selection import KFold

        return KFold(folds, shuffle=True, random_state=seed).split(truth)

    def predict(self, model: Any, X: Any) -> Law:
        law: Law = model.predict_law(X)
        return law

    def leave_out(self, model: Any, rows: NDArray[np.int64]) -> Law:
        """Predict training rows from all the others."""
        law: Law = model.loo_predict_law(rows)
        return law

    def trivial(self, truth: Array, n: int) -> Law:
        """Predict the mean and standard deviation of the training targets for ``n`` rows."""
        return Law.normal(np.full(n, truth.mean()), truth.std(ddof=1))

    def join(self, parts: Sequence[Law], order: NDArray[np.int64]) -> JoinedLaw:
        """Join predictions; row i of the whole lies at ``order[i]`` in the parts, put together."""
        return JoinedLaw(parts, order)

    def scores(self, truth: Array, predictions: Law | JoinedLaw) -> Scores:
        """Scores of predictions: RMSE, CRPS and width in the units of the target, NLPD in nats.

        None where they are not finite, as the NLPD of a baseline from equal targets.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            found = scores_of(predictions, truth, self.level)
        variance = float(np.var(truth))
        low, high = predictions.interval(self.level)
        scores = {
            "rmse": found.rmse,
            "r2": 1 - found.rmse**2 / variance if variance > 0 else math.nan,
            "nlpd": found.nlpd,
            "crps": found.crps,
            "coverage": found.coverage,
            "width": float(np.mean(high - low)),
        }
        return {name: one if math.isfinite(one) else None for name, one in scores.items()}

    def headings(self) -> dict[str, str]:
        """Headings of the scores, by name."""
        interval = f"{100 * self.level:.12g} % interval"
        return {
            "rmse": "RMSE",
            "r2": "R²",
            "nlpd": "NLPD",
            "crps": "CRPS",
            "coverage": f"in {interval}",
            "width": "mean width",
        }

    def table(self, predictions: Law | JoinedLaw) -> dict[str, Array]:
        """Columns of predictions for a file, by name."""
        name = f"{100 * self.level:.12g}"
        low, high = predictions.interval(self.level)
        return {
            "mean": predictions.mean,
            "std": predictions.std,
            f"lower_{name}": low,
            f"upper_{name}": high,
        }

    def draw(
        self, axes: Any, truth: Array, predictions: Law | JoinedLaw, relevance: dict[str, float]
    ) -> None:
        """Draw predictions against truth, the coverage of intervals, and the relevance."""
        from resnet_gp.estimators.displays import (
            CoverageDisplay,
            PredictionDisplay,
            RelevanceDisplay,
        )

        PredictionDisplay(truth, predictions.mean, *predictions.interval()).plot(ax=axes[0])
        CoverageDisplay.from_pit(predictions.cdf(truth), ax=axes[1])
        shown = dict(sorted(relevance.items(), key=lambda entry: -entry[1])[:_SHOWN_COLUMNS])
        names = np.array([plain_text(name) for name in shown], dtype=object)
        RelevanceDisplay(names, np.array(list(shown.values()))).plot(ax=axes[2])


@dataclass(frozen=True)
class Classification:
    """Predict the probabilities of classes.

    Attributes:
        classes: the sorted labels, all integers or all texts.
    """

    classes: NDArray[Any]
    name: ClassVar[str] = "classification"
    leaves_rows_out: ClassVar[bool] = False
    baseline: ClassVar[str] = "shares of the classes in the training rows"

    def estimator(self, seed: int) -> Any:
        """Return an unfitted estimator."""
        from resnet_gp.estimators import ResNetGPClassifier

        return ResNetGPClassifier(random_state=seed, verbose=False)

    def splits(self, truth: NDArray[Any], folds: int, seed: int) -> Splits:
        """Stratified splits: a class of two rows or more is in every training set."""
        import warnings

        from sklearn.model_selection import StratifiedKFold

        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            yield from list(splitter.split(truth, truth))

    def predict(self, model: Any, X: Any) -> Array:
        return np.asarray(model.predict_proba(X))

    def trivial(self, truth: NDArray[Any], n: int) -> Array:
        """Predict the shares of the classes in the training rows for ``n`` rows."""
        return np.tile((truth[:, None] == self.classes).mean(0), (n, 1))

    def join(self, parts: Sequence[Array], order: NDArray[np.int64]) -> Array:
        """Join predictions; row i of the whole lies at ``order[i]`` in the parts, put together."""
        return np.concatenate(parts)[order]

    def scores(self, truth: NDArray[Any], predictions: Array) -> Scores:
        """Scores of predictions: log-loss in nats, calibration error in bins of equal size."""
        mine = (truth[:, None] == self.classes).argmax(1)
        likelihood = predictions[np.arange(len(truth)), mine]
        reliability = self._reliability(truth, predictions)
        return {
            "accuracy": float(self._right(truth, predictions).mean()),
            "log_loss": float(-np.log(likelihood.clip(np.finfo(np.float64).tiny)).mean()),
            "calibration_error": reliability.expected_calibration_error,
        }

    def headings(self) -> dict[str, str]:
        """Headings of the scores, by name."""
        return {
            "accuracy": "accuracy",
            "log_loss": "log-loss",
            "calibration_error": "calibration error",
        }

    def table(self, predictions: Array) -> dict[str, NDArray[Any]]:
        """Columns of predictions for a file, by name."""
        probabilities = {
            f"probability_{label}": column
            for label, column in zip(self.classes, predictions.T, strict=True)
        }
        return {"class": self.classes[predictions.argmax(1)], **probabilities}

    def draw(
        self, axes: Any, truth: NDArray[Any], predictions: Array, relevance: dict[str, float]
    ) -> None:
        """Draw the reliability, and the confusion matrix or the accuracies of many classes."""
        from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

        self._reliability(truth, predictions).plot(ax=axes[0])
        if len(self.classes) > _SHOWN_CLASSES:
            right = self._right(truth, predictions)
            shares = [right[truth == label].mean() for label in self.classes]
            axes[1].hist(shares, bins=np.linspace(0, 1, 21))
            axes[1].set(xlabel="share of a class that is recognised", ylabel="classes")
            return
        predicted = self.classes[predictions.argmax(1)]
        matrix = confusion_matrix(truth, predicted, labels=self.classes)
        labels = [plain_text(str(label)) for label in self.classes]
        ConfusionMatrixDisplay(matrix, display_labels=labels).plot(
            ax=axes[1], colorbar=False, xticks_rotation="vertical"
        )

    def _right(self, truth: NDArray[Any], predictions: Array) -> NDArray[np.bool_]:
        return self.classes[predictions.argmax(1)] == truth

    def _reliability(self, truth: NDArray[Any], predictions: Array) -> ReliabilityDisplay:
        from resnet_gp.estimators.displays import ReliabilityDisplay

        bins = int(np.clip(math.ceil(len(truth) / _ROWS_PER_BIN), 1, _BINS))
        return ReliabilityDisplay.in_bins(predictions.max(1), self._right(truth, predictions), bins)


Task = Regression | Classification


def plain_text(text: str) -> str:
    """Escape the signs in which matplotlib sees formulas."""
    return text.replace("$", r"\$")
