"""MAPIE's conformal intervals around the regressor hold their level whatever the noise."""

import numpy as np
import pytest

from resnet_gp import ResNetGPRegressor

regression = pytest.importorskip("mapie.regression", reason="MAPIE is in the extra conformal")

SCORES = ("absolute", "std_normalized")


def simulated(rows, seed):
    """Noise with a heavy tail and a deviation that depends on x."""
    random = np.random.default_rng(seed)
    X = random.uniform(-2, 2, (rows, 2))
    noise = np.exp(X[:, 0] / 2) * random.standard_t(3, rows)
    return X, np.sin(2 * X[:, 0]) + 0.2 * noise


@pytest.fixture(scope="module")
def fitted():
    return ResNetGPRegressor(n_components=1, hyperparameters="map", residuals="gaussian").fit(
        *simulated(60, 0)
    )


@pytest.mark.parametrize("score", SCORES)
def test_split_conformal_coverage_is_what_theory_says(fitted, score):
    """Of 39 rows, 36 scores are at most the chosen one: the coverage is 36 / 40 on average."""
    X, y = simulated(500, 1)
    shares = []
    for seed in range(40):
        conformal = regression.SplitConformalRegressor(fitted, 0.9, conformity_score=score)
        conformal.conformalize(*simulated(39, 100 + seed))
        _, bounds = conformal.predict_interval(X)
        shares.append(np.mean((bounds[:, 0, 0] <= y) & (y <= bounds[:, 1, 0])))
    error = np.sqrt(np.var(shares, ddof=1) / 40 + 0.09 / 500)  # calibration sets, and new rows
    assert abs(np.mean(shares) - 0.9) < 4 * error


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_cross_conformal_refits_the_regressor(score):
    conformal = regression.CrossConformalRegressor(
        ResNetGPRegressor(n_components=1, hyperparameters="map", residuals="gaussian"),
        0.9,
        conformity_score=score,
        cv=4,
    )
    conformal.fit_conformalize(*simulated(48, 2))
    X, y = simulated(2000, 3)
    point, bounds = conformal.predict_interval(X)
    low, high = bounds[:, 0, 0], bounds[:, 1, 0]
    assert (low < point).all()
    assert (point < high).all()
    assert 0.8 < np.mean((low <= y) & (y <= high)) < 1  # guaranteed on average: 0.8
