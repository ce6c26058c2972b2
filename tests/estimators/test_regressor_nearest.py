"""The regressor with ``inference="nearest"``."""

import copy
import logging
import pickle
import warnings

import numpy as np
import pytest
import torch
from gpytorch.kernels import MaternKernel, RBFKernel
from scipy.stats import t as student_t
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from resnet_gp import ResNetGPRegressor
from resnet_gp.fitting import optimiser
from resnet_gp.models import ExactRegression
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.predictive.local_scale import LocalScale

pytestmark = pytest.mark.usefixtures("few_rows_learn")

NOISE = 0.2


def not_repeats(_):
    """Checks that no estimator with a learned noise could pass."""
    reason = "a weight divides the noise; equal repeats would be evidence that there is none"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


def near(**parameters):
    """One kernel, few iterations, and a number of neighbours that need not be chosen."""
    usual = {"inference": "nearest", "n_components": 1, "n_neighbors": 20, "max_iter": 20}
    return ResNetGPRegressor(**(usual | parameters))


def fit(model, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*arguments, **options)


@parametrize_with_checks([near(max_iter=3)], expected_failed_checks=not_repeats)
def test_sklearn_compatible_estimator(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks fit noise, constants and two rows
        check(estimator)


def smooth(X):
    return np.sin(2 * X[:, 0]) + X[:, 1] ** 2


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(150, 3))
    return X, smooth(X) + NOISE * rng.normal(size=150)


@pytest.fixture(scope="module")
def fitted(data):
    X, y = data
    return fit(near(max_iter=None), X[:110], y[:110])


@pytest.fixture(scope="module")
def exact(data):
    X, y = data
    model = ResNetGPRegressor(
        inference="exact", n_components=1, hyperparameters="map", residuals="gaussian"
    )
    return model.fit(X[:110], y[:110])


def test_predicts_as_exact_inference_does(fitted, exact, data):
    X, y = data[0][110:], data[1][110:]
    assert fitted.inference_ == "nearest"
    assert fitted.hyperparameters_ == "map"
    mean, std = fitted.predict(X, return_std=True)
    truth, spread = exact.predict(X, return_std=True)
    assert np.sqrt(np.mean((mean - smooth(X)) ** 2)) < 0.3
    assert np.abs(mean - truth).max() < 3 * spread.max()
    assert 0.75 < np.mean(np.abs(y - mean) < 1.645 * std) <= 1
    assert np.sqrt(fitted.noise_variance_) == pytest.approx(NOISE, rel=0.4)
    assert fitted.lengthscale_[2] > 2 * max(fitted.lengthscale_[:2])


