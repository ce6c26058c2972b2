"""The regressor with ranks of skewed features among its inputs."""

import numpy as np
import pytest
from gpytorch.kernels import MaternKernel
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from resnet_gp import ResNetGPRegressor

ONE = {"n_components": 1, "hyperparameters": "map"}


def skewed(n, seed=0):
    """A target that follows the logarithm of a feature with long tails."""
    rng = np.random.default_rng(seed)
    X = np.stack([rng.lognormal(sigma=2.0, size=n), rng.normal(size=n)], axis=1)
    return X, np.sin(1.5 * np.log(X[:, 0])) + X[:, 1] + 0.05 * rng.normal(size=n)


@pytest.fixture(scope="module")
def fitted():
    return ResNetGPRegressor(**ONE).fit(*skewed(90))


def error(model, n=200):
    X, y = skewed(n, seed=1)
    return float(np.sqrt(np.mean((model.predict(X) - y) ** 2)))


def test_ranks_are_taken_where_they_help(fitted):
    assert fitted.ranked_features_.tolist() == [0]
    without = ResNetGPRegressor(rank_features=False, **ONE).fit(*skewed(90))
    assert without.ranked_features_.tolist() == []
    assert error(fitted) < 0.7 * error(without)
    assert fitted.lengthscale_.shape == without.lengthscale_.shape == (2,)


def test_ranks_are_not_taken_where_a_straight_line_explains_all():
    rng = np.random.default_rng(2)
    X = rng.lognormal(sigma=1.5, size=(80, 1))
    model = ResNetGPRegressor(**ONE).fit(X, X[:, 0] + 0.1 * rng.normal(size=80))
    assert model.ranked_features_.tolist() == []
    for choice in (True, np.True_):
        always = ResNetGPRegressor(rank_features=choice, **ONE).fit(X, X[:, 0])
        assert always.ranked_features_.tolist() == [0]


def test_without_skewed_features_nothing_changes():
    rng = np.random.default_rng(3)
    X = rng.uniform(size=(60, 3))
    y = X[:, 0] + rng.normal(size=60)
    ours, without = (
        ResNetGPRegressor(rank_features=choice, **ONE).fit(X, y) for choice in ("auto", False)
    )
    np.testing.assert_array_equal(ours.predict(X), without.predict(X))


def test_gradients_are_those_of_differences(fitted):
    X = skewed(12, seed=4)[0]
    gradient = fitted.predict_gradient(X)
    for j in range(2):
        step = 1e-6 * X[:, j]
        ends = [X + sign * np.eye(2)[j] * step[:, None] for sign in (0.5, -0.5)]
        slope = np.subtract(*map(fitted.predict, ends)) / step
        close = np.isclose(gradient[:, j], slope, rtol=1e-3, atol=1e-3)
        assert close.sum() >= 11  # a step may cross a quantile
    with pytest.raises(RuntimeError, match="rank_features=False"):
        fitted.predict_gradient(X, return_std=True)


def test_files_restore_predictions_to_the_bit(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    restored = ResNetGPRegressor.load(tmp_path / "model")
    X = skewed(20, seed=5)[0]
    for one, other in zip(
        restored.predict(X, return_std=True), fitted.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert restored.ranked_features_.tolist() == [0]


def test_new_rows_and_a_warm_start_keep_the_inputs(fitted):
    X, y = skewed(110)
    more = ResNetGPRegressor(warm_start=True, **ONE).fit(X[:90], y[:90])
    more.add_observations(X[90:], y[90:])
    assert more.predict(X).shape == (110,)
    symmetric = np.random.default_rng(6).normal(size=(50, 2))
    more.fit(symmetric, symmetric[:, 0])
    assert more.ranked_features_.tolist() == [0]


@pytest.mark.parametrize("inference", ["nearest", "sparse"])
def test_other_inference(inference):
    model = ResNetGPRegressor(inference=inference, n_inducing=30, n_neighbors=40, **ONE)
    assert model.fit(*skewed(90)).ranked_features_.tolist() == [0]
    assert error(model) < 0.6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_averaged_hyperparameters_and_other_activations():
    X, y = skewed(50)
    assert ResNetGPRegressor(n_components=2).fit(X, y).ranked_features_.tolist() == [0]
    model = ResNetGPRegressor("erf", depth=2, max_iter=2).fit(X, y)
    assert model.ranked_features_.tolist() == [0]


def test_bad_values_are_refused():
    X, y = skewed(30)
    with pytest.raises(ValueError, match='rank_features must be "auto", True or False'):
        ResNetGPRegressor(rank_features="yes").fit(X, y)
    with pytest.raises(ValueError, match="rank_features=True needs kernel="):
        ResNetGPRegressor(rank_features=True, kernel=MaternKernel(2.5)).fit(X, y)
    own = ResNetGPRegressor(kernel=MaternKernel(2.5), **ONE).fit(X, y)
    assert own.ranked_features_.tolist() == []


def test_ctrl_c_while_ranks_are_tried_leaves_no_checkpoint_of_other_inputs(monkeypatch, tmp_path):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    X, y = skewed(90)
    model = ResNetGPRegressor(checkpoint=tmp_path / "fit", rotate_features=False, **ONE)
    with monkeypatch.context() as patch:
        patch.setattr("resnet_gp.fitting.inputs.ranks_help", interrupted)
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            assert model.fit(X, y).ranked_features_.tolist() == []
    assert clone(model).fit(X, y).ranked_features_.tolist() == [0]
