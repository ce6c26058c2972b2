import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from resnet_gp import ResNetGPRegressor
from resnet_gp.estimators.displays import (
    CoverageDisplay,
    PITDisplay,
    PosteriorDisplay,
    PredictionDisplay,
    RelevanceDisplay,
    ReliabilityDisplay,
)
from resnet_gp.predictive import Law


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2)) * [1, 100]
    return X, np.sin(2 * X[:, 0]) + 0.2 * rng.normal(size=120)


@pytest.fixture(scope="module")
def fitted(data):
    return ResNetGPRegressor().fit(data[0][:60], data[1][:60])


def test_posterior_along_a_feature(fitted, data):
    X, y = data
    display = PosteriorDisplay.from_estimator(fitted, X, y, n_points=50)
    assert display.x[0] < X[:, 0].min() < X[:, 0].max() < display.x[-1]
    at = np.column_stack([display.x, np.full(50, np.median(X[:, 1]))])
    values = fitted.predict_quantiles(at)
    np.testing.assert_allclose(display.low, values[:, 0])
    np.testing.assert_allclose(display.high, values[:, 2])
    assert display.ax_.get_xlabel() == "x0"
    assert len(display.ax_.lines) == 2
    assert len(PosteriorDisplay.from_estimator(fitted, X).ax_.lines) == 1
    with pytest.raises(ValueError, match="feature"):
        PosteriorDisplay.from_estimator(fitted, X, feature=2)


def test_feature_names_are_used(data):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(data[0][:30], columns=["age", "height"])
    fitted = ResNetGPRegressor().fit(frame, data[1][:30])
    assert PosteriorDisplay.from_estimator(fitted, frame, feature=1).ax_.get_xlabel() == "height"
    labels = RelevanceDisplay.from_estimator(fitted).ax_.get_yticklabels()
    assert {label.get_text() for label in labels} == {"age", "height"}


def test_predictions_against_truth_in_given_axes(fitted, data):
    _, ax = pyplot.subplots()
    display = PredictionDisplay.from_estimator(fitted, *data, ax=ax)
    assert display.ax_ is ax
    np.testing.assert_allclose(display.y_pred, fitted.predict(data[0]), rtol=1e-12)
    bounds = fitted.predict_quantiles(data[0], (0.05, 0.95)).T
    np.testing.assert_allclose([display.low, display.high], bounds)


class Oracle:
    """Knows the law of its targets, or is wrong about their deviation."""

    def __init__(self, factor):
        self.factor = factor

    def predict(self, X, return_std):
        return X[:, 0], np.full(len(X), self.factor)


@pytest.mark.parametrize(("factor", "bias"), [(1.0, 0), (0.5, -1), (2.0, 1)])
def test_coverage_finds_intervals_that_are_too_narrow_or_too_wide(factor, bias):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4000, 1))
    y = X[:, 0] + rng.normal(size=4000)
    display = CoverageDisplay.from_estimator(Oracle(factor), X, y)
    z = (display.coverage - display.levels) / np.sqrt(display.levels * (1 - display.levels) / 4000)
    if bias == 0:
        assert np.abs(z).max() < 4
    else:
        assert (bias * z > 4).all()


@pytest.mark.parametrize(("factor", "bias"), [(1.0, 0), (0.5, 1), (2.0, -1)])
def test_pit_finds_laws_that_are_too_narrow_or_too_wide(factor, bias):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4000, 1))
    y = X[:, 0] + rng.normal(size=4000)
    display = PITDisplay.from_estimator(Oracle(factor), X, y, n_bins=8)
    assert display.share.sum() == pytest.approx(1)
    z = (display.share - 1 / 8) / np.sqrt(7 / 64 / 4000)
    if bias == 0:
        assert np.abs(z).max() < 4
    else:
        assert (bias * z[[0, -1]] > 4).all()
        assert (bias * z[3:5] < -4).all()
    low, high = display.band
    kept = rng.binomial(4000, 1 / 8, 20_000) / 4000
    assert 0.88 < np.mean((low <= kept) & (kept <= high)) < 0.925
    assert {text.get_text() for text in display.ax_.get_legend().get_texts()} == {
        "4000 targets",
        "90% of samples if calibrated",
    }


