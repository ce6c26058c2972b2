"""Relevance of features, of one network and of two."""

import numpy as np
import pytest
from gpytorch.kernels import RBFKernel

from resnet_gp import ResNetGPClassifier, ResNetGPRegressor
from resnet_gp.estimators.displays import RelevanceDisplay
from resnet_gp.estimators.relevance import relevance_of, relevance_of_columns
from resnet_gp.tables.fit_report import _facts

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)) * [1.0, 10.0, 1.0]
Y = np.sin(2 * X[:, 0])


def make(**options):
    return ResNetGPRegressor(hyperparameters="map", **options).fit(X, Y)


def test_one_network():
    model = make(n_components=1)
    np.testing.assert_allclose(relevance_of(model), X.std(0) / model.lengthscale_)
    assert relevance_of(model).argmax() == 0


def test_of_two_networks_the_one_that_varies_faster_counts():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    model = make(n_components=2)
    assert model.lengthscale_.shape == (2, 3)
    first, second = X.std(0) / model.lengthscale_
    np.testing.assert_allclose(relevance_of(model), np.where(first > second, first, second))
    assert len(RelevanceDisplay.from_estimator(model).ax_.patches) == 3
    pyplot.close("all")


def test_kernels_of_others_have_none():
    model = make(kernel=RBFKernel())
    assert relevance_of(model) is relevance_of_columns(model) is None


def test_of_the_features_of_one_column_the_squares_are_added():
    pandas = pytest.importorskip("pandas")
    plain = make(n_components=1)
    assert relevance_of_columns(plain) == dict(
        zip(["x0", "x1", "x2"], relevance_of(plain), strict=True)
    )
    frame = pandas.DataFrame(X[:, :2], columns=["a", "b"]).assign(city=["Rome", "Oslo"] * 20)
    frame.loc[3, "a"] = np.nan
    model = ResNetGPRegressor(hyperparameters="map", n_components=1).fit(frame, Y)
    each = relevance_of(model)
    assert len(each) == 5
    found = relevance_of_columns(model)
    expected = [np.hypot(*each[:2]), each[2], np.hypot(*each[3:])]
    np.testing.assert_allclose(list(found.values()), expected)
    assert list(found) == ["a", "b", "city"]


def test_reports_have_a_number_for_each_component():
    facts = _facts(make(n_components=2))
    assert facts["kernels"] == ["limit + limit"]
    assert facts["hyperparameters"] == "map"
    assert len(facts["outputscale"]) == len(facts["horizon"]) == 2
    assert isinstance(_facts(make(n_components=1))["horizon"], float)


def test_classifiers_have_none():
    model = ResNetGPClassifier(inference="nearest").fit(X, Y > 0)
    assert hasattr(model, "lengthscale_")  # of inputs in standard units, some of them ranks
    assert relevance_of(model) is relevance_of_columns(model) is None
    with pytest.raises(ValueError, match="it is no regressor"):
        RelevanceDisplay.from_estimator(model)
