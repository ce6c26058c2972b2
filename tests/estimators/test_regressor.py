import pickle
import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from resnet_gp import ResNetGPRegressor
from resnet_gp.estimators import regressor


@parametrize_with_checks([ResNetGPRegressor()])
def test_sklearn_compatible_estimator(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks fit noise, constants and two rows
        check(estimator)


NOISE = 0.2


def smooth(X):
    return np.sin(2 * X[:, 0]) + X[:, 1] ** 2


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(180, 3))
    return X, smooth(X) + NOISE * rng.normal(size=180)


@pytest.fixture(scope="module")
def fitted(data):
    X, y = data
    return ResNetGPRegressor(random_state=0).fit(X[:120], y[:120])


def test_predicts(fitted, data):
    X, y = data
    mean = fitted.predict(X[120:])
    assert mean.shape == (60,)
    assert np.sqrt(np.mean((mean - smooth(X[120:])) ** 2)) < 0.15
    assert fitted.score(X[120:], y[120:]) > 0.9
    assert fitted.converged_
    assert fitted.n_iter_ >= 1


def test_finds_the_noise_and_the_useless_feature(fitted):
    assert np.sqrt(fitted.noise_variance_) == pytest.approx(NOISE, rel=0.25)
    assert fitted.lengthscale_[2] > 3 * max(fitted.lengthscale_[:2])
    assert fitted.horizon_ == fitted.weight_variance_  # ReLU


def test_intervals_are_calibrated(fitted):
    rng = np.random.default_rng(1)
    X_new = rng.uniform(-2, 2, size=(2000, 3))
    y_new = smooth(X_new) + NOISE * rng.normal(size=2000)
    mean, std = fitted.predict(X_new, return_std=True)
    assert np.mean(np.abs(y_new - mean) < 1.645 * std) == pytest.approx(0.9, abs=0.04)


def test_observation_noise_is_added_to_the_latent_variance(fitted, data):
    X = data[0][:5]
    mean, std = fitted.predict(X, return_std=True)
    latent_mean, latent = fitted.predict(X, return_std=True, observation_noise=False)
    np.testing.assert_array_equal(mean, latent_mean)
    np.testing.assert_allclose(std**2 - latent**2, fitted.noise_variance_, rtol=1e-10)


@pytest.mark.parametrize("observation_noise", [True, False])
def test_covariance_has_the_variances_on_its_diagonal(fitted, data, observation_noise):
    X = data[0][120:130]
    _, std = fitted.predict(X, return_std=True, observation_noise=observation_noise)
    mean, cov = fitted.predict(X, return_cov=True, observation_noise=observation_noise)
    np.testing.assert_allclose(np.diag(cov), std**2, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mean, fitted.predict(X), rtol=1e-12)


def test_samples_have_the_predictive_moments(fitted, data):
    X = data[0][120:124]
    mean, cov = fitted.predict(X, return_cov=True)
    count = 20_000
    draws = fitted.sample_y(X, count, random_state=3)
    assert draws.shape == (4, count)
    z_mean = (draws.mean(1) - mean) / np.sqrt(np.diag(cov) / count)
    assert np.abs(z_mean).max() < 4
    errors = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / count)
    assert np.abs((np.cov(draws) - cov) / errors).max() < 4
    np.testing.assert_array_equal(draws, fitted.sample_y(X, count, random_state=3))
    latent = fitted.sample_y(X, count, observation_noise=False)
    assert (latent.var(1) < draws.var(1)).all()


def test_marginal_likelihood_is_that_of_the_standardised_targets(fitted):
    model = fitted.model_
    y = model.train_targets.numpy()
    covariance = model.noisy_covariance().detach().numpy()
    expected = multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)
    assert fitted.log_marginal_likelihood() == pytest.approx(expected, rel=1e-10)
    assert fitted.log_marginal_likelihood_value_ == pytest.approx(expected, rel=1e-10)


