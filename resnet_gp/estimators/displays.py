"""Plots of fitted estimators as scikit-learn displays, which keep the numbers that they plot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from resnet_gp.columns.values import Column, columns_of
from resnet_gp.estimators.laws import law_of
from resnet_gp.estimators.relevance import relevance_of_columns
from resnet_gp.integers import check_integer
from resnet_gp.predictive.law import Law
from resnet_gp.predictive.scores import LEVEL

Array = NDArray[np.float64]

_BAND = 0.95  # of sampling error

Own = TypeVar("Own", bound="_Display")


class _Display(ABC):
    """Numbers with a plot: subclasses draw it."""

    ax_: Any
    figure_: Any

    def plot(self: Own, ax: Any = None) -> Own:
        """Plot in matplotlib axes, new ones if ``ax`` is None."""
        self.ax_ = _new_axes() if ax is None else ax
        self._draw(self.ax_)
        if self.ax_.get_legend_handles_labels()[0]:
            self.ax_.legend(frameon=False)
        self.figure_ = self.ax_.figure
        return self

    @abstractmethod
    def _draw(self, ax: Any) -> None:
        """Draw in these axes."""


def _new_axes() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need an extra: pip install "resnet-gp[plot]"') from error
    return pyplot.subplots(layout="constrained")[1]


@dataclass
class PosteriorDisplay(_Display):
    """Predictive mean and intervals along one feature.

    Attributes
    ----------
    x : ndarray of shape (n_points,)
    mean, low, high : ndarray of shape (n_points,)
        Predictive mean and bounds of 90 % intervals of y.
    X, y : ndarray of shape (n_samples,) or None
        Data shown as points.
    name : str
        Name of the feature.
    """

    x: Array
    mean: Array
    low: Array
    high: Array
    X: Array | None
    y: Array | None
    name: str

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        feature: int = 0,
        n_points: int = 200,
        margin: float = 0.2,
        ax: Any = None,
    ) -> PosteriorDisplay:
        """Predict along a column of numbers, with the others at their medians in ``X``, and plot.

        Columns of categories stay at the most frequent one.

        Parameters
        ----------
        estimator : fitted ResNetGPRegressor of one output
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Shown as points if given.
        feature : int, default=0
            Index of the column.
        n_points : int, default=200
        margin : float, default=0.2
            Extension beyond the data at both ends, as a share of their range.
        ax : matplotlib axes, default=None
        """
        check_is_fitted(estimator)
        validate_data(estimator, X, reset=False, skip_check_array=True)  # the columns of the fit
        columns = columns_of(X)
        check_integer("feature", feature, -len(columns))
        check_integer("n_points", n_points)
        if feature >= len(columns):
            raise ValueError(f"feature must be below {len(columns)}, got {feature}")
        column = columns[feature].numbers()
        low, high = np.nanmin(column), np.nanmax(column)
        reach = margin * (high - low)
        x = np.linspace(low - reach, high + reach, n_points)
        encoding = getattr(estimator, "columns_", None)
        nominal = [] if encoding is None else encoding.nominal
        points = [np.full(n_points, _typical(one, i in nominal)) for i, one in enumerate(columns)]
        points[feature] = x
        law = _of_one_output(law_of(estimator, _with_names(estimator, points)))
        shown = None if y is None else _targets(X, y).astype(np.float64)
        name = str(_names(estimator)[feature])
        display = cls(x, law.mean, *law.interval(LEVEL), column, shown, name)
        return display.plot(ax=ax)

    def _draw(self, ax: Any) -> None:
        ax.fill_between(
            self.x, self.low, self.high, alpha=0.25, lw=0, label=f"{LEVEL:.0%} interval"
        )
        ax.plot(self.x, self.mean, label="mean")
        if self.X is not None and self.y is not None:
            ax.plot(self.X, self.y, ".", color="0.3", ms=4, label="data")
        ax.set(xlabel=self.name, ylabel="y")


@dataclass
class PredictionDisplay(_Display):
    """Predicted against true targets, with 90 % intervals.

    Attributes
    ----------
    y_true, y_pred : ndarray of shape (n_samples,)
    low, high : ndarray of shape (n_samples,)
        Bounds of 90 % intervals of y.
    """

    y_true: Array
    y_pred: Array
    low: Array
    high: Array

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike, *, ax: Any = None
    ) -> PredictionDisplay:
        """Predict and plot.

        Parameters
        ----------
        estimator : fitted regressor of one output
            With ``predict_law``, or ``predict(X, return_std=True)`` for normal laws.
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        ax : matplotlib axes, default=None
        """
        law = _of_one_output(law_of(estimator, X))
        y_true = _targets(X, y).astype(np.float64)
        return cls(y_true, law.mean, *law.interval(LEVEL)).plot(ax=ax)

    def _draw(self, ax: Any) -> None:
        label = f"mean and {LEVEL:.0%} interval"
        ax.vlines(self.y_true, self.low, self.high, lw=0.7, alpha=0.7)
        ax.plot(self.y_true, self.y_pred, ".", ms=4, alpha=0.7, label=label)
        both = np.concatenate([self.y_true, self.y_pred])
        ends = [both.min(), both.max()]
        ax.plot(ends, ends, color="0.3", lw=1)
        ax.set(xlabel="true y", ylabel="predicted y")


@dataclass
class CoverageDisplay(_Display):
    """Coverage of central intervals against their nominal coverage.

    Attributes
    ----------
    levels, coverage : ndarray of shape (n_levels,)
    n_samples : int
    """

    levels: Array
    coverage: Array
    n_samples: int

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike, *, n_levels: int = 19, ax: Any = None
    ) -> CoverageDisplay:
        """Predict and plot.

        Parameters
        ----------
        estimator : fitted regressor
            With ``predict_law``, or ``predict(X, return_std=True)`` for normal laws.
        X : array-like of shape (n_samples, n_features)
            Held-out data: on the training data, coverage is too high.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        n_levels : int, default=19
        ax : matplotlib axes, default=None
        """
        return cls.from_predictions(y, law_of(estimator, X), n_levels=n_levels, ax=ax)

    @classmethod
    def from_predictions(
        cls, y: ArrayLike, law: Law, *, n_levels: int = 19, ax: Any = None
    ) -> CoverageDisplay:
        """Plot from targets and their predictive law, as ``from_estimator``."""
        return cls.from_pit(law.cdf(y), n_levels=n_levels, ax=ax)

    @classmethod
    def from_pit(cls, pit: ArrayLike, *, n_levels: int = 19, ax: Any = None) -> CoverageDisplay:
        """Plot from the predictive P(Y <= y) at each target y, of any shape."""
        needed = np.abs(2 * np.ravel(pit) - 1)  # the level from which an interval has the target
        levels = np.arange(1, n_levels + 1) / (n_levels + 1)
        coverage = np.mean(needed[:, None] <= levels, axis=0)
        return cls(levels, coverage, len(needed)).plot(ax=ax)

    def _draw(self, ax: Any) -> None:
        _draw_band(ax, self.levels, self.n_samples)
        ax.plot(self.levels, self.coverage, ".-", label=f"{self.n_samples} targets")
        ax.set(xlabel="nominal coverage", ylabel="targets in the interval")


@dataclass
class PITDisplay(_Display):
    """Histogram of the predictive P(Y <= y) at the targets y: uniform if the laws are right.

    These values are the probability integral transform of the targets (Gneiting, Balabdaoui &
    Raftery 2007). Heights in the middle alone belong to laws that are too wide, heights at both
    ends to laws that are too narrow, and a slope to laws that are too high or too low.

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,)
    share : ndarray of shape (n_bins,)
        Share of the targets in each bin.
    n_samples : int
    """

    edges: Array
    share: Array
    n_samples: int

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike, *, n_bins: int = 10, ax: Any = None
    ) -> PITDisplay:
        """Predict and plot.

        Parameters
        ----------
        estimator : fitted regressor
            With ``predict_law``, or ``predict(X, return_std=True)`` for normal laws.
        X : array-like of shape (n_samples, n_features)
            Held-out data: at the training data, values are too close to 1/2.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        n_bins : int, default=10
        ax : matplotlib axes, default=None
        """
        return cls.from_predictions(y, law_of(estimator, X), n_bins=n_bins, ax=ax)

    @classmethod
    def from_predictions(
        cls, y: ArrayLike, law: Law, *, n_bins: int = 10, ax: Any = None
    ) -> PITDisplay:
        """Plot from targets and their predictive law, as ``from_estimator``."""
        return cls.from_pit(law.cdf(y), n_bins=n_bins, ax=ax)

    @classmethod
    def from_pit(cls, pit: ArrayLike, *, n_bins: int = 10, ax: Any = None) -> PITDisplay:
        """Plot from the predictive P(Y <= y) at each target y, of any shape."""
        values = np.ravel(pit)
        counts, edges = np.histogram(values, n_bins, (0, 1))
        return cls(edges, counts / len(values), len(values)).plot(ax=ax)

    @property
    def band(self) -> tuple[float, float]:
        """Bounds that the share of each bin keeps in 90 % of samples of uniform values."""
        low, high = binom.interval(LEVEL, self.n_samples, 1 / len(self.share))
        return low / self.n_samples, high / self.n_samples

    def _draw(self, ax: Any) -> None:
        label = f"{LEVEL:.0%} of samples if calibrated"
        ax.axhspan(*self.band, color="0.85", lw=0, label=label)
        ax.axhline(1 / len(self.share), color="0.3", lw=1)
        ax.stairs(self.share, self.edges, lw=1.5, label=f"{self.n_samples} targets")
        ax.set(xlabel="predictive P(Y ≤ y) at the target y", ylabel="share", xlim=(0, 1), ylim=0)


@dataclass
class ReliabilityDisplay(_Display):
    """Accuracy of the predicted class against its probability.

    Attributes
    ----------
    confidence, accuracy : ndarray of shape (n_bins,)
        Means in bins of equal size.
    counts : ndarray of shape (n_bins,)
    expected_calibration_error : float
    """

    confidence: Array
    accuracy: Array
    counts: Array

    @property
    def expected_calibration_error(self) -> float:
        """Mean absolute difference of accuracy and confidence, weighted by the size of bins."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.counts))

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, y: ArrayLike, *, n_bins: int = 20, ax: Any = None
    ) -> ReliabilityDisplay:
        """Predict and plot.

        Parameters
        ----------
        estimator : any fitted classifier with ``predict_proba``
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        n_bins : int, default=20
        ax : matplotlib axes, default=None
        """
        probabilities = np.asarray(estimator.predict_proba(X))
        right = estimator.classes_[probabilities.argmax(1)] == _targets(X, y)
        return cls.in_bins(probabilities.max(1), right, n_bins).plot(ax=ax)

    @classmethod
    def in_bins(
        cls, confidence: ArrayLike, right: ArrayLike, n_bins: int = 20
    ) -> ReliabilityDisplay:
        """Compute from the probability of each prediction and whether it was correct.

        Parameters
        ----------
        confidence : array-like of shape (n_samples,)
            Probabilities of the predicted classes.
        right : array-like of shape (n_samples,)
            Whether the predictions were correct.
        n_bins : int, default=20
            At most, of equally many predictions.
        """
        confidence = np.asarray(confidence, dtype=np.float64)
        order = np.argsort(confidence, kind="stable")
        bins = [part for part in np.array_split(order, n_bins) if len(part)]
        right = np.asarray(right, dtype=np.float64)
        return cls(
            np.array([confidence[part].mean() for part in bins]),
            np.array([right[part].mean() for part in bins]),
            np.array([len(part) for part in bins]),
        )

    def _draw(self, ax: Any) -> None:
        _draw_band(ax, self.confidence, self.counts)
        label = f"calibration error {self.expected_calibration_error:.3f}"
        ax.plot(self.confidence, self.accuracy, ".-", label=label)
        ax.set(
            xlabel="probability of the predicted class", ylabel="accuracy",
            xlim=(max(0, self.confidence.min() - 0.05), 1.02),
        )  # fmt: skip


