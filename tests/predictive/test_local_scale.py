import math

import numpy as np
import pytest
from scipy import stats

from resnet_gp.predictive.law import Law
from resnet_gp.predictive.local_scale import LocalScale


def shared_scales(n, m, nu, df, factor=1.0, seed=0):
    """Errors of neighbourhoods: each has a scale of its own, and its target heavy tails."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, m))
    scale = np.sqrt(nu / rng.chisquare(nu, n))
    z *= scale[:, None]
    z[:, -1] *= factor * np.sqrt(df / rng.chisquare(df, n))
    return z, scale


def z_score(values):
    return values.mean() / (values.std() / len(values) ** 0.5)


def test_the_formula():
    rng = np.random.default_rng(0)
    z = 3 * rng.normal(size=(6, 2, 33))
    scale = LocalScale(7.0, 1.3, 4.0)
    expected = np.empty((6, 2))
    for i in range(6):
        for q in range(2):
            squares = [min(value**2, 25.0) for value in z[i, q, -21:-1]]
            expected[i, q] = 1.3 * math.sqrt((7 + sum(squares)) / (7 + 20))
    np.testing.assert_allclose(scale.factors(z), expected, rtol=1e-13)
    few = scale.factors(z[..., -4:])
    first = 1.3 * math.sqrt((7 + np.minimum(z[0, 0, -4:-1] ** 2, 25).sum()) / 10)
    assert few[0, 0] == pytest.approx(first)


def test_its_law_is_a_scaled_student_law():
    rng = np.random.default_rng(0)
    mean, deviation, factors = rng.normal(size=5), rng.uniform(1, 2, 5), rng.uniform(0.5, 2, 5)
    law = LocalScale(7.0, 1.3, 4.0).law(Law.normal(mean, deviation), factors)
    y = rng.normal(size=5)
    expected = stats.t(4, mean, factors * deviation)
    np.testing.assert_allclose(law.log_density(y), expected.logpdf(y))
    np.testing.assert_allclose(law.quantile(np.array([0.05]))[:, 0], expected.ppf(0.05))
    np.testing.assert_allclose(law.std, expected.std())


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_the_fit_is_the_mode(outputs):
    rng = np.random.default_rng(1)
    z = rng.standard_t(3, (80, *outputs, 25))
    fitted = LocalScale.fit(z)

    def log_posterior(nu0, c, df):
        factors = LocalScale(nu0, c, df).factors(z)
        density = stats.t(df).logpdf(np.hypot(z[..., -1], 0.03) / factors) - np.log(factors)
        priors = stats.norm(math.log(50), 1.5), stats.norm(0, 0.2)
        prior = sum(p.logpdf(math.log(v)) for p, v in zip(priors, (nu0, c), strict=True))
        return density.sum() + prior + stats.gamma(2, scale=10).logpdf(df) + math.log(df)

    mode = np.array([fitted.nu0, fitted.c, fitted.df])
    best = log_posterior(*mode)
    for i in range(3):
        for factor in (0.97, 1.03):
            moved = mode.copy()
            moved[i] *= factor
            assert log_posterior(*moved) < best


def spikes(n, spread, seed):
    """Errors of neighbourhoods: most targets are predicted to ``spread``, others with error 1."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, 21)) < 0.6, spread, 1) * rng.normal(size=(n, 21))


@pytest.mark.parametrize("spread", [0.001, 0.005, 0.02, 0.1])
def test_intervals_hold_what_they_say_where_most_targets_repeat(spread):
    fitted, new = LocalScale.fit(spikes(1000, spread, seed=4)), spikes(4000, spread, seed=5)
    z, ones = new[:, -1], np.ones(4000)
    law = fitted.law(Law.normal(0 * ones, ones), fitted.factors(new))
    for level, tolerance in ((0.9, 0.02), (0.5, 0.05 if spread > 0.002 else 0.15)):
        low, high = law.interval(level)
        assert ((low <= z) & (z <= high)).mean() == pytest.approx(level, abs=tolerance)


def test_a_thousand_targets_are_told_apart_more_finely():
    z = spikes(1000, 0.001, seed=0)
    assert LocalScale.fit(z).ratio < 0.01
    assert LocalScale.fit(z[1:]).ratio > 0.015


def test_the_fit_recovers_the_law_of_simulated_errors():
    """Against the law that made them, no density is lost beyond what three parameters cost."""
    z, scale = shared_scales(4000, 21, nu=4, df=6, factor=1.2)
    fitted = LocalScale.fit(z)
    assert 1.0 < fitted.nu0 < 12
    assert 1.0 < fitted.c < 1.35
    assert 3.5 < fitted.df < 9
    new, scale = shared_scales(4000, 21, nu=4, df=6, factor=1.2, seed=1)
    y = new[:, -1]
    law = fitted.law(Law.normal(np.zeros(4000), 1.0), fitted.factors(new))
    truth = stats.t(6, 0, 1.2 * scale)
    assert z_score(law.log_density(y) - stats.norm.logpdf(y)) > 5
    assert law.log_density(y).mean() > truth.logpdf(y).mean() - 0.05
    assert stats.chisquare(np.histogram(law.cdf(y), 20, (0, 1))[0]).pvalue > 1e-3
    inside = np.mean((law.cdf(y) > 0.05) & (law.cdf(y) < 0.95))
    assert abs(inside - 0.9) / math.sqrt(0.09 / 4000) < 4


@pytest.mark.parametrize("seed", range(3))
def test_normal_errors_stay_nearly_normal(seed):
    z = np.random.default_rng(seed).normal(size=(2000, 30))
    fitted = LocalScale.fit(z)
    assert fitted.df > 15
    assert fitted.nu0 > 40
    assert abs(fitted.c - 1) < 0.06
    new = np.random.default_rng(seed + 100).normal(size=(4000, 30))
    law = fitted.law(Law.normal(np.zeros(4000), 1.0), fitted.factors(new))
    y = new[:, -1]
    assert (law.log_density(y) - stats.norm.logpdf(y)).mean() > -0.01


def test_one_wild_neighbour_is_clipped():
    z = np.zeros((2, 21))
    z[:, 3] = [5.0, 1e6]
    factors = LocalScale(10.0, 1.0, 5.0).factors(z)
    np.testing.assert_allclose(factors, math.sqrt(35 / 30))


def test_little_data_and_no_neighbours_give_the_normal_law():
    rng = np.random.default_rng(0)
    for z in (rng.normal(size=(9, 20)), rng.normal(size=(100, 1)), rng.normal(size=(4, 2, 20))):
        fitted = LocalScale.fit(z)
        assert fitted.is_normal
        np.testing.assert_array_equal(fitted.factors(z), np.ones(z.shape[:-1]))
    assert not LocalScale.fit(rng.normal(size=(5, 2, 20))).is_normal


def test_targets_without_errors_have_a_finite_law():
    fitted = LocalScale.fit(np.zeros((50, 20)))
    assert all(math.isfinite(value) and value > 0 for value in (fitted.nu0, fitted.c, fitted.df))
    assert not fitted.is_normal


@pytest.mark.parametrize("scale", [LocalScale(), LocalScale(0.1 + 0.2, 1 / 3, 2.7)])
def test_tensors_hold_it_to_the_bit(scale):
    other = {"n_neighbors": scale.tensors()["local_scale"][:1]}
    assert LocalScale.from_tensors(scale.tensors() | other) == scale
