import copy
import logging
import pickle
import warnings
from dataclasses import replace

import gpytorch
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import MaternKernel, PolynomialKernel, RBFKernel
from gpytorch.priors import LogNormalPrior
from scipy.sparse import csr_array
from scipy.stats import multivariate_normal, norm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from resnet_gp import ResNetGPRegressor, ResNetLimitKernel
from resnet_gp.activations import LeakyReLU
from resnet_gp.fitting import exact_mode, optimiser, search
from resnet_gp.fitting import sparse as sparse_fit
from resnet_gp.fitting.optimiser import get_raw, set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.models import ExactRegression, SparseRegression
from resnet_gp.models.posterior import UnsupportedError


def not_repeats(_):
    """Checks that no estimator with a learned noise could pass."""
    reason = "a weight divides the noise; equal repeats would be evidence that there is none"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


def plain(**parameters):
    """One kernel at its most probable hyperparameters, and the law of the model itself."""
    usual = {"n_components": 1, "hyperparameters": "map", "residuals": "gaussian"}
    return ResNetGPRegressor(**(usual | parameters))


@parametrize_with_checks([plain()], expected_failed_checks=not_repeats)
def test_sklearn_compatible_estimator(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks fit noise, constants and two rows
        check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_fit_idempotent,
        estimator_checks.check_estimators_pickle,
        estimator_checks.check_methods_sample_order_invariance,
        estimator_checks.check_dict_unchanged,
    ],
)
def test_the_default_is_compatible(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check("ResNetGPRegressor", ResNetGPRegressor())


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
    return plain(random_state=0).fit(X[:120], y[:120])


@pytest.fixture(scope="module")
def likeliest(data):
    X, y = data
    return plain(hyperparameters="ml").fit(X[:120], y[:120])


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
    for wrong in (1.5, -1):
        with pytest.raises(ValueError, match="n_samples must be an integer of at least 0"):
            fitted.sample_y(X, wrong)


@pytest.mark.parametrize("unit", [1e-170, 1e150])
def test_draws_and_quantiles_in_any_unit(fitted, data, unit):
    X, y = data[0][:120], data[1][:120]
    other = plain().fit(X, y * unit)
    for name in ("sample_y", "predict_quantiles"):
        ours, expected = getattr(other, name)(data[0][:9]), getattr(fitted, name)(data[0][:9])
        np.testing.assert_allclose(ours / unit, expected, rtol=1e-3, atol=1e-3)


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


def test_gradient_vanishes_at_the_optimum(likeliest):
    _, gradient = likeliest.log_marginal_likelihood(eval_gradient=True)
    kept = likeliest.lengthscale_ < 9 * likeliest.X_train_.std(0)  # others rest on their bound
    assert np.abs(np.delete(gradient, 2 + np.flatnonzero(~kept))).max() < 0.05


def test_units_of_the_data_do_not_matter(data):
    X, y = data[0][:60], data[1][:60]
    one = plain().fit(X, y)
    other = plain().fit(1e5 * X - 3e6, 1e-4 * y + 7)
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
    mean, std = plain().fit(convert(X), convert(y)).predict(convert(X), return_std=True)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, y, atol=0.1)


def test_constant_columns_and_constant_targets():
    X = np.column_stack([np.full(20, 0.1), np.linspace(0, 1, 20)])
    fitted = plain().fit(X, np.full(20, 3.3))
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(mean, 3.3)
    assert np.isfinite(std).all()


def test_duplicate_rows_without_noise():
    X = np.repeat(np.linspace(-1, 1, 10)[:, None], 3, axis=0)
    mean, std = plain().fit(X, X[:, 0] ** 2).predict(X, return_std=True)
    np.testing.assert_allclose(mean, X[:, 0] ** 2, atol=1e-3)
    assert (std > 0).all()