def test_with_all_rows_it_is_exact_inference(exact, data):
    """At the same hyperparameters."""
    X, y = data
    model = copy.deepcopy(exact).set_params(
        inference="nearest", n_neighbors=1000, hyperparameters="fixed", warm_start=True
    )
    model.fit(X[:110], y[:110])
    new = X[110:125]
    assert model.n_neighbors_ == 110
    np.testing.assert_array_equal(model.theta_, exact.theta_)
    for one, other in zip(
        [*model.predict(new, return_std=True), *model.loo_predict(return_std=True),
         *model.predict_gradient(new, return_std=True), model.predict_quantiles(new)],
        [*exact.predict(new, return_std=True), *exact.loo_predict(return_std=True),
         *exact.predict_gradient(new, return_std=True), exact.predict_quantiles(new)],
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    back = copy.deepcopy(model).set_params(inference="exact", n_neighbors=None)
    back.fit(X[:110], y[:110])
    np.testing.assert_array_equal(back.predict(new), exact.predict(new))


def test_the_parts_of_a_law_agree(fitted, data):
    X, y = data[0][110:120], data[1][110:120]
    law = fitted.predict_law(X)
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_array_equal(law.mean, mean)
    np.testing.assert_array_equal(law.std, std)
    np.testing.assert_array_equal(fitted.predict(X), mean)
    residuals = fitted.residual_law_
    assert isinstance(residuals, LocalScale)
    assert fitted.residuals_ == "student"
    own = student_t(residuals.df, law.means[0], law.scales[0])
    np.testing.assert_allclose(fitted.predict_log_density(X, y), own.logpdf(y))
    np.testing.assert_allclose(fitted.predict_quantiles(X, [0.1])[:, 0], own.ppf(0.1))
    latent = fitted.predict(X, return_std=True, observation_noise=False)
    np.testing.assert_array_equal(latent[0], mean)
    for noise, spread in ((True, std), (False, latent[1])):
        _, cov = fitted.predict(X, return_cov=True, observation_noise=noise)
        np.testing.assert_allclose(np.diag(cov), spread**2, rtol=1e-9)
    draws = fitted.sample_y(X, 4000, random_state=0)
    assert np.abs((draws.mean(1) - mean) / (std / np.sqrt(4000))).max() < 4.5
    np.testing.assert_allclose(draws.std(1), std, rtol=0.1)


def test_normal_laws_on_request(data):
    model = fit(near(residuals="gaussian"), data[0][:60], data[1][:60])
    assert model.residual_law_ is None
    assert model.residuals_ == "gaussian"
    _, std = model.predict(data[0], return_std=True)
    _, latent = model.predict(data[0], return_std=True, observation_noise=False)
    np.testing.assert_allclose(std**2 - latent**2, model.noise_variance_)


def test_left_out_predictions(fitted):
    mean, std = fitted.loo_predict(return_std=True)
    z = (fitted.y_train_ - mean) / std
    assert 0.7 < z.std() < 1.3
    np.testing.assert_array_equal(fitted.loo_predict(), mean)
    near_fit = np.square(fitted.y_train_ - fitted.predict(fitted.X_train_)).sum()
    assert np.square(fitted.y_train_ - mean).sum() > near_fit


def test_gradients_in_units(data):
    X, y = data[0][:60] * [1, 10, 0.1], data[1][:60]
    model = fit(near(), X, y)
    mean, std = model.predict_gradient(X[:4] + 0.01, return_std=True)
    assert mean.shape == std.shape == (4, 3)
    for i, step in enumerate(1e-5 * np.diag([1, 10, 0.1])):
        slope = model.predict(X[:4] + 0.01 + step) - model.predict(X[:4] + 0.01 - step)
        np.testing.assert_allclose(mean[:, i], slope / (2 * step[i]), rtol=1e-3, atol=1e-3)


def test_further_rows(fitted, data):
    X, y = data
    at_once = copy.deepcopy(fitted).add_observations(X[110:130], y[110:130], alpha=0.01)
    steps = copy.deepcopy(fitted)
    for i in range(110, 130):
        assert steps.add_observations(X[i : i + 1], y[i : i + 1], alpha=0.01) is steps
    np.testing.assert_allclose(steps.predict(X[130:]), at_once.predict(X[130:]), rtol=1e-9)
    assert not np.allclose(at_once.predict(X[110:130]), fitted.predict(X[110:130]))
    assert at_once.loo_predict().shape == (130,)
    assert np.isfinite(at_once.log_marginal_likelihood_value_)
    np.testing.assert_array_equal(at_once.theta_, fitted.theta_)
    with pytest.raises(ValueError, match=r"y of new rows must have shape \(2,\)"):
        at_once.add_observations(X[:2], y[:3])


def test_the_likelihood_of_other_hyperparameters(fitted, data):
    theta = fitted.theta_ - 0.1
    before = fitted.predict(data[0][:3])
    value, gradient = fitted.log_marginal_likelihood(theta, eval_gradient=True)
    assert value == fitted.log_marginal_likelihood(theta)
    assert value < fitted.log_marginal_likelihood()
    for i, step in enumerate(1e-5 * np.eye(len(theta))):
        above, below = (fitted.log_marginal_likelihood(theta + s * step) for s in (1, -1))
        assert gradient[i] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-4)
    np.testing.assert_array_equal(fitted.predict(data[0][:3]), before)
    with pytest.raises(ValueError, match="theta must have shape"):
        fitted.log_marginal_likelihood(theta[1:])


def test_several_outputs(data):
    X, y = data[0][:70], data[1][:70]
    targets = np.column_stack([y, 100 + 30 * X[:, 1]])
    model = fit(near(), X[:60], targets[:60])
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == (70, 2)
    np.testing.assert_allclose(mean[60:, 1], targets[60:, 1], atol=15)
    _, cov = model.predict(X[:5], return_cov=True)
    np.testing.assert_allclose(np.einsum("iij->ij", cov), std[:5] ** 2, rtol=1e-9)
    assert model.loo_predict().shape == (60, 2)
    assert model.predict_quantiles(X[:5]).shape == (5, 2, 3)
    assert model.predict_gradient(X[:5]).shape == (5, 3, 2)
    model.add_observations(X[60:], targets[60:])
    assert model.loo_predict().shape == (70, 2)


def same(one, other, X):
    np.testing.assert_array_equal(
        one.predict(X, return_std=True), other.predict(X, return_std=True)
    )
    for a, b in zip(
        one.predict(X[:5], return_cov=True), other.predict(X[:5], return_cov=True), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        one.loo_predict(return_std=True), other.loo_predict(return_std=True)
    )
    assert one.log_marginal_likelihood() == other.log_marginal_likelihood()
    assert one.n_neighbors_ == other.n_neighbors_
    assert one.residual_law_ == other.residual_law_


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("added", [0, 20])
def test_files_keep_all_bits(data, tmp_path, dtype, added):
    X, y = data
    alpha, weight = np.linspace(0, 0.1, 80), np.linspace(1, 2, 80)
    model = fit(near(dtype=dtype, alpha=alpha, n_neighbors=7), X[:80], y[:80], weight)
    if added:
        model.add_observations(X[80 : 80 + added], y[80 : 80 + added], alpha=0.3)
    model.save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    same(loaded, model, X)
    assert vars(loaded).keys() == vars(model).keys()
    for one in (loaded, model):
        one.add_observations(X[:3] + 0.1, y[:3])
    same(loaded, model, X)


