"""The regressor with inputs along the principal directions of the gradient."""

import numpy as np
import pandas as pd
import pytest
from gpytorch.kernels import MaternKernel
from sklearn.exceptions import ConvergenceWarning

from resnet_gp import ResNetGPRegressor
from resnet_gp.fitting import input_choice

ONE = {"n_components": 1, "hyperparameters": "map"}


def ridges(n, seed=0):
    """A function of oblique directions, in four features with units of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    y = np.sin(2 * (x[:, 0] + x[:, 1] - x[:, 2])) + 0.3 * (x[:, 0] - x[:, 1])
    return 7 + x * [1.0, 10.0, 0.1, 1.0], y + 0.05 * rng.normal(size=n)


def error(model):
    X, y = ridges(300, seed=1)
    return float(np.sqrt(np.mean((model.predict(X) - y) ** 2)))


@pytest.fixture(scope="module")
def fitted():
    return ResNetGPRegressor(rotate_features=True, **ONE).fit(*ridges(150))


def test_directions_help_where_features_act_together(fitted):
    without = ResNetGPRegressor(rotate_features=False, **ONE).fit(*ridges(150))
    assert error(fitted) < 0.6 * error(without)
    assert fitted.directions_.shape == (4, 4)
    assert without.directions_ is None
    first = fitted.directions_[:, 0] / np.linalg.norm(fitted.directions_[:, 0])
    assert abs(first @ [1, 1, -1, 0]) / 3**0.5 > 0.98
    assert fitted.lengthscale_.shape == (4,)
    assert fitted.lengthscale_[3] == max(fitted.lengthscale_ / [1.0, 10.0, 0.1, 1.0])


def test_auto_tries_beyond_a_number_of_rows(monkeypatch):
    X, y = ridges(150)
    assert ResNetGPRegressor(**ONE).fit(X, y).directions_ is None
    monkeypatch.setattr(input_choice, "_TURNED_ABOVE", 149)
    assert ResNetGPRegressor(**ONE).fit(X, y).directions_ is not None
    rng = np.random.default_rng(2)
    alone = np.sin(X[:, 3] - 7) + 0.1 * rng.normal(size=150)  # a function of one feature
    assert ResNetGPRegressor(**ONE).fit(X, alone).directions_ is None
    own = ResNetGPRegressor(kernel=MaternKernel(2.5), **ONE).fit(X, y)
    assert own.directions_ is None
    fixed = ResNetGPRegressor(n_components=1, hyperparameters="fixed").fit(X, y)
    assert fixed.directions_ is None


def test_gradients_are_those_of_differences(fitted):
    X, scale = ridges(10, seed=3)[0], np.array([1.0, 10.0, 0.1, 1.0])
    gradient = fitted.predict_gradient(X)
    for j in range(4):
        step = np.zeros(4)
        step[j] = 1e-5 * scale[j]
        slope = (fitted.predict(X + step) - fitted.predict(X - step)) / (2 * step[j])
        np.testing.assert_allclose(gradient[:, j], slope, rtol=1e-4, atol=1e-4 / scale[j])
    with pytest.raises(RuntimeError, match="rotate_features=False"):
        fitted.predict_gradient(X, return_std=True)


def test_files_restore_predictions_to_the_bit(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    restored = ResNetGPRegressor.load(tmp_path / "model")
    X = ridges(20, seed=4)[0]
    for one, other in zip(
        restored.predict(X, return_std=True), fitted.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(restored.directions_, fitted.directions_)


def test_new_rows_and_a_warm_start_keep_the_directions():
    X, y = ridges(140)
    model = ResNetGPRegressor(rotate_features=True, warm_start=True, **ONE).fit(X[:120], y[:120])
    directions = model.directions_
    model.add_observations(X[120:], y[120:])
    assert model.predict(X).shape == (140,)
    np.testing.assert_array_equal(model.fit(X, y).directions_, directions)


@pytest.mark.parametrize("inference", ["nearest", "sparse"])
def test_other_inference(inference):
    model = ResNetGPRegressor(
        rotate_features=True, inference=inference, n_inducing=60, n_neighbors=60, **ONE
    )
    assert error(model.fit(*ridges(150))) < 0.3


def test_ranks_and_directions_together(tmp_path):
    X, y = ridges(120)
    X[:, 0] = np.exp(X[:, 0])
    model = ResNetGPRegressor(rank_features=True, rotate_features=True, **ONE).fit(X, y)
    assert model.ranked_features_.tolist() == [0]
    assert model.directions_.shape == (5, 5)
    model.save(tmp_path / "model")
    restored = ResNetGPRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(restored.predict(X), model.predict(X))


def test_several_outputs_weights_and_averaged_hyperparameters():
    X, y = ridges(60)
    both, weight = np.stack([y, np.cos(y)], axis=1), np.arange(60.0)
    model = ResNetGPRegressor(rotate_features=True, n_components=1).fit(X, both, weight)
    assert model.directions_.shape == (4, 4)
    assert model.predict(X).shape == (60, 2)


def test_a_kernel_of_gpytorch_and_one_feature():
    X, y = ridges(60)
    own = ResNetGPRegressor(kernel=MaternKernel(2.5), rotate_features=True, **ONE).fit(X, y)
    assert own.directions_.shape == (4, 4)
    alone = ResNetGPRegressor(rotate_features=True, **ONE).fit(X[:, :1], y)
    assert alone.directions_ is None  # there is no other


def test_categories(tmp_path):
    X, y = ridges(90)
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["e"] = pd.Categorical(np.where(np.arange(90) % 3 == 0, "x", "y"))
    model = ResNetGPRegressor(rotate_features=True, **ONE).fit(frame, y)
    model.save(tmp_path / "model")
    restored = ResNetGPRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(restored.predict(frame), model.predict(frame))


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match='rotate_features must be "auto", True or False'):
        ResNetGPRegressor(rotate_features="yes").fit(*ridges(30))


@pytest.mark.parametrize("options", [{}, {"inference": "nearest", "n_components": 1}])
def test_ctrl_c_while_inputs_are_chosen_leaves_a_usable_model(monkeypatch, options):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_gp.fitting.inputs.helpful_directions", interrupted)
    X, y = ridges(60)
    model = ResNetGPRegressor(**options)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(X, y)
    assert model.fit_interrupted_
    assert model.directions_ is None
    assert np.isfinite(model.predict(X, return_std=True)).all()
    monkeypatch.undo()
    assert not model.fit(X, y).fit_interrupted_