def test_marginal_likelihood_gradient(fitted, data):
    theta = fitted.theta_ - 0.1
    value, gradient = fitted.log_marginal_likelihood(theta, eval_gradient=True)
    assert value < fitted.log_marginal_likelihood_value_
    step = 1e-5
    for i, direction in enumerate(np.eye(len(theta))):
        above = fitted.log_marginal_likelihood(theta + step * direction)
        below = fitted.log_marginal_likelihood(theta - step * direction)
        assert gradient[i] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-5)
    before = fitted.predict(data[0][:3])
    fitted.log_marginal_likelihood(theta)
    np.testing.assert_array_equal(before, fitted.predict(data[0][:3]))


def test_gradient_vanishes_at_the_optimum(fitted):
    _, gradient = fitted.log_marginal_likelihood(eval_gradient=True)
    kept = fitted.lengthscale_ < 9 * fitted.X_train_.std(0)  # others rest on their bound
    assert np.abs(np.delete(gradient, 2 + np.flatnonzero(~kept))).max() < 0.05


def test_units_of_the_data_do_not_matter(data):
    X, y = data[0][:60], data[1][:60]
    one = ResNetGPRegressor().fit(X, y)
    other = ResNetGPRegressor().fit(1e5 * X - 3e6, 1e-4 * y + 7)
    mean, std = one.predict(X, return_std=True)
    mean_other, std_other = other.predict(1e5 * X - 3e6, return_std=True)
    np.testing.assert_allclose((mean_other - 7) * 1e4, mean, atol=1e-3)
    np.testing.assert_allclose(std_other * 1e4, std, rtol=1e-2)
    np.testing.assert_allclose(other.noise_variance_, one.noise_variance_ * 1e-8, rtol=1e-2)
    short = one.lengthscale_ < 9
    np.testing.assert_allclose(other.lengthscale_[short], 1e5 * one.lengthscale_[short], rtol=0.05)


@pytest.mark.parametrize("kind", [np.float32, np.int64, list])
def test_other_input_types(kind):
    X = np.arange(24.0).reshape(12, 2) % 7
    y = X[:, 0] - X[:, 1]
    convert = (lambda a: a.tolist()) if kind is list else (lambda a: a.astype(kind))
    mean, std = ResNetGPRegressor().fit(convert(X), convert(y)).predict(convert(X), return_std=True)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, y, atol=0.1)


def test_constant_columns_and_constant_targets():
    X = np.column_stack([np.full(20, 0.1), np.linspace(0, 1, 20)])
    fitted = ResNetGPRegressor().fit(X, np.full(20, 3.3))
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(mean, 3.3)
    assert np.isfinite(std).all()


def test_duplicate_rows_without_noise():
    X = np.repeat(np.linspace(-1, 1, 10)[:, None], 3, axis=0)
    mean, std = ResNetGPRegressor().fit(X, X[:, 0] ** 2).predict(X, return_std=True)
    np.testing.assert_allclose(mean, X[:, 0] ** 2, atol=1e-3)
    assert (std > 0).all()


