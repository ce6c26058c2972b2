"""The residual law of a fitted regressor, through its methods."""

import numpy as np
import pytest

from resnet_gp import ResNetGPRegressor

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(150, 2))
COUNTS = RNG.poisson(np.exp(X[:, 0] - 1.5)).astype(float)  # two in three are zero
NEW = RNG.uniform(-2, 2, size=(400, 2))
NEW_COUNTS = RNG.poisson(np.exp(NEW[:, 0] - 1.5)).astype(float)


def fit(**options):
    options = {"hyperparameters": "map", "n_components": 1, "verbose": False} | options
    return ResNetGPRegressor(**options).fit(X, COUNTS)


@pytest.fixture(scope="module", params=["exact", "nearest"])
def fitted(request):
    return fit(inference=request.param)


def test_counts_have_a_law_of_two_parts(fitted):
    assert fitted.residual_law_.share > 0
    law = fitted.predict_law(NEW)
    mean, std = fitted.predict(NEW, return_std=True)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(law.std, std, rtol=1e-9)
    low, median, high = fitted.predict_quantiles(NEW, [0.05, 0.5, 0.95]).T
    assert ((low < median) & (median < high)).all()
    inside = (low <= NEW_COUNTS) & (high >= NEW_COUNTS)
    assert 0.85 < inside.mean() < 0.97
    assert fitted.loo_predict_law().shape == COUNTS.shape


def test_they_are_predicted_better_than_by_a_gaussian_law(fitted):
    gaussian = fit(inference=fitted.inference_, residuals="gaussian")
    gain = gaussian.predict_law(NEW).crps(NEW_COUNTS) - fitted.predict_law(NEW).crps(NEW_COUNTS)
    assert gain.mean() / (gain.std() / len(gain) ** 0.5) > 3


def test_files_and_new_rows_keep_both_parts(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    again = ResNetGPRegressor.load(tmp_path / "model")
    law, same = fitted.predict_law(NEW), again.predict_law(NEW)
    np.testing.assert_array_equal(same.means, law.means)
    np.testing.assert_array_equal(same.scales, law.scales)
    np.testing.assert_array_equal(same.weights, law.weights)
    again.add_observations(NEW[:5], NEW_COUNTS[:5])
    assert again.residual_law_.parameters == fitted.residual_law_.parameters
    assert not np.array_equal(again.predict_law(NEW).means, law.means)