@dataclass
class RelevanceDisplay(_Display):
    """Inverse lengthscales of the standardised columns of X: how fast f varies along each.

    Of two components, the one that varies faster counts, feature by feature; of the features of one
    column of a data frame, the root of the sum of squares.

    Attributes
    ----------
    names : ndarray of shape (n_features,)
    relevance : ndarray of shape (n_features,)
    """

    names: NDArray[Any]
    relevance: Array

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> RelevanceDisplay:
        """Plot the relevance of the features for a fitted ResNetGPRegressor.

        Raises
        ------
        ValueError
            The estimator is no regressor, or was fitted with a kernel of your own.
        """
        check_is_fitted(estimator)
        found = relevance_of_columns(estimator)
        if found is None:
            raise ValueError(
                "estimator has no lengthscale_ of features: it is no regressor, or its kernel is "
                "not one of this package"
            )
        names = np.array(list(found), dtype=object)
        return cls(names, np.array(list(found.values()))).plot(ax=ax)

    def _draw(self, ax: Any) -> None:
        order = np.argsort(self.relevance)
        ax.barh([str(name) for name in self.names[order]], self.relevance[order])
        ax.set(xlabel="standard deviation of the feature / lengthscale")


def _draw_band(ax: Any, nominal: Array, counts: Any) -> None:
    """The diagonal, with the sampling error of shares among ``counts`` calibrated samples."""
    low, high = binom.interval(_BAND, counts, np.clip(nominal, 0, 1))
    label = f"{_BAND:.0%} of samples if calibrated"
    ax.fill_between(nominal, low / counts, high / counts, color="0.85", lw=0, label=label)
    ax.plot([0, 1], [0, 1], color="0.3", lw=1)


def _names(estimator: Any) -> NDArray[Any]:
    default = np.array([f"x{i}" for i in range(estimator.n_features_in_)], dtype=object)
    return np.asarray(getattr(estimator, "feature_names_in_", default))


def _of_one_output(law: Law) -> Law:
    if len(law.shape) != 1:
        raise ValueError(f"the display is for one output, the estimator has {law.shape[1]}")
    return law


def _typical(column: Column, nominal: bool) -> Any:
    """The most frequent category, or the median of numbers."""
    if nominal:
        return Counter(column.objects()).most_common(1)[0][0]
    return float(np.nanmedian(column.numbers()))


def _with_names(estimator: Any, columns: list[NDArray[Any]]) -> Any:
    """Return a data frame if the estimator was fitted to one, else an array."""
    if not hasattr(estimator, "feature_names_in_"):
        return np.column_stack([column.astype(object) for column in columns])
    import pandas

    return pandas.DataFrame(dict(zip(estimator.feature_names_in_, columns, strict=True)))


def _targets(X: ArrayLike, y: ArrayLike) -> NDArray[Any]:
    """Targets as a vector; ValueError if they are of several columns, or not as many as rows."""
    check_consistent_length(X, y)
    return np.asarray(column_or_1d(y))
