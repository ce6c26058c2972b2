import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import approx_fprime

from resnet_gp.predictive import error_law
from resnet_gp.predictive.error_law import ErrorLaw, Errors, fit_errors
from resnet_gp.predictive.law import Law

TWO = ErrorLaw(5.0, 1.2, 6.0, share=0.3, shift=-1.5, ratio=0.2)


def standard(n):
    return Law.normal(np.zeros(n), 1.0)


def errors_of(z):
    """Errors of a standard normal model whose neighbours tell nothing."""
    return Errors(z[None], np.zeros(1), np.full(len(z), 20.0), 20)


def fitted(z, **options):
    return fit_errors(errors_of(z), **options)


def laws(law, n):
    return law.law(standard(n), np.full(n, law.c))


def z_score(values):
    return values.mean() / (values.std() / len(values) ** 0.5)


def half_are_zero(rng, n):
    """Errors of mean 0 where half of the targets are exactly zero, as a count's may be."""
    return np.where(rng.random(n) < 0.5, 0.0, rng.gamma(2.0, 0.7, n)) - 0.7


def flat(rng, n):
    return rng.uniform(-math.sqrt(3), math.sqrt(3), n)


def skewed(rng, n):
    return rng.exponential(1.0, n) - 1


@pytest.mark.parametrize("draw", [half_are_zero, flat, skewed])
@pytest.mark.parametrize("seed", range(2))
def test_two_parts_describe_what_one_does_not(draw, seed):
    rng = np.random.default_rng(seed)
    old, new = draw(rng, 1500), draw(rng, 4000)
    law, one = fitted(old), fitted(old, second_part=False)
    assert law.share > 0
    assert one.share == 0
    after, before = laws(law, len(new)), laws(one, len(new))
    assert z_score(after.log_density(new) - before.log_density(new)) > 5
    assert z_score(before.crps(new) - after.crps(new)) > 3
    low, high = after.interval(0.9)
    assert abs(np.mean((low < new) & (new < high)) - 0.9) < 0.06
    np.testing.assert_allclose(after.mean, 0, atol=1e-12)


def two_values(rng, n):
    return rng.choice([-1.0, 1.0], n) + 0.1 * rng.normal(size=n)


def three_values(rng, n):
    return 1.2 * rng.integers(-1, 2, n) + 0.1 * rng.normal(size=n)


@pytest.mark.parametrize("draw", [two_values, three_values, flat, half_are_zero])
@pytest.mark.parametrize("seed", range(2))
def test_few_starts_find_what_many_do(monkeypatch, draw, seed):
    z = draw(np.random.default_rng(seed), 120)
    law = fitted(z)
    assert law.share > 0
    many = np.random.default_rng(1).normal([-1, 0, 0], [1.5, 1, 2], (20, 3))
    monkeypatch.setattr(error_law, "_PART_STARTS", [*error_law._PART_STARTS, *many])
    density = [laws(one, len(z)).log_density(z).sum() for one in (law, fitted(z))]
    assert density[0] > density[1] - 5


@pytest.mark.parametrize("shape", [(1, 30), (3, 30), (3, 20, 2)])
@pytest.mark.parametrize("size", [3, 6])
def test_the_gradient_is_that_of_the_log_posterior(shape, size):
    rng = np.random.default_rng(0)
    log_density = rng.normal(size=(shape[0],) + (1,) * (len(shape) - 1))
    errors = Errors(rng.normal(size=shape), log_density, rng.chisquare(9, shape[1:]), 9)
    start = np.array([3.0, 0.1, 2.0, -0.5, -0.7, 1.2])[:size]
    gradient = error_law._log_posterior(errors, start)[1]

    def value(parameters):
        return error_law._log_posterior(errors, parameters)[0]

    np.testing.assert_allclose(gradient, approx_fprime(start, value, 1e-7), rtol=1e-4, atol=1e-4)


def test_errors_beyond_all_numbers_have_one_part():
    z = np.zeros(20)
    z[0] = 1e160
    assert fitted(z).share == 0