@pytest.mark.parametrize("slope", [0.0, -1.0, 0.3, 1.0])
def test_activations(data, slope):
    X, y = data[0][:50], data[1][:50]
    model = plain(activation=LeakyReLU(slope), max_iter=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = model.fit(X, y)
    assert fitted.horizon_ == pytest.approx(fitted.weight_variance_ * (1 - slope) ** 2)
    assert np.isfinite(fitted.predict(X)).all()


def test_restarts_never_do_worse_and_follow_the_seed(data):
    X, y = data[0][:50], data[1][:50]
    one = plain().fit(X, y)
    first, second = (plain(n_restarts=2, random_state=1).fit(X, y) for _ in range(2))
    assert first.loss_curve_[-1] <= one.loss_curve_[-1] + 1e-6
    assert len(first.restart_values_) == 3
    assert first.restart_values_ == second.restart_values_


def test_pickle_and_clone(fitted, data):
    X = data[0][:5]
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


def test_cross_validation(data):
    assert cross_val_score(plain(), data[0][:90], data[1][:90], cv=3).min() > 0.7


def test_exact_inference_on_too_many_samples_is_refused_with_the_bytes(data):
    X, y = data
    model = plain(inference="exact", max_exact_samples=100)
    with pytest.raises(ValueError, match=r"180 samples.*7\.78e\+05 bytes.*max_exact_samples"):
        model.fit(X, y)


def test_the_choice_of_inference_is_logged_and_kept(data, caplog):
    with caplog.at_level(logging.INFO, logger="resnet_gp"):
        fitted = plain(max_iter=30).fit(data[0][:30], data[1][:30])
    assert fitted.inference_ == "exact"
    assert "inference on 30 rows: exact" in caplog.text


def test_no_convergence_is_a_warning_that_says_what_to_do(data):
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        plain(max_iter=1).fit(data[0][:40], data[1][:40])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "swish"}, "activation must be one of relu, leaky_relu, abs"),
        ({"activation": "leaky_relu"}, "is the same model as"),
        ({"activation": "abs"}, "is the same model as"),
        ({"hyperparameters": "guess"}, "hyperparameters"),
        ({"n_restarts": -1}, "n_restarts"),
        ({"n_restarts": 1.5}, "n_restarts"),
        ({"max_iter": 0}, "max_iter"),
        ({"max_exact_samples": "many"}, "max_exact_samples"),
        ({"hyperparameter_samples": 1}, "hyperparameter_samples"),
        ({"n_inducing": 0}, "n_inducing"),
        ({"kernel": "rbf"}, "kernel must be"),
        ({"kernel": RBFKernel(ard_num_dims=2)}, "kernel has ard_num_dims=2, X has 3 features"),
        ({"kernel": RBFKernel(active_dims=(5,))}, r"active_dims=\(5,\)"),
        ({"kernel": RBFKernel(batch_shape=torch.Size([2]))}, "batch_shape"),
        ({"kernel": "tangent", "activation": "erf"}, "tangent kernel"),
        ({"depth": 0}, "depth"),
        ({"inference": "mcmc"}, 'inference must be "auto" or "exact"'),
        ({"dtype": "float16"}, "dtype"),
        ({"device": "abacus"}, "device"),
        ({"noise_variance": -1.0}, "noise_variance"),
        ({"noise_variance": "low"}, "noise_variance"),
        ({"alpha": -1.0}, "alpha"),
        ({"alpha": np.ones(3)}, r"alpha must be a number or of shape \(180,\)"),
        ({"alpha": np.full(180, np.nan)}, "alpha"),
        ({"alpha": "low"}, "alpha must be a number or numbers"),
        ({"learn_inducing": "a"}, "learn_inducing must be True or False"),
        ({"warm_start": "a"}, "warm_start must be True or False"),
        ({"n_jobs": 0}, "n_jobs must be an integer other than 0"),
        ({"n_jobs": "2"}, "n_jobs must be an integer other than 0, or None; got '2'"),
        ({"checkpoint": 3}, "checkpoint must be a path or None, got 3"),
    ],
)
def test_bad_parameters_are_named(data, parameters, message):
    with pytest.raises(ValueError, match=message):
        plain(**parameters).fit(*data)


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
        (np.ones((3, 2)), np.ones((3, 2, 2)), "dim 3"),
    ],
)
def test_bad_data_is_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        plain().fit(X, y)


def test_sparse_data_are_refused():
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        plain().fit(csr_array(np.eye(3)), np.ones(3))


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
    maximise = search.maximise_on_lattice
    monkeypatch.setattr(
        search,
        "maximise_on_lattice",
        lambda *args, **kwargs: (
            calls.append((len(args[1].train_targets), len(args[3]))) or maximise(*args, **kwargs)
        ),
    )
    monkeypatch.setattr("resnet_gp.fitting.exact_mode._PILOT_ABOVE", 100)
    monkeypatch.setattr("resnet_gp.fitting.exact_mode._PILOT_ROWS", 60)
    piloted = plain().fit(X, y)
    starts = len(search._CANDIDATES)
    assert calls[:starts] == [(60, 1)] * starts
    [(samples, optima)] = calls[starts:]  # what the starts have found, each once
    assert samples == 120
    assert 1 <= optima <= starts
    gap = piloted.log_marginal_likelihood_value_ - fitted.log_marginal_likelihood_value_
    assert abs(gap) < 0.1
    assert len(piloted.restart_values_) == 1


@pytest.fixture(scope="module")
def two_outputs(data):
    X, y = data
    targets = np.column_stack([y, 100 + 30 * X[:, 1]])[:80]
    return plain().fit(X[:80], targets), targets


def test_several_outputs(two_outputs, data):
    fitted, targets = two_outputs
    X = data[0][80:90]
    mean, std = fitted.predict(X, return_std=True)
    _, cov = fitted.predict(X, return_cov=True)
    assert mean.shape == std.shape == (10, 2)
    assert cov.shape == (10, 10, 2)
    np.testing.assert_allclose(np.einsum("iij->ij", cov), std**2, rtol=1e-9)
    np.testing.assert_allclose(mean[:, 1], 100 + 30 * X[:, 1], atol=10)
    np.testing.assert_allclose(std[:, 1] / std[:, 0], targets[:, 1].std() / targets[:, 0].std())
    assert fitted.noise_variance_.shape == fitted.outputscale_.shape == (2,)
    draws = fitted.sample_y(X, 2000, random_state=0)
    assert draws.shape == (10, 2, 2000)
    assert np.abs((draws.mean(2) - mean) / (std / np.sqrt(2000))).max() < 4.5
    assert fitted.predict_quantiles(X).shape == (10, 2, 3)
    assert fitted.predict_gradient(X).shape == (10, 3, 2)
    with pytest.raises(ValueError, match="alpha is in the squared units of one output"):
        plain(alpha=0.1).fit(data[0][:80], targets)


def test_quantiles_are_those_of_the_predictive_normal(fitted, data):
    X = data[0][:4]
    mean, std = fitted.predict(X, return_std=True)
    values = fitted.predict_quantiles(X, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(values[:, 1], mean)
    np.testing.assert_allclose(values[:, 2] - values[:, 0], 2 * 1.2815515655446 * std)
    with pytest.raises(ValueError, match="quantiles"):
        fitted.predict_quantiles(X, [0.5, 1.0])


def test_leave_one_out_predictions_are_calibrated_and_are_not_the_fit(fitted):
    mean, std = fitted.loo_predict(return_std=True)
    z = (fitted.y_train_ - mean) / std
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(z)))
    assert (
        np.square(fitted.y_train_ - mean).sum()
        > np.square(fitted.y_train_ - fitted.predict(fitted.X_train_)).sum()
    )
    _, latent = fitted.loo_predict(return_std=True, observation_noise=False)
    np.testing.assert_allclose(std**2 - latent**2, fitted.noise_variance_, rtol=1e-9)
    np.testing.assert_array_equal(fitted.loo_predict(), mean)


