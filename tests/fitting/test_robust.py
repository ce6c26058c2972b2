"""The second fit, in which outliers count less."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_gp import ResNetGPRegressor
from resnet_gp.fitting import robust
from resnet_gp.fitting.integrated import Integrated
from resnet_gp.fitting.optimiser import Outcome
from resnet_gp.models import ExactRegression
from resnet_gp.models.residual_posterior import ResidualPosterior

RNG = np.random.default_rng(0)
N, BAD = 120, 12
X = RNG.uniform(-2, 2, size=(N, 2))
TRUTH = np.sin(2 * X[:, 0]) + np.abs(X[:, 1])
CLEAN = TRUTH + 0.05 * RNG.normal(size=N)
SPOILED = CLEAN + np.where(np.arange(N) < BAD, RNG.choice([-2.0, 2.0], N), 0)
NEW = RNG.uniform(-2, 2, size=(200, 2))
NEW_TRUTH = np.sin(2 * NEW[:, 0]) + np.abs(NEW[:, 1])


def make(**options):
    options = {"hyperparameters": "map", "n_components": 1} | options
    return ResNetGPRegressor(verbose=False, **options)


def error(model):
    return np.sqrt(np.mean((model.predict(NEW) - NEW_TRUTH) ** 2))


@pytest.fixture(scope="module")
def first():
    """Fits with a Gaussian law have no second one."""
    return make(residuals="gaussian").fit(X, SPOILED)


@pytest.fixture(scope="module")
def fitted():
    return make().fit(X, SPOILED)


def test_outliers_count_less_and_the_function_is_found(first, fitted):
    assert first.robust_weights_ is None
    weights = fitted.robust_weights_
    assert weights.shape == (N,)
    assert weights[:BAD].max() < 0.3 < np.median(weights[BAD:])
    assert error(fitted) < 0.7 * error(first)
    assert fitted.noise_variance_ < 0.1 * first.noise_variance_


def test_weights_are_the_expected_precisions_of_student_noise(monkeypatch, fitted):
    monkeypatch.setattr(robust, "_HEAVY_TAILS", 0.0)
    before = make().fit(X, SPOILED)
    assert before.robust_weights_ is None
    posterior = before._fitted.posterior.with_one_part()
    law = posterior.leave_one_out_law()
    scale = law.scales[0]  # of one member
    df = posterior.residuals.df
    z = (SPOILED - before.loo_predict_law().mean) / (scale * SPOILED.std())
    np.testing.assert_allclose(fitted.robust_weights_, (df + 1) / (df + z**2), rtol=1e-6)


def test_laws_hold_what_new_targets_do(fitted):
    """Outliers come among new targets too: own weights would make their law too narrow."""
    rng = np.random.default_rng(1)
    spoiled = np.where(rng.random(200) < BAD / N, rng.choice([-2.0, 2.0], 200), 0)
    y = NEW_TRUTH + 0.05 * rng.normal(size=200) + spoiled
    low, high = fitted.predict_law(NEW).interval(0.9)
    assert 0.84 < np.mean((low < y) & (y < high)) < 0.96
    low, high = fitted.loo_predict_law().interval(0.9)
    assert 0.84 < np.mean((low < SPOILED) & (high > SPOILED)) < 0.96


def test_normal_noise_needs_no_second_fit():
    assert make().fit(X, CLEAN).robust_weights_ is None


def test_a_second_fit_that_is_no_better_is_not_kept(monkeypatch):
    monkeypatch.setattr(robust, "_HEAVY_TAILS", np.inf)
    assert make().fit(X, CLEAN).robust_weights_ is None
    monkeypatch.setattr(robust, "is_better", lambda first, second: True)
    monkeypatch.setattr(robust._HeldOut, "keeps_the_mean", True)
    assert make().fit(X, CLEAN).robust_weights_ is not None


def test_a_median_is_not_taken_for_a_mean(monkeypatch):
    """Where one target in six is larger, weights would predict the others."""
    rng = np.random.default_rng(2)
    y = 0.05 * rng.normal(size=N) + np.where(rng.random(N) < 1 / 6, rng.exponential(2, N), 0)
    assert make().fit(X, y).robust_weights_ is None
    monkeypatch.setattr(robust._HeldOut, "keeps_the_mean", True)
    assert make().fit(X, y).robust_weights_ is not None


@pytest.mark.parametrize(
    ("shift", "stretch", "keeps"), [(0, 1, True), (0.5, 0.8, False), (0, 1.1, False)]
)
def test_the_mean_is_kept_by_errors_without_bias_and_no_larger(shift, stretch, keeps):
    first = np.tile([-1.0, 1.0], 50)
    assert robust._HeldOut(first, stretch * first + shift, 1.0).keeps_the_mean is keeps
    assert robust._HeldOut(first, stretch * first - shift, 1.0).keeps_the_mean is keeps


def test_a_law_that_does_not_hold_what_it_says_is_not_kept(monkeypatch):
    monkeypatch.setattr(robust, "_LEAST_COVERED", 0.999)
    assert make().fit(X, SPOILED).robust_weights_ is None


def test_folds_are_held_out_with_weights_that_do_not_know_them(monkeypatch):
    """As by fits to the other rows, at the same hyperparameters."""
    calls, of = [], robust._HeldOut.of.__func__
    monkeypatch.setattr(
        robust._HeldOut, "of", classmethod(lambda cls, *a: calls.append(a) or of(cls, *a))
    )
    model = make().fit(X, SPOILED)
    [(first, second, df, stretch)] = calls
    found = of(robust._HeldOut, first, second, df, stretch)
    assert model.residual_law_.optimism == pytest.approx(
        found.optimism * np.exp(1.5 * 5 / (N + 5)), rel=1e-6
    )
    x, y = first.train_inputs[0], first.train_targets

    def part(model, rows, robust_weight=None):
        kernel = model.covar_module.base_kernel
        one = ExactRegression(x[rows], y[rows], kernel, None, None, robust_weight)
        one.covar_module.outputscale = model.covar_module.outputscale.detach()
        one.likelihood.noise = model.likelihood.noise.detach()
        return one.posterior()

    squares = np.empty((2, N))
    for fold in np.array_split(np.random.RandomState(0).permutation(N), 10):
        rest = np.setdiff1d(np.arange(N), fold)
        start = part(first, rest)
        mean, variance = start.leave_one_out()
        weights = (df + 1) / (df + (y[rest] - mean) ** 2 / (variance * stretch[rest]))
        unknowing = part(second, rest, weights)
        errors = [y[fold] - one.mean(x[fold]) for one in (start, unknowing)]
        np.testing.assert_allclose(found.first[fold], errors[0], rtol=1e-6)
        np.testing.assert_allclose(found.second[fold], errors[1], rtol=1e-6)
        knowing = part(second, rest, second.robust_weight[rest])
        for place, one in enumerate((knowing, unknowing)):
            law = one.law(x[fold])
            squares[place, fold] = np.minimum((y[fold].numpy() - law.mean) ** 2 / law.variance, 25)
    seem, are = squares.mean(1)
    assert found.optimism == pytest.approx(are / seem, rel=1e-6)
    assert found.optimism > 1


@pytest.mark.parametrize(
    ("options", "y"),
    [
        ({"hyperparameters": "fixed"}, SPOILED),
        ({"noise_variance": 0.01}, SPOILED),
        ({"hyperparameter_samples": 80}, SPOILED),
        ({"inference": "sparse", "n_inducing": 30, "max_iter": 3}, SPOILED),
        ({"inference": "nearest", "n_neighbors": 20, "max_iter": 3}, SPOILED),
        ({}, np.stack([SPOILED, -SPOILED], 1)),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_fits_have_no_weights(options, y):
    assert make(**options).fit(X, y).robust_weights_ is None


@pytest.mark.parametrize("options", [{}, {"hyperparameters": "laplace"}])
def test_files_and_further_rows(tmp_path, options):
    model = make(**options).fit(X, SPOILED, sample_weight=np.linspace(1, 2, N))
    assert model.robust_weights_ is not None
    model.save(tmp_path / "model")
    again = ResNetGPRegressor.load(tmp_path / "model")
    for one in (model, again):
        one.add_observations(NEW[:3], NEW_TRUTH[:3])
        assert one.robust_weights_[-3:].tolist() == [1, 1, 1]
    for ours, theirs in zip(
        [*model.predict(NEW, return_std=True), *model.loo_predict(return_std=True)],
        [*again.predict(NEW, return_std=True), *again.loo_predict(return_std=True)],
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("moment", ["first law", "one part", "fit", "law"])
def test_ctrl_c_leaves_the_first_fit(monkeypatch, moment):
    """In its law of residuals, before the second search, in it, or after it."""
    fit, weighed = Integrated.fit, []

    def interrupted(self, training, search, known=None):
        found = fit(self, training, search, known)
        if training.robust_weight is None:
            return found
        weighed.append(search.checkpoint)
        if moment == "law":
            raise KeyboardInterrupt
        return replace(found, result=replace(found.result, outcome=Outcome.INTERRUPTED))

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Integrated, "fit", interrupted)
    if moment == "one part":
        monkeypatch.setattr(ResidualPosterior, "with_one_part", stopped)
    if moment == "first law":
        monkeypatch.setattr(robust, "with_residual_law", stopped)
    with pytest.warns(UserWarning, match="the fit was interrupted"):
        model = make(hyperparameters="laplace").fit(X, SPOILED)
    assert weighed == ([] if moment in ("first law", "one part") else [None])
    assert model.robust_weights_ is None
    assert (model.residual_law_ is None) == (moment == "first law")
    assert np.isfinite(model.predict(NEW)).all()
    assert model.fit_interrupted_
    assert np.isfinite(model.predict(NEW)).all()


def test_weights_have_the_precision_of_the_fit():
    model = make(dtype="float32").fit(X, SPOILED)
    assert model.model_.robust_weight.dtype == torch.float32
    assert error(model) < 0.2