@pytest.mark.parametrize("df", [3.0, 10.0, math.inf])
@pytest.mark.parametrize("seed", range(3))
def test_student_errors_have_one_part(df, seed):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=1000) if math.isinf(df) else rng.standard_t(df, 1000)
    law = fitted(z)
    assert law.share == 0
    assert law == fitted(z, second_part=False)


def test_few_errors_have_one_part():
    """A skew that ten errors show may be chance."""
    rng = np.random.default_rng(0)
    assert [fitted(rng.exponential(1.0, 10) - 1).share for _ in range(10)].count(0.0) >= 9


def test_the_fit_is_the_mode():
    """Density and priors from scipy.stats."""
    rng = np.random.default_rng(0)
    z = half_are_zero(rng, 200)
    errors = errors_of(z)._replace(near=rng.chisquare(10, 200), weight=10)
    law = fit_errors(errors)

    def log_posterior(nu0, c, df, odds, ratio, shift):
        share = 1 / (1 + math.exp(-odds))
        scale = c * np.sqrt((nu0 + errors.near) / (nu0 + 10))
        density = 0
        for p, a, r in ((1 - share, -share * shift, 1), (share, (1 - share) * shift, ratio)):
            size = np.hypot(z - a * scale, 0.03) / (r * scale)
            density = density + p * stats.t(df).pdf(size) / (r * scale)
        priors = stats.norm(math.log(50), 1.5), stats.norm(0, 0.2), stats.norm(0, 1)
        prior = sum(p.logpdf(math.log(v)) for p, v in zip(priors, (nu0, c, ratio), strict=True))
        prior += stats.norm(-2, 1.5).logpdf(odds) + stats.norm(0, 1).logpdf(shift)
        return np.log(density).sum() + prior + stats.gamma(2, scale=10).logpdf(df) + math.log(df)

    nu0, c, df, share, shift, ratio = law.parameters
    mode = [nu0, c, df, math.log(share / (1 - share)), ratio, shift]
    best = log_posterior(*mode)
    for place in range(6):
        for step in (-0.03, 0.03):
            moved = list(mode)
            moved[place] = moved[place] + step if place in (3, 5) else moved[place] * (1 + step)
            assert log_posterior(*moved) < best


def test_the_law_is_a_mixture():
    rng = np.random.default_rng(0)
    normal = Law(rng.normal(size=(3, 5)), rng.uniform(1, 2, (3, 5)), rng.uniform(size=(3, 5)))
    factors, y = rng.uniform(0.5, 2, 5), rng.normal(size=5)
    law = TWO.law(normal, factors)
    scales = factors * normal.scales
    expected = 0
    for p, a, r in ((0.7, 0.45, 1.0), (0.3, -1.05, 0.2)):
        one = stats.t(6, normal.means + a * scales, r * scales)
        expected = expected + p * (normal.weights * one.pdf(y)).sum(0)
    np.testing.assert_allclose(law.log_density(y), np.log(expected), rtol=1e-10)
    np.testing.assert_allclose(law.mean, normal.mean, rtol=1e-12)


def test_deviations_count_both_parts():
    law = TWO.law(standard(1), np.full(1, 1.2))
    between = 0.3 * 0.7 * 1.5**2
    expected = 1.2 * math.sqrt((0.7 + 0.3 * 0.2**2) * 6 / 4 + between)
    assert law.std[0] == pytest.approx(expected, rel=1e-12)
    assert law.sample(200_000).std() == pytest.approx(expected, rel=0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 1e-9, 1.0, 1e3]), st.integers(10, 60))
def test_every_fit_is_finite(seed, size, n):
    rng = np.random.default_rng(seed)
    law = fitted(size * rng.choice([-1.0, 0.0, 2.0], n))
    assert all(math.isfinite(value) for value in law.parameters)
    assert law.df >= 2.5
    assert 0 <= law.share < 1
    assert law.c * law.ratio >= 0.001
    assert np.isfinite(laws(law, 3).log_density(np.zeros(3))).all()


def test_without_a_fit_the_law_is_that_of_the_model():
    law = ErrorLaw()
    assert law.is_normal
    normal = standard(3)
    after = law.law(normal, np.ones(3))
    np.testing.assert_array_equal(after.scales, normal.scales)
    assert math.isinf(after.df)
    assert not dataclasses.replace(law, df=5.0).is_normal
