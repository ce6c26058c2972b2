"""Kernels of images in the estimators."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from resnet_gp import ResNetGPClassifier, ResNetGPRegressor, ResNetLimitKernel
from resnet_gp.flow.convolution import covariance as module
from resnet_gp.kernels import ConvResNetLimitKernel


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X - X.mean()) / X.std(), y


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the matrices that were computed, of those for diagonals up to 8 x 8."""
    made = []
    original = module._member

    def counted(flow, x1, x2):
        made.append((len(x1), len(x2)))
        return original(flow, x1, x2)

    monkeypatch.setattr(module, "_member", counted)
    return made


def fixed_kernel(*shape):
    kernel = ConvResNetLimitKernel(shape or (8, 8))
    kernel.weight_variance = 4.0
    return kernel.requires_grad_(False)


def test_classifier_sees_images_as_they_are(digits, calls, tmp_path):
    X, y = digits
    model = ResNetGPClassifier(kernel=fixed_kernel()).fit(X[:120], y[:120])
    assert [call for call in calls if call[0] > 8] == [(120, 120)]
    proba = model.predict_proba(X[120:320])
    assert (proba.argmax(1) == y[120:320]).mean() > 0.9
    assert calls.count((200, 120)) == 1
    pixel = 8 * 3 + 3  # a change of its scale matters: no column was standardised
    other = X[120:320].copy()
    other[:, pixel] *= 3
    assert not np.allclose(model.predict_proba(other), proba)
    member = model._posterior.members[0]
    np.testing.assert_array_equal(member.x.numpy(), X[:120])
    model.save(tmp_path / "model")
    again = ResNetGPClassifier.load(tmp_path / "model", kernel=fixed_kernel())
    np.testing.assert_array_equal(again.predict_proba(X[120:320]), proba)


def test_classifier_compares_noise_levels_on_all_rows_of_one_kernel(digits, calls):
    X, y = digits
    model = ResNetGPClassifier(kernel=fixed_kernel(2, 8)).fit(X[:810, 16:32], y[:810])
    assert [call for call in calls if call[0] > 8] == [(810, 810)]
    assert len(model.noise_variances_) == 1


@pytest.mark.parametrize("hyperparameters", ["auto", "map"])
def test_regressor_needs_one_matrix(digits, calls, hyperparameters):
    X, y = digits
    model = ResNetGPRegressor(kernel=fixed_kernel(), hyperparameters=hyperparameters)
    model.fit(X[:80], y[:80])
    assert model.hyperparameters_ == ("laplace" if hyperparameters == "auto" else "map")
    assert calls.count((80, 80)) == 1
    np.testing.assert_array_equal(model._units.x.mean, 0)
    mean, std = model.predict(X[80:100], return_std=True)
    assert np.sqrt(np.mean((mean - y[80:100]) ** 2)) < 0.8 * y[:80].std()
    assert (std > 0).all()


def test_regressor_learns_the_weight_variance(digits):
    X, y = digits
    kernel = ConvResNetLimitKernel((8, 8))
    with pytest.warns(ConvergenceWarning, match="5 iterations"):
        model = ResNetGPRegressor(kernel=kernel, max_iter=5).fit(X[:30], y[:30])
    assert model.hyperparameters_ == "map"
    assert model.model_.covar_module.base_kernel.weight_variance.item() != 1.0


def test_images_do_not_mix_with_standardised_columns(digits):
    X, y = digits
    model = ResNetGPRegressor(kernel=[fixed_kernel(), "limit"])
    with pytest.raises(ValueError, match="must not mix"):
        model.fit(X[:20], y[:20])


def test_pixels_are_not_mixed(digits):
    X, y = digits
    model = ResNetGPRegressor(kernel=fixed_kernel(), rotate_features=True)
    with pytest.raises(ValueError, match="rotate_features=True would mix the pixels of images"):
        model.fit(X[:30], y[:30])


def test_kernels_within_kernels_count(digits):
    X, y = digits
    kernel = (fixed_kernel() + ResNetLimitKernel(input_bias=True)).requires_grad_(False)
    model = ResNetGPClassifier(kernel=kernel).fit(X[:50], y[:50])
    np.testing.assert_array_equal(model._posterior.members[0].x.numpy(), X[:50])


def test_the_size_of_images_is_checked(digits):
    X, y = digits
    with pytest.raises(ValueError, match="have 49 values each, got inputs with 64"):
        ResNetGPClassifier(kernel=ConvResNetLimitKernel((7, 7))).fit(X[:30], y[:30])


def test_many_rows_learn_the_noise_from_some(digits, calls):
    """With lengthscales to learn, it would be from neighbours of all rows."""
    X, y = digits
    model = ResNetGPRegressor(
        kernel=fixed_kernel(1, 4),
        hyperparameter_samples=40,
        inference="exact",
        residuals="gaussian",
    )
    model.fit(X[:70, 26:30], y[:70])
    matrices = [call for call in calls if call[0] > 8]
    assert matrices == [(40, 40), (70, 70)]


@pytest.mark.parametrize("make", [ResNetGPRegressor, ResNetGPClassifier])
def test_neighbours_are_refused_and_not_chosen(make, digits, monkeypatch):
    X, y = digits[0][:60], digits[1][:60] % 2
    with pytest.raises(ValueError, match='inference="nearest" would take minutes'):
        make(kernel=fixed_kernel(), inference="nearest").fit(X, y)
    monkeypatch.setattr("resnet_gp.fitting.classifier_choice._EXACT_SAMPLES", 50)
    few = {"max_exact_samples": 50, "hyperparameters": "fixed"}
    options = few if make is ResNetGPRegressor else {}
    model = make(kernel=fixed_kernel(), n_inducing=20, **options).fit(X, y)
    assert model.inference_ == "sparse"


def test_few_images_choose_the_hyperparameters_of_many(digits, monkeypatch):
    """As the kernel is too dear for neighbourhoods, too."""
    X, y = digits[0][:60, :9], digits[1][:60].astype(float)
    monkeypatch.setattr("resnet_gp.fitting.exact.Nearest", None)
    model = ResNetGPRegressor(
        kernel=ConvResNetLimitKernel((3, 3)), hyperparameter_samples=20, max_iter=3,
        hyperparameters="map",
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert len(model.model_.train_targets) == 60
