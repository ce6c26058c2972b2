"""``ResNetGPRegressor(hyperparameters="nuts")`` and the mixture behind it."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from resnet_gp import ResNetGPRegressor
from resnet_gp.bayes.gp_regression import GPRegression, each
from resnet_gp.models.mixture import ExactMixture

FEW = pytest.mark.filterwarnings("ignore:the draws of", "ignore:chains disagree")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(25, 2)) * [1.0, 10.0]
Y = np.sin(2 * X[:, 0]) + 0.2 * RNG.normal(size=25) + 5.0
NEW = RNG.normal(size=(6, 2)) * [1.0, 10.0]


def make(**options):
    return ResNetGPRegressor(
        hyperparameters="nuts", n_components=1, residuals="gaussian", n_chains=2, n_draws=10,
        verbose=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make().fit(X, Y)


def test_predictions_are_those_of_the_mixture(fitted):
    mixture = fitted._fitted.posterior
    assert isinstance(mixture, ExactMixture)
    assert len(mixture.members) == 20
    mean, std = fitted.predict(NEW, return_std=True)
    x = fitted._standardised(NEW)
    parts = [member.mean_and_variance(x) for member in mixture.members]
    means = torch.stack([mean for mean, _ in parts]).numpy()
    noises = torch.stack([member.noise_variance for member in mixture.members])
    variances = torch.stack([v for _, v in parts]).numpy() + noises.numpy()[:, None]
    np.testing.assert_allclose(mean, means.mean(0) * Y.std() + Y.mean())
    np.testing.assert_allclose(std, np.sqrt(variances.mean(0) + means.var(0)) * Y.std())
    _, covariance = fitted.predict(NEW, return_cov=True)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), std)


def test_quantiles_are_those_of_the_mixture_not_of_a_normal_law(fitted):
    low, middle, high = fitted.predict_quantiles(NEW, (0.05, 0.5, 0.95)).T
    np.testing.assert_allclose(fitted.predict_law(NEW).cdf(high), 0.95, atol=1e-12)
    assert (low < middle).all()
    mean, std = fitted.predict(NEW, return_std=True)
    assert not np.allclose(high, mean + norm.ppf(0.95) * std, rtol=1e-6)


@FEW
def test_weights_divide_the_noise_of_every_member():
    weight = np.linspace(0.5, 4, 25)
    model = make().fit(X, Y, sample_weight=weight)
    relative = torch.from_numpy(weight / weight.mean())
    for member in model._fitted.posterior.members:
        own = member.covar_module(member.train_x, diag=True)
        total = member.cholesky.square().sum(1)
        np.testing.assert_allclose(
            (total - own).detach(), member.noise_variance / relative, rtol=1e-6
        )


def test_draws_and_attributes_are_there(fitted):
    assert fitted.draws_.num_chains == 2
    assert fitted.draws_.num_draws == 10
    assert np.isfinite(fitted.horizon_)
    assert not fitted.fit_interrupted_
    assert fitted.sample_y(NEW, 3).shape == (6, 3)


def test_left_out_predictions_take_the_row_out_of_the_hyperparameters(fitted):
    mean, std = fitted.loo_predict(return_std=True)
    assert mean.shape == std.shape == (25,)
    latent = fitted.loo_predict(return_std=True, observation_noise=False)[1]
    assert (latent < std).all()
    members = [member.leave_one_out() for member in fitted._fitted.posterior.members]
    means, variances = (torch.stack(part).numpy() for part in zip(*members, strict=True))
    y = ((Y - Y.mean()) / Y.std())[None]
    weights = 1 / norm(means, np.sqrt(variances)).pdf(y)
    weights = np.minimum(weights, weights.sum(0) / np.sqrt(len(weights)))
    expected = (weights * means).sum(0) / weights.sum(0)
    np.testing.assert_allclose(mean, expected * Y.std() + Y.mean())
    own = [member.leave_one_out(False)[1].numpy() for member in fitted._fitted.posterior.members]
    spread = (weights * (np.stack(own) + (means - expected) ** 2)).sum(0) / weights.sum(0)
    np.testing.assert_allclose(latent, np.sqrt(spread) * Y.std(), rtol=1e-8)


def test_gradients_are_those_of_finite_differences(fitted):
    gradient, std = fitted.predict_gradient(NEW, return_std=True)
    step = 1e-5
    for i in range(2):
        shift = np.eye(2)[i] * step
        slope = (fitted.predict(NEW + shift) - fitted.predict(NEW - shift)) / (2 * step)
        np.testing.assert_allclose(gradient[:, i], slope, rtol=1e-4, atol=1e-6)
    assert (std > 0).all()


@FEW
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_new_rows_condition_every_member(alpha):
    model = make(alpha=alpha).fit(X[:20], Y[:20])
    before = model.predict_law(NEW, False).scales
    model.add_observations(X[20:], Y[20:], alpha=alpha)
    at_draws = GPRegression.of(model.model_)
    whole = [at_draws.at(one).posterior() for one in each(model.draws_.pooled(20))]
    x = model._standardised(NEW)
    for member, expected in zip(model._fitted.posterior.members, whole, strict=True):
        torch.testing.assert_close(member.mean(x), expected.mean(x), rtol=1e-8, atol=1e-8)
    after = model.predict_law(NEW, False).scales
    assert (after <= before + 1e-9).all()  # of every member; their means may disagree more


@FEW
def test_several_outputs_and_files(tmp_path):
    pytest.importorskip("safetensors")
    model = make().fit(X, np.stack([Y, -2 * Y], 1))
    mean, std = model.predict(NEW, return_std=True)
    assert mean.shape == std.shape == (6, 2)
    assert model.predict_quantiles(NEW, (0.1, 0.9)).shape == (6, 2, 2)
    assert model.predict(NEW, return_cov=True)[1].shape == (6, 6, 2)
    model.save(tmp_path / "model")
    again = ResNetGPRegressor.load(tmp_path / "model")
    for ours, theirs in zip(
        model.predict(NEW, return_std=True), again.predict(NEW, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.predict_quantiles(NEW), again.predict_quantiles(NEW))
    for name, value in model.draws_.values.items():
        assert torch.equal(again.draws_.values[name], value)


@FEW
def test_the_seed_decides(fitted):
    np.testing.assert_array_equal(make().fit(X, Y).predict(NEW), fitted.predict(NEW))


def test_other_inference_is_refused():
    with pytest.raises(ValueError, match='"nuts" needs exact inference, but these 25 rows are'):
        make(inference="sparse").fit(X, Y)
    with pytest.raises(ValueError, match="n_chains"):
        make().set_params(n_chains=0).fit(X, Y)


def test_an_interruption_before_any_draw_leaves_the_mode(monkeypatch):
    from sklearn.exceptions import ConvergenceWarning

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_gp.bayes.averaged.run_nuts", interrupted)
    model = make()
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(X, Y)
    assert model.fit_interrupted_
    assert np.isfinite(model.predict(NEW)).all()


def test_the_predictive_density_integrates_to_one(fitted):
    mean, std = fitted.predict(NEW[:1], return_std=True)
    y = np.linspace(mean - 12 * std, mean + 12 * std, 4001)[:, 0]
    density = np.exp(fitted.predict_log_density(np.repeat(NEW[:1], len(y), 0), y))
    assert np.trapezoid(density, y) == pytest.approx(1, abs=1e-5)
    assert np.trapezoid(density * y, y) == pytest.approx(mean[0])