def test_pickle_copy_and_clone(fitted, data):
    for copied in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        same(copied, fitted, data[0])
    with pytest.raises(NotFittedError):
        clone(fitted).predict(data[0])


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_components": 2}, {"n_components": "auto"}, {"kernel": "tangent"}, {"depth": 2},
        {"kernel": MaternKernel(2.5, ard_num_dims=3)}, {"kernel": ["limit", RBFKernel()]},
        {"activation": "erf", "depth": 1}, {"hyperparameters": "ml"},
        {"hyperparameters": "fixed"}, {"noise_variance": 0.04}, {"n_neighbors": None},
    ],
    ids=str,
)  # fmt: skip
def test_kernels_and_kinds_of_fit(data, tmp_path, parameters):
    X, y = data[0][:70], data[1][:70]
    model = fit(near(**({"max_iter": 4} | parameters)), X[:60], y[:60])
    mean, std = model.predict(X, return_std=True)
    assert np.sqrt(np.mean((mean - smooth(X)) ** 2)) < 0.7
    assert np.isfinite(std).all()
    if "noise_variance" in parameters:
        assert model.noise_variance_ == pytest.approx(0.04, rel=1e-6)
    model.save(tmp_path / "model")
    kernel = {"kernel": parameters["kernel"]} if "kernel" in parameters else {}
    loaded = ResNetGPRegressor.load(tmp_path / "model", **kernel)
    same(loaded, model, X)


@pytest.mark.parametrize("name", ["laplace", "nuts"])
def test_hyperparameters_that_need_exact_inference(data, name):
    with pytest.raises(ValueError, match=f'hyperparameters="{name}" needs exact inference'):
        near(hyperparameters=name).fit(*data)


@pytest.mark.parametrize("value", [0, -3, 2.5, "many", True, np.nan, [20]])
def test_bad_numbers_of_neighbours_are_named(data, value):
    with pytest.raises(ValueError, match="n_neighbors must be an integer of at least 1, got"):
        near(n_neighbors=value).fit(*data)


def test_too_many_rows_for_exact_inference(data, caplog):
    model = near(inference="auto", max_exact_samples=50, max_iter=3)
    with caplog.at_level(logging.INFO, logger="resnet_gp"):
        fit(model, data[0][:60], data[1][:60])
    assert model.inference_ == "nearest"
    assert "inference on 60 rows: nearest" in caplog.text
    with pytest.raises(ValueError, match='set inference="nearest" or raise max_exact_samples'):
        clone(model).set_params(inference="exact").fit(*data)


def test_the_number_of_neighbours_that_was_used(fitted, exact):
    assert fitted.n_neighbors_ == 20
    with pytest.raises(
        AttributeError,
        match='n_neighbors_ exists only with inference="nearest"; this fit used "exact"',
    ):
        _ = exact.n_neighbors_
    assert not hasattr(near(), "n_neighbors_")


def test_weights(data):
    """Rows of weight 0 are left out, and only ratios count."""
    X, y = data[0][:60], data[1][:60]
    weight = np.where(np.arange(60) % 3 == 0, 0, 1 + np.arange(60) % 4)
    model = near(max_iter=4)
    weighted = fit(clone(model), X, y, sample_weight=weight)
    kept = weight > 0
    fewer = fit(clone(model), X[kept], y[kept], sample_weight=7.0 * weight[kept])
    assert len(weighted.X_train_) == 40
    np.testing.assert_allclose(fewer.predict(X), weighted.predict(X), rtol=1e-4, atol=1e-4)
    std = weighted.loo_predict(return_std=True, observation_noise=False)[1]
    assert np.isfinite(std).all()


def interrupt_after(monkeypatch, evaluations, kind=object):
    """Ctrl-C after so many evaluations of the likelihood of that kind of model."""
    evaluate, left = optimiser.value_and_gradient, [evaluations]

    def counted(*args):
        left[0] -= isinstance(args[1], kind)
        if left[0] < 0:
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.setattr(optimiser, "value_and_gradient", counted)


@pytest.mark.parametrize(("evaluations", "kind"), [(3, object), (0, NearestRegression),
                                                   (5, NearestRegression)])  # fmt: skip