def test_left_out_rows_are_chosen_by_index_or_mask(fitted):
    whole = fitted.loo_predict_law().mean
    for rows in ([2, 5], np.isin(np.arange(120), (2, 5)), np.array([2, 5], np.uint8)):
        np.testing.assert_array_equal(fitted.loo_predict_law(rows).mean, whole[[2, 5]])
    assert fitted.loo_predict_law([]).shape == (0,)
    for wrong in ([1.0], ["a"]):
        with pytest.raises(ValueError, match="rows must be indices of training rows, or a mask"):
            fitted.loo_predict_law(wrong)
    with pytest.raises(IndexError):
        fitted.loo_predict_law([120])


def test_gradient_is_that_of_the_mean_in_units(data):
    X, y = data[0][:60], data[1][:60]
    fitted = plain().fit(X * [1, 10, 0.1], y)
    at, step = X[:5] * [1, 10, 0.1], 1e-5
    mean, std = fitted.predict_gradient(at, return_std=True)
    for i, direction in enumerate(np.diag([1, 10, 0.1])):
        difference = fitted.predict(at + step * direction) - fitted.predict(at - step * direction)
        expected = difference / (2 * step * direction[i])
        np.testing.assert_allclose(mean[:, i], expected, rtol=1e-4, atol=1e-4)
    assert std.shape == mean.shape
    assert (std > 0).all()


def test_new_rows_count_as_if_they_had_been_there(data):
    X, y = data
    alpha = np.linspace(0, 0.1, 60)
    fitted = plain(alpha=alpha[:40], max_iter=30).fit(X[:40], y[:40])
    theta, scale = fitted.theta_.copy(), fitted.model_.extra_variance[-1].item() / alpha[39]
    returned = fitted.add_observations(X[40:60], y[40:60], alpha[40:])
    assert returned is fitted
    np.testing.assert_array_equal(fitted.theta_, theta)
    assert len(fitted.X_train_) == len(fitted.y_train_) == 60
    np.testing.assert_allclose(fitted.model_.extra_variance, scale * alpha, rtol=1e-12)
    # the same as the whole model at these hyperparameters
    direct = fitted.model_.posterior()
    x = fitted.model_.train_inputs[0] + 0.1
    np.testing.assert_allclose(fitted._fitted.posterior.mean(x), direct.mean(x), rtol=1e-8)
    assert fitted.log_marginal_likelihood_value_ == pytest.approx(fitted.log_marginal_likelihood())
    with pytest.raises(ValueError, match=r"y of new rows must have shape \(2,\)"):
        fitted.add_observations(X[:2], y[:3])
    with pytest.raises(ValueError, match="X has 2 features"):
        fitted.add_observations(X[:2, :2], y[:2])


def test_a_known_noise_is_kept_and_alpha_is_added_to_it(data):
    X, y = data[0][:60], data[1][:60]
    fixed = plain(noise_variance=0.04).fit(X, y)
    assert fixed.noise_variance_ == pytest.approx(0.04, rel=1e-6)
    assert len(fixed.theta_) == 5
    split = plain(noise_variance=0.01, alpha=np.full(60, 0.03)).fit(X, y)
    np.testing.assert_allclose(split.predict(X), fixed.predict(X), atol=1e-3)


def test_rows_of_much_noise_count_less(data):
    X, y = data[0][:60].copy(), data[1][:60].copy()
    y[::4] += 30
    alpha = np.where(np.arange(60) % 4 == 0, 900.0, 0.0)
    fitted = plain(alpha=alpha).fit(X, y)
    new = data[0][60:]
    assert np.sqrt(np.mean((fitted.predict(new) - smooth(new)) ** 2)) < 0.6


@pytest.fixture(scope="module")
def aggregated():
    """Means of one to nine observations each, and how many."""
    rng = np.random.default_rng(1)
    X, weight = rng.uniform(-2, 2, size=(300, 3)), rng.integers(1, 10, 300)
    return X, smooth(X) + rng.normal(size=300) / np.sqrt(weight), weight


@pytest.mark.parametrize("inference", ["exact", "sparse"])
def test_weights_say_how_much_noise_each_row_has(aggregated, inference):
    X, y, weight = aggregated
    model = plain(inference=inference, n_inducing=80)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    # of mean weight; the standard error of a variance of 300 normal numbers is 8 %
    assert weighted.noise_variance_ * weight.mean() == pytest.approx(1, abs=4 * 0.09)
    new = np.random.default_rng(2).uniform(-2, 2, size=(500, 3))
    errors = [np.mean((one.predict(new) - smooth(new)) ** 2) for one in (weighted, model.fit(X, y))]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("inference", ["exact", "sparse"])
def test_rows_without_weight_are_left_out(aggregated, inference, tmp_path):
    X, y, weight = (part[:60] for part in aggregated)
    weight, alpha = np.where(np.arange(60) % 3 == 0, 0, weight), np.linspace(0, 0.2, 60)
    model = plain(inference=inference, n_inducing=15, max_iter=20, alpha=alpha)
    kept = weight > 0
    fewer = clone(model).set_params(alpha=alpha[kept])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, sample_weight=weight)
        fewer.fit(X[kept], y[kept], sample_weight=weight[kept])
    assert len(model.X_train_) == 40
    expected = model.predict(X, return_std=True)
    np.testing.assert_array_equal(fewer.predict(X, return_std=True), expected)
    model.save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X, return_std=True), expected)
    assert loaded.log_marginal_likelihood() == pytest.approx(model.log_marginal_likelihood())


