"""Every activation that the estimators take: default settings fit real data and predict."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from resnet_gp import ResNetGPRegressor
from resnet_gp.activations import Activation, LeakyReLU

HOMOGENEOUS = ["relu", LeakyReLU(0.3)]
# ReLU with a block bias has no tables: its pairs are integrated one by one.
ACTIVATIONS = [
    *HOMOGENEOUS,
    "erf",
    "gelu",
    "tanh",
    "silu",
    "sin",
    Activation(torch.cos, name="cos"),
]
CONFIGURATIONS = [
    ("limit", activation, depth, bias)
    for activation in ACTIVATIONS
    for depth in (None, 3)
    for bias in (False, True)
] + [("tangent", activation, depth, False) for activation in HOMOGENEOUS for depth in (None, 3)]


def identify(value):
    return value.name if isinstance(value, Activation) else str(value)


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


# Few iterations: tables of kernels that are not homogeneous take their time.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("data", "share"), [(diabetes, 0.8), (simulated, 0.5)])
@pytest.mark.parametrize(("kernel", "activation", "depth", "bias"), CONFIGURATIONS, ids=identify)
def test_predicts_better_than_the_mean(kernel, activation, depth, bias, data, share):
    X, y, X_test, y_test = data()
    model = ResNetGPRegressor(
        kernel=kernel, activation=activation, depth=depth, block_bias=bias, max_iter=2
    ).fit(X, y)
    mean, deviation = model.predict(X_test, return_std=True)
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()
    assert np.mean((y_test - mean) ** 2) < share * np.mean((y_test - y.mean()) ** 2)