def test_an_interrupted_fit_is_usable_and_goes_on(data, monkeypatch, evaluations, kind):
    X, y = data[0][:60], data[1][:60]
    model = near(warm_start=True, max_iter=None)
    with monkeypatch.context() as patch:
        interrupt_after(patch, evaluations, kind)
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            model.fit(X, y)
    assert model.fit_interrupted_
    assert not model.converged_
    assert np.isfinite(model.predict(X, return_std=True)).all()
    value = model.log_marginal_likelihood()
    model.fit(X, y)
    assert not model.fit_interrupted_
    assert model.log_marginal_likelihood() > value - 1e-6


def test_a_checkpoint_carries_a_fit_over(data, monkeypatch, tmp_path):
    X, y = data[0][:60], data[1][:60]
    model = near(checkpoint=tmp_path / "fit.json", max_iter=None)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 8, NearestRegression)
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            model.fit(X, y)
    interrupt_after(monkeypatch, 0, ExactRegression)  # no exact fit comes first
    resumed = fit(clone(model), X, y)
    assert resumed.log_marginal_likelihood() > model.log_marginal_likelihood() - 0.5
    with pytest.raises(ValueError, match=r"fit\.json is of a fit of other data"):
        clone(model).fit(X, y + 1)


def test_bars(data, capsys):
    X, y = data[0][:30], data[1][:30]
    fit(near(max_iter=2), X, y).predict(X)
    fit(near(max_iter=2, verbose=False), X, y).predict(X)
    assert capsys.readouterr().err == ""
    fit(near(max_iter=2, verbose=True), X, y)
    shown = capsys.readouterr().err
    assert "fitting" in shown
    assert "log likelihood" in shown


def test_bars_of_predictions(data, capsys):
    X, y = data[0][:30], data[1][:30]
    model = fit(near(max_iter=2), X, y).set_params(verbose=True)
    for predict, word in (
        (lambda: model.predict(X), "predicting"),
        (lambda: model.predict_law(X), "predicting"),
        (model.loo_predict, "leaving rows out"),
        (lambda: model.loo_predict_law([0, 1]), "leaving rows out"),
    ):
        predict()
        assert word in capsys.readouterr().err


def test_long_predictions_advance_a_bar(data, monkeypatch, fitted):
    """On a terminal it appears after ten seconds."""
    from resnet_gp.models import nearest_posterior

    seen = []

    class Bar:
        def __init__(self, *arguments, total):
            self.arguments, self.count = (*arguments, total), 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append((*self.arguments, self.count))

        def update(self, count):
            self.count += count

    monkeypatch.setattr(nearest_posterior, "progress_bar", Bar)
    monkeypatch.setattr(nearest_posterior, "_CHUNK", 40)
    fitted.predict(data[0])
    fitted.loo_predict()
    assert seen == [("predicting", 150, 150), ("leaving rows out", 110, 110)]


def test_constants_and_copies(data):
    X = np.column_stack([np.full(40, 0.1), np.linspace(0, 1, 40)])
    model = fit(near(), X, np.full(40, 3.3))
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, 3.3)
    assert np.isfinite(std).all()
    X = np.repeat(np.linspace(-1, 1, 10)[:, None], 30, axis=0)
    mean, std = fit(near(), X, X[:, 0] ** 2).predict(X, return_std=True)
    np.testing.assert_allclose(mean, X[:, 0] ** 2, atol=0.01)
    assert (std > 0).all()


def test_fits_and_predicts_in_any_mode_of_autograd(data):
    X, y = data[0][:40], data[1][:40]
    expected = fit(near(max_iter=3), X, y)
    with torch.inference_mode():
        found = fit(near(max_iter=3), X, y)
        np.testing.assert_array_equal(found.predict(X), expected.predict(X))
        np.testing.assert_allclose(found.predict_gradient(X), expected.predict_gradient(X))
        assert np.isfinite(found.log_marginal_likelihood(eval_gradient=True)[1]).all()
        found.add_observations(X[:2] + 0.1, y[:2])


def test_the_likelihood_does_not_depend_on_earlier_calls(data):
    X, y = data
    model = fit(near(), X, y)
    value = model.log_marginal_likelihood()
    model.log_marginal_likelihood(model.theta_ + 0.5)
    assert model.log_marginal_likelihood() == pytest.approx(value, rel=1e-12)


def test_there_may_be_neighbours_enough_later(data):
    X, y = data
    model = fit(near(n_neighbors=40), X[:30], y[:30])
    assert model.n_neighbors_ == 30
    value = model.log_marginal_likelihood_value_
    model.add_observations(X[30:], y[30:])
    assert model.n_neighbors_ == 40
    assert model.log_marginal_likelihood_value_ == value


def test_left_out_rows_keep_few_errors(fitted):
    found = fitted._fitted.posterior.replace(n_neighbors=60).left_out(np.arange(5))
    assert found.z.shape == (5, 1, 21)
