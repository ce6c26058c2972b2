import pickle

import numpy as np
import pytest

from resnet_gp import ResNetGPClassifier, ResNetGPRegressor
from resnet_gp.fitting.standardise import FarInputError, Standardiser


def test_columns_get_mean_zero_and_variance_one():
    values = np.random.default_rng(0).normal(5, 3, size=(50, 4))
    result = Standardiser.of(values)(values).numpy()
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-13)
    np.testing.assert_allclose(result.std(0), 1, rtol=1e-13)


def test_constant_columns_become_zero():
    # The computed deviation of this column is not zero: 0.1 has no exact mean in floating point.
    values = np.column_stack([np.full(10, 0.1), np.arange(10.0)])
    standardiser = Standardiser.of(values)
    assert standardiser.scale[0] == 1
    assert (standardiser(values).numpy()[:, 0] == 0).all()


@pytest.mark.parametrize("size", [1e-300, 1e-12, 1e12, 1e300])
def test_extreme_units_do_not_overflow(size):
    values = np.array([-1.0, 0.0, 1.0]) * size
    result = Standardiser.of(values)(values).numpy()
    np.testing.assert_allclose(result, np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-12)


ROUNDED = np.tile([0.1 + 0.2, 0.3], 20)  # one unit in the last place apart


def test_columns_that_vary_by_rounding_are_constant():
    values = np.column_stack(
        [ROUNDED, np.linspace(0, 1, 40) * 1e-13 + 1, 1e15 + np.tile([0, 0.5], 20)]
    )
    standardiser = Standardiser.of(values)
    assert standardiser.scale[0] == 1
    np.testing.assert_allclose(standardiser(values).numpy()[:, 1].std(), 1, rtol=1e-12)
    assert np.abs(standardiser(values).numpy()[:, [0, 2]]).max() < 1e-14


def test_a_prediction_beside_a_column_that_varies_by_rounding():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    X, new = np.column_stack([x, ROUNDED]), np.column_stack([x, np.full(40, 0.31)])
    regressor = ResNetGPRegressor(random_state=0).fit(X, np.sin(x))
    np.testing.assert_allclose(regressor.predict(new), np.sin(x), atol=0.1)
    classifier = ResNetGPClassifier("limit", random_state=0).fit(X, x > 0)
    np.testing.assert_allclose(
        classifier.predict_proba(new), classifier.predict_proba(X), rtol=0, atol=0.05
    )


@pytest.mark.parametrize("value", [-np.finfo(float).max, 1e160, -1e16])
@pytest.mark.parametrize("kind", ["regressor", "float32", "classifier", "declared"])
def test_rows_that_are_too_far_are_refused(fitted, kind, value):
    X = np.zeros((4, 2))
    X[2, 0] = value
    message = r"row 2 \(counted from 0\) holds .*, more than 1e\+15 standard deviations"
    with pytest.raises(FarInputError, match=message) as caught:
        fitted[kind].predict(X)
    assert (caught.value.row, caught.value.value) == (2, value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.row) == (str(caught.value), 2)
    X[2, 0] = 1e14
    assert np.isfinite(predicted(fitted[kind], X)).all()


@pytest.mark.parametrize(
    ("estimator", "column"),
    [(ResNetGPRegressor(), "x"), (ResNetGPRegressor(), "y"), (ResNetGPClassifier(), "x")],
)
def test_marks_of_missing_values_are_refused_in_training(estimator, column):
    X = np.random.default_rng(0).normal(size=(20, 2))
    y = (X[:, 0] > 0).astype(float)
    (X[:, 1] if column == "x" else y)[[4, 7]] = -np.finfo(float).max
    with pytest.raises(FarInputError, match=r"row 4 \(counted from 0\) holds -1.798e\+308"):
        estimator.fit(X, y)


def predicted(model, X):
    if hasattr(model, "predict_proba"):
        return model.predict_proba(X)
    return np.stack(model.predict(X, return_std=True))


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).normal(size=(30, 2)).round(1)
    X[:, 1] = np.arange(30) % 2
    return {
        "regressor": ResNetGPRegressor(random_state=0).fit(X, X[:, 0]),
        "float32": ResNetGPRegressor(dtype="float32", random_state=0).fit(X, X[:, 0]),
        "classifier": ResNetGPClassifier("limit").fit(X, X[:, 0] > 0),
        "declared": ResNetGPClassifier("limit", categorical_features=[1]).fit(X, X[:, 0] > 0),
    }


def test_float32_rounding_is_rounding():
    single = np.float32(0.3)
    pair = np.array([single, np.nextafter(single, np.float32(1))]).astype(float)
    scaled = Standardiser.of(np.tile(pair, 20)[:, None])(np.array([[0.31]]))
    assert abs(float(scaled)) < 1
    for column in ([1e6, 1e6 + 1], [0.3, 0.3 + 1e-9], [1013.25, 1013.5]):  # no rounding
        scaled = Standardiser.of(np.tile(np.array(column), 20))(np.array(column))
        np.testing.assert_allclose(scaled, [-1, 1], rtol=1e-6)


@pytest.mark.parametrize("share", [1, 25, 39])
def test_marks_of_missing_values_are_refused_however_many(share):
    column = np.where(np.arange(40) < share, -1.797e308, np.linspace(0, 1, 40))
    with pytest.raises(FarInputError, match=r"row 0 \(counted from 0\) holds -1.797e\+308"):
        Standardiser.of(np.column_stack([np.arange(40.0), column]))
