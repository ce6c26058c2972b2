"""``hyperparameters="laplace"``: the mixture over draws, its evidence, and all that it offers."""

import math

import numpy as np
import pytest
import torch
from gpytorch.kernels import MaternKernel, RBFKernel
from scipy.special import logsumexp

from resnet_gp import ResNetGPRegressor
from resnet_gp.fitting import integrated
from resnet_gp.fitting.integrated import IntegratedFit
from resnet_gp.models.mixture import ExactMixture

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2)) * [1.0, 10.0]
Y = np.sin(2 * X[:, 0]) + 0.2 * RNG.normal(size=40) + 5.0
NEW = RNG.normal(size=(6, 2)) * [1.0, 10.0]


def make(**options):
    options = {"n_components": 1, "residuals": "gaussian"} | options
    return ResNetGPRegressor(hyperparameters="laplace", verbose=False, **options)


@pytest.fixture(scope="module")
def fitted():
    return make().fit(X, Y)


def test_the_posterior_is_a_mixture_of_few_members(fitted):
    mixture = fitted._fitted.posterior
    assert isinstance(mixture, ExactMixture)
    assert 4 <= len(mixture.members) <= 16
    assert float(mixture.shares.sum()) == pytest.approx(1)
    assert fitted.hyperparameters_ == "laplace"
    assert fitted.effective_draws_.shape == fitted.pareto_k_.shape == (1,)
    assert 5 < fitted.effective_draws_[0] <= 200
    assert fitted.probability_.tolist() == [1]


def test_the_evidence_is_the_mean_likelihood_under_the_prior():
    """Two independent estimates; on few targets, draws from the prior find the posterior."""
    x, y = X[:8], Y[:8]
    model = make(random_state=1).fit(x, y)
    regression = model.model_
    random = np.random.default_rng(0)
    names = [name for name, p in regression.named_parameters() if p.requires_grad]
    laws = {
        "noise": (math.log(0.05), 2.0), "outputscale": (0.0, 1.5),
        "lengthscale": (0.0, 1.0), "weight_variance": (math.log(5), 1.0),
    }  # fmt: skip
    values = []
    for _ in range(2000):
        raw = [
            random.normal(*next(law for key, law in laws.items() if name.endswith(key)), p.numel())
            for name, p in regression.named_parameters()
            if name in names
        ]
        try:
            values.append(model.log_marginal_likelihood(np.concatenate(raw)))
        except torch.linalg.LinAlgError:
            values.append(-np.inf)
    likelihood = np.exp(np.array(values) - max(values))
    expected = logsumexp(values) - math.log(len(values))
    error = likelihood.std() / likelihood.mean() / math.sqrt(len(values))
    own = 1 / math.sqrt(model.effective_draws_[0])
    assert abs(model.log_evidence_[0] - expected) < 4 * math.hypot(error, own)


def test_shares_are_kept_to_the_bit(fitted):
    """Their sum is not quite 1: divided by it, they would change in every file."""
    shares = torch.tensor([0.5, 0.5 + 2**-50], dtype=torch.float64)
    again = ExactMixture(fitted._fitted.posterior.members[:2], shares)
    assert torch.equal(again.shares, shares)


def test_predictions_are_those_of_the_weighted_members(fitted):
    mixture, x = fitted._fitted.posterior, fitted._standardised(NEW)
    shares = mixture.shares.numpy()
    parts = [member.mean_and_variance(x) for member in mixture.members]
    means = torch.stack([mean for mean, _ in parts]).numpy()
    variances = torch.stack(
        [v + m.noise_variance for m, (_, v) in zip(mixture.members, parts, strict=True)]
    )
    mean, std = fitted.predict(NEW, return_std=True)
    np.testing.assert_allclose(mean, shares @ means * Y.std() + Y.mean())
    total = shares @ variances.numpy() + shares @ (means - shares @ means) ** 2
    np.testing.assert_allclose(std, np.sqrt(total) * Y.std())
    _, covariance = fitted.predict(NEW, return_cov=True)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), std)


def test_kernels_count_by_their_evidence():
    model = make(kernel=["limit", "tangent", MaternKernel(2.5)]).fit(X, Y)
    assert model.kernels_ == ["limit", "tangent", "MaternKernel"]
    probability = np.exp(model.log_evidence_ - logsumexp(model.log_evidence_))
    np.testing.assert_allclose(model.probability_, probability)
    counts = np.zeros(3)
    fit = model._fitted
    assert isinstance(fit, IntegratedFit)
    for (number, _), share in zip(fit.members, fit.posterior.shares.tolist(), strict=True):
        counts[number] += share
    np.testing.assert_allclose(counts, probability, atol=1.5 / 16)


def test_a_hopeless_kernel_gets_no_draws():
    y = np.sign(X[:, 0]) + 0.1 * np.sin(20 * X[:, 0])
    constant = RBFKernel()
    constant.lengthscale = 900.0
    constant.raw_lengthscale.requires_grad_(False)
    model = make(kernel=["limit", constant]).fit(X, y)
    assert np.isnan(model.pareto_k_[1])
    assert model.probability_.tolist() == [1, 0]


def test_the_seed_decides(fitted):
    np.testing.assert_array_equal(make().fit(X, Y).predict(NEW), fitted.predict(NEW))
    assert (make(random_state=3).fit(X, Y).predict(NEW) != fitted.predict(NEW)).any()