def test_a_sample_of_rows_has_their_own_noise():
    columns = [torch.arange(10.0) + 100 * k for k in range(4)]
    few = search.Training(columns[0][:, None], *columns[1:]).sample(4)
    assert len(few) == 4
    for k, own in enumerate((few.y, few.extra_variance, few.sample_weight), 1):
        assert torch.equal(own, few.x[:, 0] + 100 * k)


def test_weights_in_all_that_knows_of_noise(aggregated):
    X, y, weight = (part[:50] for part in aggregated)
    model = plain(max_iter=30).fit(X[:40], y[:40], sample_weight=weight[:40])
    std = model.loo_predict(return_std=True)[1]
    latent = model.loo_predict(return_std=True, observation_noise=False)[1]
    relative = weight[:40] / weight[:40].mean()
    np.testing.assert_allclose(std**2 - latent**2, model.noise_variance_ / relative, rtol=1e-6)
    model.add_observations(X[40:], y[40:])
    assert model.log_marginal_likelihood_value_ == pytest.approx(model.log_marginal_likelihood())
    direct, new = model.model_.posterior(), model.model_.train_inputs[0] + 0.1
    np.testing.assert_allclose(model._fitted.posterior.mean(new), direct.mean(new), rtol=1e-8)


def test_weights_are_routed(aggregated):
    X, y, weight = (part[:60] for part in aggregated)
    model = plain(max_iter=5, noise_variance=1.0)
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        asked = clone(model).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        routed = make_pipeline(scaler, asked).fit(X, y, sample_weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        direct = model.fit(StandardScaler().fit_transform(X), y, sample_weight=weight)
    np.testing.assert_array_equal(
        routed.predict(X), direct.predict(StandardScaler().fit_transform(X))
    )


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0] * 5, "sample_weight.shape == "),
        ([-1.0] * 60, "Negative values in data passed to `sample_weight`"),
        ([np.nan] * 60, "Input sample_weight contains NaN"),
        ([1.0] + [0.0] * 59, "sample_weight must be positive for at least two samples"),
        ([1e-320] + [1.0] * 59, "sample_weight must be within a factor of 1e15"),
    ],
)
def test_bad_weights_are_named(aggregated, weight, message):
    X, y, _ = aggregated
    with pytest.raises(ValueError, match=message):
        plain().fit(X[:60], y[:60], sample_weight=weight)