@pytest.mark.parametrize("activation", ["relu", "abs", "leaky_relu"])
@pytest.mark.parametrize("negative_slope", [0.3, 1.0])
def test_activations(data, activation, negative_slope):
    X, y = data[0][:50], data[1][:50]
    model = ResNetGPRegressor(activation, negative_slope=negative_slope, max_iter=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = model.fit(X, y)
    slope = {"relu": 0, "abs": -1, "leaky_relu": negative_slope}[activation]
    assert fitted.horizon_ == pytest.approx(fitted.weight_variance_ * (1 - slope) ** 2)
    assert np.isfinite(fitted.predict(X)).all()


def test_restarts_never_do_worse_and_follow_the_seed(data):
    X, y = data[0][:50], data[1][:50]
    plain = ResNetGPRegressor().fit(X, y)
    first, second = (ResNetGPRegressor(n_restarts=2, random_state=1).fit(X, y) for _ in range(2))
    assert first.log_marginal_likelihood_value_ >= plain.log_marginal_likelihood_value_ - 1e-6
    assert len(first.restart_values_) == 3
    assert first.restart_values_ == second.restart_values_


def test_pickle_and_clone(fitted, data):
    X = data[0][:5]
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


def test_cross_validation(data):
    assert cross_val_score(ResNetGPRegressor(), data[0][:90], data[1][:90], cv=3).min() > 0.7


def test_too_many_samples_are_refused_with_the_bytes(data):
    X, y = data
    with pytest.raises(ValueError, match=r"180 samples.*1\.56e\+06 bytes.*max_exact_samples=100"):
        ResNetGPRegressor(max_exact_samples=100).fit(X, y)


def test_no_convergence_is_a_warning_that_says_what_to_do(data):
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        ResNetGPRegressor(max_iter=1).fit(data[0][:40], data[1][:40])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "swish"}, "activation must be one of relu, leaky_relu, abs"),
        ({"activation": "leaky_relu", "negative_slope": np.nan}, "negative_slope"),
        ({"hyperparameters": "guess"}, "hyperparameters"),
        ({"n_restarts": -1}, "n_restarts"),
        ({"n_restarts": 1.5}, "n_restarts"),
        ({"max_iter": 0}, "max_iter"),
        ({"max_exact_samples": "many"}, "max_exact_samples"),
    ],
)
def test_bad_parameters_are_named(data, parameters, message):
    with pytest.raises(ValueError, match=message):
        ResNetGPRegressor(**parameters).fit(*data)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.array([[1.0], [np.nan], [2.0]]), np.arange(3.0), "Input X contains NaN"),
        (np.array([[1.0], [np.inf], [2.0]]), np.arange(3.0), "Input X contains infinity"),
        (np.ones((3, 1)), np.array([1, np.nan, 2]), "Input y contains NaN"),
        (np.ones((3, 1)), np.array([1, -np.inf, 2]), "Input y contains infinity"),
        (np.empty((0, 2)), np.empty(0), "0 sample"),
        (np.ones((1, 2)), np.ones(1), "minimum of 2 is required"),
        (np.ones((3, 2)), np.ones(4), "inconsistent numbers of samples"),
        (np.array([["a"], ["b"]]), np.ones(2), "could not convert string"),
        (np.ones((3, 2)), np.ones((3, 2)), "1d array"),
    ],
)
def test_bad_data_is_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        ResNetGPRegressor().fit(X, y)


def test_wrong_number_of_features_is_refused(fitted):
    with pytest.raises(ValueError, match="X has 2 features"):
        fitted.predict(np.ones((4, 2)))


def test_std_and_cov_together_are_refused(fitted):
    with pytest.raises(RuntimeError, match="return_std and return_cov"):
        fitted.predict(np.ones((4, 3)), return_std=True, return_cov=True)


def test_wrong_theta_is_refused(fitted):
    with pytest.raises(ValueError, match="theta must have shape"):
        fitted.log_marginal_likelihood(np.ones(2))


def test_a_pilot_fit_leads_large_data_to_the_same_optimum(fitted, data, monkeypatch):
    X, y = (part[:120] for part in data)
    calls = []
    maximise = regressor.maximise
    monkeypatch.setattr(
        regressor,
        "maximise",
        lambda *args: calls.append((len(args[1].train_targets), len(args[3]))) or maximise(*args),
    )
    monkeypatch.setattr(regressor, "_PILOT_ABOVE", 100)
    monkeypatch.setattr(regressor, "_PILOT_SAMPLES", 60)
    piloted = ResNetGPRegressor().fit(X, y)
    starts = len(regressor._CANDIDATES)
    assert calls[:starts] == [(60, 1)] * starts
    [(samples, optima)] = calls[starts:]  # what the starts have found, each once
    assert samples == 120
    assert 1 <= optima <= starts
    gap = piloted.log_marginal_likelihood_value_ - fitted.log_marginal_likelihood_value_
    assert abs(gap) < 0.1
    assert len(piloted.restart_values_) == 1