@pytest.mark.parametrize("outputs", [1, 2])
def test_files_give_the_same_predictions_to_the_bit(tmp_path, outputs):
    pytest.importorskip("safetensors")
    y = Y if outputs == 1 else np.stack([Y, -2 * Y], 1)
    model = make(kernel=["limit", "tangent"]).fit(X, y, sample_weight=np.linspace(1, 2, 40))
    model.save(tmp_path / "model")
    again = ResNetGPRegressor.load(tmp_path / "model")
    for one in (model, again):
        one.add_observations(X[:2] + 0.1, y[:2])
    for ours, theirs in zip(
        [*model.predict(NEW, return_std=True), *model.loo_predict(return_std=True)],
        [*again.predict(NEW, return_std=True), *again.loo_predict(return_std=True)],
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.log_evidence_, again.log_evidence_)


def test_new_rows_weigh_the_members_by_their_predictions(fitted):
    model = make().fit(X[:30], Y[:30])
    members = model._fitted.posterior.members
    before = model._fitted.posterior.shares.numpy()
    x = model._standardised(X[30:])
    y = torch.from_numpy((Y[30:] - Y[:30].mean()) / Y[:30].std())
    density = [
        torch.distributions.MultivariateNormal(*one.joint(x)).log_prob(y).item() for one in members
    ]
    model.add_observations(X[30:], Y[30:])
    expected = before * np.exp(np.array(density) - max(density))
    np.testing.assert_allclose(model._fitted.posterior.shares, expected / expected.sum(), rtol=1e-6)


def test_known_noise_and_weights_reach_every_member():
    model = make(alpha=0.3).fit(X, Y, sample_weight=np.linspace(0.5, 2, 40))
    relative = torch.from_numpy(np.linspace(0.5, 2, 40) / np.linspace(0.5, 2, 40).mean())
    extra = 0.3 / Y.var()
    for member in model._fitted.posterior.members:
        expected = (member.noise_variance + extra) / relative
        torch.testing.assert_close(member.row_noise, expected)


def test_all_methods_answer(fitted):
    assert fitted.sample_y(NEW, 3).shape == (6, 3)
    gradient, std = fitted.predict_gradient(NEW, return_std=True)
    step = 1e-5 * np.eye(2)[0]
    slope = (fitted.predict(NEW + step) - fitted.predict(NEW - step)) / 2e-5
    np.testing.assert_allclose(gradient[:, 0], slope, rtol=1e-4, atol=1e-6)
    assert (std > 0).all()
    mean, std = fitted.loo_predict(return_std=True)
    assert np.corrcoef(mean, Y)[0, 1] > 0.8


def test_an_interrupt_between_draws_leaves_the_mode(monkeypatch):
    def interrupted(modes):
        raise KeyboardInterrupt

    monkeypatch.setattr(integrated, "_draw", interrupted)
    with pytest.warns(match="interrupted"):
        model = make().fit(X, Y)
    assert model.fit_interrupted_
    assert not isinstance(model._fitted, IntegratedFit)
    assert np.isfinite(model.predict(NEW)).all()


def test_where_nothing_can_be_computed_around_a_mode_the_mode_stays(monkeypatch):
    draw = integrated._draw_around

    def fails(mode, *options):
        if mode.number in failing:
            raise torch.linalg.LinAlgError("not positive definite")
        return draw(mode, *options)

    monkeypatch.setattr(integrated, "_draw_around", fails)
    failing = {0, 1}
    model = make(kernel=["limit", MaternKernel(2.5)]).fit(X, Y)
    assert not isinstance(model._fitted, IntegratedFit)
    assert np.isfinite(model.predict(NEW, return_std=True)).all()
    failing = {0}
    model = make(kernel=["limit", MaternKernel(2.5)]).fit(X, Y)
    assert model.probability_.tolist() == [0, 1]


def test_all_weight_on_one_draw_leaves_one_member(monkeypatch):
    smoothed = integrated.Weights.smoothed

    def degenerate(ratios):
        ratios = np.asarray(ratios).copy()
        ratios[5] += 1e4
        return smoothed(ratios)

    monkeypatch.setattr(integrated.Weights, "smoothed", degenerate)
    model = make().fit(X, Y)
    assert len(model._fitted.posterior.members) == 1
    assert model.effective_draws_[0] == pytest.approx(1)
    assert np.isfinite(model.predict(NEW, return_std=True)).all()


def test_tabulated_parameters_stay_at_the_mode():
    model = make(activation="erf", max_iter=15).fit(X, Y)
    w = model._fitted.model.covar_module.base_kernel.weight_variance
    for member in model._fitted.posterior.members:
        torch.testing.assert_close(member.covar_module.base_kernel.weight_variance, w)


@pytest.mark.parametrize("y", [np.zeros(40), np.repeat([1.0, 2.0], 20)])
def test_constant_and_repeated_targets(y):
    model = make().fit(X, y)
    assert np.isfinite(model.predict(NEW, return_std=True)).all()


def test_other_inference_is_refused():
    with pytest.raises(ValueError, match='"laplace" needs exact inference'):
        make(inference="sparse").fit(X, Y)
