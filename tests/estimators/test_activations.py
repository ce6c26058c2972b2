"""Every activation that the estimators take: default settings fit real data and predict."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from resnet_gp import ResNetGPRegressor
from resnet_gp.activations import Activation, LeakyReLU

HOMOGENEOUS = ["relu", LeakyReLU(0.3)]
COSINE = Activation(torch.cos, name="cos")
SMOOTH = ["erf", "gelu", "tanh", "silu", "sin", COSINE]
QUICK = [
    *[("limit", activation, 3, bias) for activation in SMOOTH for bias in (False, True)],
    *[("limit", act, depth, bias) for act in HOMOGENEOUS for depth in (None, 3) for bias in (0, 1)],
    *[("tangent", activation, depth, False) for activation in HOMOGENEOUS for depth in (None, 3)],
]
# The limit of smooth networks needs tables, which take seconds.
SLOW = [
    ("limit", "erf", None, True),
    *[("limit", activation, None, False) for activation in SMOOTH if activation is not COSINE],
]


def identify(configuration):
    names = (getattr(part, "name", part) for part in configuration)
    return "-".join(map(str, names))


@cache
def diabetes():
    """The first 40 rows, of the three columns that matter most, and 100 more."""
    X, y = load_diabetes(return_X_y=True)
    X = X[:, [2, 3, 8]]
    return X[:40], y[:40], X[40:140], y[40:140]


@cache
def simulated():
    """40 rows of a smooth function with a little noise, and 100 more."""
    X = np.random.RandomState(0).randn(140, 2)
    y = np.sin(X[:, 0]) + X[:, 1] ** 2 / 2 + 0.1 * np.random.RandomState(1).randn(140)
    return X[:40], y[:40], X[40:], y[40:]


def check(data, share, kernel, activation, depth, bias):
    X, y, X_test, y_test = data()
    model = ResNetGPRegressor(
        kernel=kernel, activation=activation, depth=depth, block_bias=bool(bias), max_iter=1
    ).fit(X, y)
    mean, deviation = model.predict(X_test, return_std=True)
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()
    assert np.mean((y_test - mean) ** 2) < share * np.mean((y_test - y.mean()) ** 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("configuration", [*QUICK, *SLOW], ids=identify)
def test_predicts_diabetes_better_than_the_mean(configuration):
    check(diabetes, 0.8, *configuration)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("configuration", QUICK, ids=identify)
def test_predicts_a_smooth_function_better_than_the_mean(configuration):
    check(simulated, 0.5, *configuration)