@pytest.mark.parametrize(
    "parameters",
    [
        {"kernel": "tangent"},
        {"kernel": MaternKernel(2.5, ard_num_dims=3)},
        {"kernel": RBFKernel() + gpytorch.kernels.LinearKernel()},
        {"depth": 3},
        {"hyperparameters": "map"},
        {"kernel": RBFKernel(lengthscale_prior=LogNormalPrior(0, 1)), "hyperparameters": "map"},
        {"dtype": "float32"},
    ],
    ids=str,
)
def test_kernels_and_kinds_of_fit(data, parameters, tmp_path):
    X, y = data
    given = [k for k in parameters.values() if isinstance(k, gpytorch.kernels.Kernel)]
    before = [parameter.clone() for kernel in given for parameter in kernel.parameters()]
    model = plain(**parameters, max_iter=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = model.fit(X[:80], y[:80])
    mean, std = fitted.predict(X[80:], return_std=True)
    assert np.sqrt(np.mean((mean - smooth(X[80:])) ** 2)) < 0.4
    assert 0.7 < np.mean(np.abs(y[80:] - mean) < 1.645 * std) <= 1
    after = [parameter for kernel in given for parameter in kernel.parameters()]
    assert all((old == new).all() for old, new in zip(before, after, strict=True))  # copied
    fitted.save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model", **({"kernel": given[0]} if given else {}))
    np.testing.assert_array_equal(
        loaded.predict(X, return_std=True), (fitted.predict(X, return_std=True))
    )


def test_weak_priors_help_ten_rows(data):
    X, y = data

    def densities(hyperparameters):
        for i in range(0, 50, 10):
            fitted = plain(hyperparameters=hyperparameters)
            mean, std = fitted.fit(X[i : i + 10], y[i : i + 10]).predict(X[100:], return_std=True)
            assert fitted.converged_
            yield norm.logpdf(y[100:], mean, std).mean()

    assert np.mean([*densities("map")]) > np.mean([*densities("ml")]) + 0.5


def test_a_subset_chooses_the_hyperparameters_and_all_rows_predict(data):
    X, y = data
    fitted = plain(hyperparameter_samples=60).fit(X, y)
    assert len(fitted.model_.train_targets) == 180
    assert fitted.log_marginal_likelihood_value_ == pytest.approx(fitted.log_marginal_likelihood())
    assert fitted.score(X, y) > 0.95


def test_warm_start_goes_on_from_the_last_fit(data):
    X, y = data[0][:60], data[1][:60]
    with pytest.warns(ConvergenceWarning):
        fitted = plain(max_iter=1, warm_start=True).fit(X, y)
    first = fitted.log_marginal_likelihood_value_
    fitted.set_params(max_iter=200).fit(X, y)
    assert fitted.converged_
    assert fitted.log_marginal_likelihood_value_ > first
    again = fitted.fit(X, y)
    assert again.n_iter_ <= 2


def test_fixed_hyperparameters(data):
    X, y = data
    kernel = MaternKernel(2.5)
    kernel.lengthscale = 0.7
    fitted = plain(kernel=kernel, hyperparameters="fixed").fit(X[:60], y[:60])
    assert fitted.model_.covar_module.base_kernel.lengthscale.item() == pytest.approx(0.7)
    assert fitted.n_iter_ == 0
    learned = plain().fit(X[:60], y[:60])
    theta = learned.theta_.copy()
    learned.set_params(hyperparameters="fixed", warm_start=True).fit(X[60:], y[60:])
    np.testing.assert_array_equal(learned.theta_, theta)
    assert len(learned.y_train_) == 120
    assert np.isfinite(learned.log_marginal_likelihood_value_)


def test_the_loss_falls(fitted, likeliest):
    for model in (fitted, likeliest):
        assert len(model.loss_curve_) == model.n_iter_
        assert (np.diff(model.loss_curve_) <= 1e-9).all()
    loss = likeliest.loss_curve_[-1]
    assert loss == pytest.approx(-likeliest.log_marginal_likelihood_value_)
    assert fitted.log_marginal_likelihood_value_ < -loss  # of the priors, not of the data alone


def interrupt_after(monkeypatch, evaluations, kind=object):
    """Ctrl-C after so many evaluations of the likelihood of that kind of model."""
    from resnet_gp.fitting import optimiser

    evaluate, left = optimiser.value_and_gradient, [evaluations]

    def counted(*args):
        left[0] -= isinstance(args[1], kind)
        if left[0] < 0:
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.setattr(optimiser, "value_and_gradient", counted)


@pytest.mark.parametrize("evaluations", [1, 12, 40])
def test_an_interrupted_fit_is_usable_and_goes_on(data, monkeypatch, evaluations):
    X, y = data[0][:60], data[1][:60]
    model = plain(warm_start=True)
    with monkeypatch.context() as patch:
        interrupt_after(patch, evaluations)
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            model.fit(X, y)
    assert model.fit_interrupted_
    assert not model.converged_
    assert np.isfinite(model.predict(X)).all()
    value = model.log_marginal_likelihood_value_
    model.fit(X, y)
    assert not model.fit_interrupted_
    assert model.log_marginal_likelihood_value_ > value


def test_an_interruption_before_anything_was_found_is_passed_on(data, monkeypatch):
    interrupt_after(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        plain().fit(data[0][:30], data[1][:30])


def test_a_checkpoint_carries_a_fit_over(data, monkeypatch, tmp_path):
    X, y = data[0][:60], data[1][:60]
    path = tmp_path / "fit.json"
    model = plain(hyperparameters="ml", checkpoint=path)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 60)
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            model.fit(X, y)
    resumed = clone(model).fit(X, y)
    assert resumed.loss_curve_[0] <= -model.log_marginal_likelihood_value_ + 1e-6
    with pytest.raises(ValueError, match=r"fit\.json is of a fit of other data"):
        clone(model).fit(X, y + 1)
    with pytest.raises(ValueError, match=r"fit\.json is of a fit of other data"):
        clone(model).fit(X, y, sample_weight=np.ones(60))
    path.write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        clone(model).fit(X, y)


def test_a_bar_shows_on_demand_only(data, capsys):
    X, y = data[0][:20], data[1][:20]
    plain(max_iter=200).fit(X, y)
    plain(verbose=False).fit(X, y)
    assert capsys.readouterr().err == ""
    plain(verbose=True).fit(X, y)
    shown = capsys.readouterr().err
    assert "fitting" in shown
    assert "log likelihood" in shown


def test_pipelines_and_grids(data):
    X, y = data[0][:60], data[1][:60]
    pipeline = make_pipeline(QuantileTransformer(n_quantiles=20), plain(max_iter=60))
    grid = GridSearchCV(pipeline, {"resnetgpregressor__depth": [None, 3]}, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert grid.fit(X, y).best_score_ > 0.4


@pytest.fixture(scope="module")
def sparse(data):
    X, y = data
    model = plain(inference="sparse", n_inducing=60, hyperparameter_samples=80)
    return model.fit(X[:120], y[:120])


def test_sparse_inference_agrees_with_the_exact_one(sparse, fitted, data):
    X, y = data[0][120:], data[1][120:]
    assert sparse.inference_ == "sparse"
    assert sparse.log_marginal_likelihood_value_ < fitted.log_marginal_likelihood_value_
    mean, std = sparse.predict(X, return_std=True)
    exact_mean, exact_std = fitted.predict(X, return_std=True)
    assert np.abs((mean - exact_mean) / exact_std).max() < 0.4
    np.testing.assert_allclose(std, exact_std, rtol=0.15)
    assert 0.75 < np.mean(np.abs(y - mean) < 1.645 * std) <= 1
    _, cov = sparse.predict(X[:5], return_cov=True)
    np.testing.assert_allclose(np.diag(cov), std[:5] ** 2, rtol=1e-9)
    assert sparse.log_marginal_likelihood() == pytest.approx(sparse.log_marginal_likelihood_value_)


@pytest.mark.parametrize("outputs", [None, 2])
def test_a_sparse_model_is_saved(data, outputs, tmp_path):
    X, y = data[0][:60], data[1][:60]
    targets = y if outputs is None else np.column_stack([y, 5 - y])
    alpha = 0.0 if outputs else np.full(60, 0.01)
    model = plain(inference="sparse", n_inducing=20, alpha=alpha).fit(X, targets)
    model.save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    for one, other in zip(
        loaded.predict(data[0], return_std=True), model.predict(data[0], return_std=True),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    assert loaded.log_marginal_likelihood() == pytest.approx(model.log_marginal_likelihood())


@pytest.mark.parametrize("method", ["predict_gradient", "add_observations"])
def test_what_needs_exact_inference_says_so(sparse, data, method):
    arguments = {"predict_gradient": 1, "add_observations": 2}[method]
    with pytest.raises(UnsupportedError, match='need inference="exact"'):
        getattr(sparse, method)(*data[:arguments])


@pytest.mark.parametrize("kind", [ExactRegression, SparseRegression])
def test_an_interrupted_sparse_fit_is_usable(data, monkeypatch, kind):
    model = plain(inference="sparse", n_inducing=30, hyperparameter_samples=40)
    interrupt_after(monkeypatch, 2, kind)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(*data)
    assert model.fit_interrupted_
    assert np.isfinite(model.predict(data[0])).all()
    assert np.isfinite(model.log_marginal_likelihood_value_)


def test_what_inducing_points_miss_is_not_taken_for_noise(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.uniform(-3, 3, (1400, 2))
    y = np.sin(3 * X[:, 0]) + np.cos(2 * X[:, 1]) + 0.05 * rng.normal(size=len(X))

    def fit():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return plain(
                inference="sparse", n_inducing=40, hyperparameter_samples=100,
                learn_inducing=False, max_iter=10,
            ).fit(X[:400], y[:400])  # fmt: skip

    def density(model):
        return model.predict_log_density(X[400:], y[400:]).mean()

    refined = fit()
    monkeypatch.setattr("resnet_gp.fitting.sparse.refine_noise", lambda *_: None)
    of_the_bound = fit()
    assert refined.noise_variance_ < 0.6 * of_the_bound.noise_variance_
    assert density(refined) > density(of_the_bound) + 0.05
    low, high = refined.predict_quantiles(X[400:], (0.05, 0.95)).T
    assert 0.86 < np.mean((low < y[400:]) & (y[400:] < high)) < 0.96


def test_learned_inducing_points_raise_the_bound(sparse, data):
    X, y = data
    fixed = clone(sparse).set_params(learn_inducing=False).fit(X[:120], y[:120])
    chosen, learned = (m.model_.inducing_points.detach() for m in (fixed, sparse))
    assert not torch.equal(chosen, learned)
    bound = fixed.log_marginal_likelihood_value_
    assert bound < sparse.log_marginal_likelihood_value_ < bound + 100
    assert len(sparse.theta_) == len(fixed.theta_)
    assert not sparse.model_.inducing_points.requires_grad


def test_passes_over_many_rows_are_few_unless_more_are_asked_for(data, monkeypatch):
    """That they end unconverged is no surprise worth a warning."""
    monkeypatch.setattr("resnet_gp.fitting.sparse._MANY_ROWS", 100)
    for name, few in (("_PILOT_ITERATIONS", 1), ("_FIRST_MOVES", 1), ("_LAST_MOVES", 2)):
        monkeypatch.setattr(f"resnet_gp.fitting.sparse.{name}", few)
    X, y = data
    model = plain(inference="sparse", n_inducing=8, hyperparameter_samples=30)
    model.fit(X[:120], y[:120])
    assert (model.n_iter_, model.converged_) == (2, False)
    with pytest.warns(ConvergenceWarning, match="stopped after 3 iterations"):
        model.set_params(max_iter=3).fit(X[:120], y[:120])


def test_a_warm_start_keeps_learned_inducing_points(sparse, data):
    X, y = data
    again = copy.deepcopy(sparse).set_params(warm_start=True, hyperparameters="fixed")
    points = sparse.model_.inducing_points
    again.fit(X[:110], y[:110])
    assert torch.equal(again.model_.inducing_points, points)
    again.set_params(n_inducing=20).fit(X[:110], y[:110])
    assert len(again.model_.inducing_points) == 20


@pytest.mark.parametrize("evaluations", [0, 3, 10**6])
def test_of_many_rows_some_move_inducing_points_first(data, monkeypatch, tmp_path, evaluations):
    """However early it is interrupted, all rows are behind the model."""
    monkeypatch.setattr("resnet_gp.fitting.sparse._MANY_ROWS", 100)
    monkeypatch.setattr("resnet_gp.fitting.sparse._SELECTION_ROWS", 60)
    model = plain(
        inference="sparse", n_inducing=10, hyperparameter_samples=40, max_iter=4,
        checkpoint=tmp_path / "fit",
    )  # fmt: skip
    evaluate, rows = optimiser.value_and_gradient, []

    def limited(objective, module, raw):
        if isinstance(module, SparseRegression) and module.inducing_points.requires_grad:
            if len(rows) == evaluations:
                raise KeyboardInterrupt
            rows.append(len(module.rows.x))
        return evaluate(objective, module, raw)

    monkeypatch.setattr(optimiser, "value_and_gradient", limited)
    with pytest.warns(ConvergenceWarning, match="interrupted" if evaluations < 10**6 else "LIMIT"):
        model.fit(*data)
    assert rows == sorted(rows)
    assert set(rows) == {0: set(), 3: {60}}.get(evaluations, {60, len(data[0])})
    assert model.fit_interrupted_ == (evaluations < 10**6)
    assert (tmp_path / "fit").exists() == (evaluations == 10**6)
    assert len(model.model_.rows.x) == len(data[0])
    assert np.isfinite(model.predict(data[0])).all()


def test_values_far_from_all_others_are_named(data):
    X, y = (part[:30].copy() for part in data)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame.loc[3, "b"] = 1e200
    with pytest.raises(ValueError, match=r"X, column 'b': row 3 \(counted from 0\) holds 1e\+200"):
        plain().fit(frame, y)
    with pytest.raises(ValueError, match=r"^X: row 3 "):
        plain().fit(frame.to_numpy(), y)
    y[4] = -1e180
    with pytest.raises(ValueError, match=r"^y: row 4 .* holds -1e\+180"):
        plain().fit(X, y)


@pytest.mark.parametrize("max_iter", [1, 10, 18])
def test_no_more_iterations_than_are_asked_for(data, max_iter):
    """Those that compare the first starts count as well."""
    with pytest.warns(ConvergenceWarning, match=f"stopped after {max_iter} iterations"):
        model = plain(max_iter=max_iter).fit(data[0][:60], data[1][:60])
    assert model.n_iter_ == len(model.loss_curve_) == max_iter


def of_two_kernels(**options):
    usual = {"kernel": [RBFKernel(), MaternKernel(0.5)], "hyperparameter_samples": 60}
    return plain(**(usual | options))


def rough(n=60):
    """A random walk."""
    rng = np.random.default_rng(0)
    X = np.sort(rng.uniform(0, 6, n))[:, None]
    return X, np.cumsum(rng.normal(size=n))


def kernel_of(model):
    return type(model.model_.covar_module.base_kernel)


@pytest.mark.parametrize("inference", ["exact", "nearest", "sparse"])
@pytest.mark.parametrize("kernels", [(RBFKernel, MaternKernel), (MaternKernel, RBFKernel)])
def test_warm_start_goes_on_with_the_kernel_that_was_chosen(inference, kernels):
    """Hyperparameters of one GPyTorch kernel fit the others, too."""
    X, y = rough()
    options = {"inference": inference, "n_inducing": 20, "n_neighbors": 20}
    model = of_two_kernels(kernel=[kernel() for kernel in kernels], **options).fit(X, y)
    chosen, theta = kernel_of(model), model.theta_
    model.set_params(warm_start=True, hyperparameters="fixed").fit(X, y)
    assert kernel_of(model) is chosen
    np.testing.assert_array_equal(model.theta_, theta)


def test_a_checkpoint_of_sparse_inference_knows_its_kernel(tmp_path):
    X, y = rough()
    model = of_two_kernels(inference="sparse", n_inducing=20, checkpoint=tmp_path / "fit")
    assert kernel_of(model.fit(X, y)) is MaternKernel
    assert kernel_of(clone(model).fit(X, y)) is MaternKernel


def test_ctrl_c_in_the_pilot_keeps_the_best_of_its_optima(data, monkeypatch):
    monkeypatch.setattr(exact_mode, "_PILOT_ABOVE", 50)
    monkeypatch.setattr(exact_mode, "_PILOT_ROWS", 40)
    maximise, found = Search.maximise, []

    def third_is_interrupted(self, model, candidates, *arguments, **options):
        if len(found) == 2:
            raise KeyboardInterrupt
        result = maximise(self, model, candidates, *arguments, **options)
        if found:  # a worse optimum
            result = replace(result, value=result.value - 5)
            set_raw(model, np.zeros_like(found[0]))
        found.append(get_raw(model))
        return result

    monkeypatch.setattr(Search, "maximise", third_is_interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model = plain(hyperparameters="map").fit(*data)
    np.testing.assert_array_equal(get_raw(model.model_), found[0])


def test_a_checkpoint_carries_inducing_points_over(data, monkeypatch, tmp_path):
    X, y = data
    model = plain(
        inference="sparse", n_inducing=10, hyperparameter_samples=40, checkpoint=tmp_path / "fit"
    )
    evaluate, left = optimiser.value_and_gradient, [4]

    def limited(objective, module, raw):
        left[0] -= isinstance(module, SparseRegression) and module.inducing_points.requires_grad
        if left[0] < 0:
            raise KeyboardInterrupt
        return evaluate(objective, module, raw)

    with monkeypatch.context() as patch:
        patch.setattr(optimiser, "value_and_gradient", limited)
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            model.fit(X, y)
    assert model.fit_interrupted_
    points = model.model_.inducing_points.detach().clone()
    resumed = clone(model).set_params(max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        resumed.fit(X, y)
    bounds = [one.log_marginal_likelihood_value_ for one in (model, resumed)]
    assert bounds[1] > bounds[0] - 1e-6
    assert (resumed.model_.inducing_points - points).abs().max() < 0.5


def test_fixed_hyperparameters_of_a_sparse_model(sparse, data):
    theta = sparse.theta_.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickled = pickle.loads(pickle.dumps(sparse))
        pickled.set_params(hyperparameters="fixed", warm_start=True).fit(*data)
    np.testing.assert_array_equal(pickled.theta_, theta)
    assert pickled.inference_ == "sparse"


def test_log_density_is_that_of_the_predictive_law(fitted, data):
    X, y = data[0][120:], data[1][120:]
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(fitted.predict_log_density(X, y), norm.logpdf(y, mean, std))
    with pytest.raises(ValueError, match=r"y has shape \(3,\), predictions \(60,\)"):
        fitted.predict_log_density(X, y[:3])
    with pytest.raises(ValueError, match=r"y has shape \(\), predictions \(60,\)"):
        fitted.predict_log_density(X, 0.0)


def test_what_cannot_be_factorised_names_the_parameters(data):
    X = np.repeat(data[0][:3], 20, 0)
    model = plain(noise_variance=1e-30, hyperparameters="fixed", dtype="float32")
    with pytest.raises(np.linalg.LinAlgError, match="raise noise_variance or alpha"):
        model.fit(X, data[1][:60])


@pytest.mark.parametrize(
    ("inference", "factor"), [("exact", 1e-2), ("exact", 1e-300), ("sparse", 1e4)]
)
def test_only_ratios_of_weights_matter(aggregated, inference, factor):
    X, y, weight = (part[:60] for part in aggregated)
    model = plain(inference=inference, n_inducing=20, max_iter=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = clone(model).fit(X, y, sample_weight=weight).predict(X, return_std=True)
        found = model.fit(X, y, sample_weight=factor * weight).predict(X, return_std=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_fits_and_gradients_in_any_mode_of_autograd(data):
    X, y = data[0][:30], data[1][:30]
    expected = plain(max_iter=20).fit(X, y)
    gradient = expected.predict_gradient(X, return_std=True)
    with torch.inference_mode():
        found = plain(max_iter=20).fit(X, y)
        np.testing.assert_array_equal(found.predict(X), expected.predict(X))
        for one in (found, expected):
            np.testing.assert_allclose(one.predict_gradient(X, return_std=True), gradient)
            assert np.isfinite(one.log_marginal_likelihood(eval_gradient=True)[1]).all()
        found.add_observations(X[:2] + 0.1, y[:2])
    with torch.no_grad():
        np.testing.assert_allclose(expected.predict_gradient(X, return_std=True), gradient)
    copy.deepcopy(found).set_params(warm_start=True).fit(X, y)


def test_warm_starts_check_names_and_shapes(data):
    X, y = data[0][:40], data[1][:40]
    model = plain(kernel=RBFKernel(ard_num_dims=3), max_iter=10, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
        changed = model.set_params(kernel="limit", hyperparameters="fixed")
        with pytest.raises(ValueError, match=r"are of another model: .*raw_weight_variance is"):
            changed.fit(X, y)
        assert changed.predict(X).shape == (40,)  # the last fit is still there


def test_warm_starts_check_the_columns():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["a", "b"])
    model = plain(hyperparameters="fixed", warm_start=True).fit(X, X["a"])
    model.fit(X, X["a"])
    with pytest.raises(ValueError, match=r"the last fit, \['a', 'b'\], got \['b', 'a'\]"):
        model.fit(X[["b", "a"]], X["a"])


@pytest.mark.parametrize("constraint", [Interval(0.9, 2.0), GreaterThan(0.7)])
def test_a_kernels_own_constraint_holds(data, constraint):
    X, y = data[0][:40], data[1][:40]
    kernel = MaternKernel(2.5, lengthscale_constraint=constraint)
    model = plain(kernel=kernel, max_iter=10, n_restarts=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    found = model.model_.covar_module.base_kernel.lengthscale.item()
    assert constraint.check(torch.tensor(found))


def test_gradients_of_kernels_with_a_stationary_part_have_no_deviations(data):
    """GPyTorch's are constants where both points are one: half of the variance would be lost."""
    X, y = data[0][:40], data[1][:40]
    for kernel in (RBFKernel() + ResNetLimitKernel(), RBFKernel() * PolynomialKernel(2)):
        model = plain(kernel=kernel, hyperparameters="fixed").fit(X, y)
        assert np.isfinite(model.predict_gradient(X[:3])).all()
        with pytest.raises(RuntimeError, match="second derivatives"):
            model.predict_gradient(X[:3], return_std=True)
    model = plain(kernel=PolynomialKernel(2), hyperparameters="fixed").fit(X, y)
    assert np.isfinite(model.predict_gradient(X[:3], return_std=True)).all()


def test_ctrl_c_while_kernels_are_compared_keeps_the_best(data, monkeypatch):
    def interrupted(mode):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_gp.fitting.modes.around", interrupted)
    model = plain(n_components="auto")
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(data[0][:40], data[1][:40])
    assert model.fit_interrupted_


def test_warm_starts_name_another_number_of_features(data):
    X, y = data[0][:60], data[1][:60]
    model = plain(warm_start=True, rotate_features=True).fit(X, y)
    assert model.directions_ is not None
    with pytest.raises(ValueError, match=r"warm_start needs the 3 features of the last fit, got 2"):
        model.fit(X[:, :2], y)
    model.set_params(rotate_features=False, rank_features=False).fit(X, y)
    assert model.directions_ is None


def test_ctrl_c_in_the_noise_of_sparse_inference_is_said(data, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_gp.fitting.sparse.leave_one_out_noise", stopped)
    with pytest.warns(UserWarning, match="the fit was interrupted"):
        model = plain(inference="sparse", n_inducing=10, max_iter=3).fit(data[0][:60], data[1][:60])
    assert model.fit_interrupted_
    assert np.isfinite(model.predict(data[0][:5])).all()


@pytest.mark.parametrize("calls", [0, 1])
def test_ctrl_c_while_inducing_points_are_chosen_keeps_the_fits_before(data, monkeypatch, calls):
    X, y = data[0][:60], data[1][:60]
    choose, called = sparse_fit._choose_points, []

    def stopped(*arguments, **options):
        called.append(arguments)
        if len(called) > calls:
            raise KeyboardInterrupt
        return choose(*arguments, **options)

    monkeypatch.setattr(sparse_fit, "_choose_points", stopped)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model = plain(inference="sparse", n_inducing=10).fit(X, y)
    assert model.fit_interrupted_
    assert len(model.model_.inducing_points) == 10
    if calls == 0:  # in the pilot
        exact = plain(hyperparameters="map").fit(X, y)
        np.testing.assert_allclose(model.lengthscale_, exact.lengthscale_, rtol=1e-12)
    assert model.lengthscale_.std() > 0  # a fit's: at the start they are equal


def test_rows_of_weight_0_do_not_change_how_tables_are_encoded():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"a": rng.normal(size=40), "c": ["x", "y"] * 20})
    frame.loc[0, "c"], frame.loc[1, "a"] = "rare", np.nan
    y, weight, alpha = rng.normal(size=40), np.ones(40), np.linspace(0, 1, 40)
    weight[:2] = 0
    model = plain(hyperparameters="map", alpha=alpha).fit(frame, y, weight)
    assert model.columns_.feature_names == ["a", "c=x", "c=y"]
    without = plain(hyperparameters="map", alpha=alpha[2:]).fit(frame[2:], y[2:])
    np.testing.assert_allclose(model.predict(frame[2:]), without.predict(frame[2:]), rtol=1e-10)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(frame, y[:-1], weight)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", [2, 5])
def test_groups_of_repeated_rows_have_their_own_noise(seed, dtype):
    rng = np.random.default_rng(seed)
    group = np.repeat([0.0, 1.0], 60)
    y = np.where(group == 0, 0.1, 1.0) * rng.normal(size=120) + group
    model = ResNetGPRegressor(hyperparameters="map", dtype=dtype).fit(group[:, None], y)
    quiet, loud = model.predict([[0.0], [1.0]], return_std=True)[1]
    assert 0.07 < quiet < 0.2
    assert 0.7 < loud < 1.3