def test_laws_that_are_not_normal_count_as_they_are():
    """Student-t noise: its own law is calibrated, a normal law of the same deviation is not."""
    rng = np.random.default_rng(2)
    y = rng.standard_t(3, size=20_000)

    class Told:
        def predict_law(self, X):
            return Law.student(X[:, 0], 1.0, 3.0)

    class Deviation:
        def predict(self, X, return_std):
            return X[:, 0], np.full(len(X), 3**0.5)

    X = np.zeros((20_000, 1))
    right = CoverageDisplay.from_estimator(Told(), X, y)
    wrong = CoverageDisplay.from_estimator(Deviation(), X, y)
    error = np.sqrt(right.levels * (1 - right.levels) / 20_000)
    assert (np.abs(right.coverage - right.levels) < 4 * error).all()
    assert ((wrong.coverage - wrong.levels)[:15] > 4 * error[:15]).all()
    bounds = PredictionDisplay.from_estimator(Told(), X, y)
    assert bounds.high[0] == pytest.approx(stats.t(3).ppf(0.95))


def test_reliability():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 1))
    y = np.where(rng.uniform(size=3000) < 1 / (1 + np.exp(-2 * X[:, 0])), "yes", "no")
    right = LogisticRegression().fit(X, y)
    good = ReliabilityDisplay.from_estimator(right, X, y)
    assert good.counts.sum() == 3000
    # the mean gap of 20 calibrated bins of 150
    expected = np.sqrt(2 / np.pi * good.accuracy * (1 - good.accuracy) / good.counts).mean()
    assert good.expected_calibration_error < 2 * expected
    column = ReliabilityDisplay.from_estimator(right, X, y[:, None])
    assert column.expected_calibration_error == good.expected_calibration_error
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ReliabilityDisplay.from_estimator(right, X, y[:-1])
    right.coef_ *= 4
    assert ReliabilityDisplay.from_estimator(right, X, y).expected_calibration_error > 0.08


def test_relevance(fitted):
    display = RelevanceDisplay.from_estimator(fitted)
    assert display.relevance[0] > 3 * display.relevance[1]
    np.testing.assert_allclose(
        display.relevance, fitted.X_train_.std(0) / fitted.lengthscale_, rtol=1e-12
    )
    del (other := ResNetGPRegressor().fit(fitted.X_train_, fitted.y_train_)).lengthscale_
    with pytest.raises(ValueError, match="lengthscale_"):
        RelevanceDisplay.from_estimator(other)


def test_frames_of_categories(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(
        {"age": np.where(X[:, 0] > 1, np.nan, X[:, 0]), "city": ["Rome", "Oslo", "Rome"] * 40}
    )
    fitted = ResNetGPRegressor(hyperparameters="map", n_components=1).fit(frame, y)
    display = PosteriorDisplay.from_estimator(fitted, frame, y, n_points=20)
    at = pandas.DataFrame({"age": display.x, "city": "Rome"})
    np.testing.assert_array_equal(display.mean, fitted.predict(at))
    with pytest.raises(ValueError, match="'city' of X holds 'Rome' in row 0"):
        PosteriorDisplay.from_estimator(fitted, frame, feature=1)
    relevance = RelevanceDisplay.from_estimator(fitted)
    assert relevance.names.tolist() == ["age", "city"]
    with pytest.raises(ValueError, match="feature names should match"):
        PosteriorDisplay.from_estimator(fitted, frame[["city", "age"]])


def test_displays_name_what_is_wrong(fitted, data):
    X, y = data
    for wrong, message in (
        ({"feature": 2}, "feature must be below 2"),
        ({"feature": "a"}, "feature must be an integer"),
        ({"n_points": 0}, "n_points must be an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            PosteriorDisplay.from_estimator(fitted, X, **wrong)
    both = ResNetGPRegressor(max_iter=1, hyperparameters="map", n_components=1)
    with pytest.warns(ConvergenceWarning):
        both.fit(X[:30], np.column_stack([y, y])[:30])
    for display in (PosteriorDisplay, PredictionDisplay):
        with pytest.raises(ValueError, match="the display is for one output, the estimator has 2"):
            display.from_estimator(both, X, y)
