"""The series of one standard law, against scipy and against quadrature."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from resnet_gp.predictive.student import Differences, difference_excess, mills_ratio, standard

DFS = [2.01, 2.5, 3.0, 5.7, 30.0, 1e3, 1e7, 1e15]


@pytest.mark.parametrize("df", [*DFS, np.inf])
def test_distribution_and_density(df):
    law, z = standard(df), np.array([-1e4, -40.0, -3.0, -0.1, 0.0, 1e-9, 0.5, 8.0])
    with mpmath.workdps(50):

        def density(u):
            if np.isinf(df):
                return mpmath.npdf(u)
            half = mpmath.mpf(df) / 2
            height = mpmath.gammaprod([half + 0.5], [half]) / mpmath.sqrt(2 * half * mpmath.pi)
            return height * (1 + u**2 / (2 * half)) ** (-half - 0.5)

        below, height = law.cdf_and_density(z)
        for k, u in enumerate(z):
            assert height[k] == pytest.approx(float(density(mpmath.mpf(u))), rel=1e-11, abs=0)
            if df < 1e5:  # mpmath's beta function
                x = mpmath.mpf(df) / (mpmath.mpf(df) + mpmath.mpf(u) ** 2)
                tail = mpmath.betainc(df / 2, 0.5, 0, x, regularized=True) / 2
                expected = float(tail if u <= 0 else 1 - tail)
                assert below[k] == pytest.approx(expected, rel=1e-11, abs=0)
    if df >= 1e15:
        np.testing.assert_allclose(below, stats.norm.cdf(z), rtol=1e-11)
    np.testing.assert_array_equal(law.cdf(np.array([-np.inf, np.inf])), [0, 1])


@pytest.mark.parametrize("df", [*DFS, np.inf])
def test_quantiles_from_the_far_tail_to_the_middle(df):
    law = standard(df)
    p = np.array([1e-300, 1e-200, 1e-60, 1e-10, 0.01, 0.3, 0.4999])
    np.testing.assert_allclose(law.cdf(law.quantile(p)), p, rtol=1e-12)
    np.testing.assert_allclose(law.quantile(1 - p[3:]), -law.quantile(p[3:]), rtol=1e-6)


@pytest.mark.parametrize("df", [*DFS, np.inf])
def test_mean_distance_is_its_integral(df):
    law = standard(df)
    for shift, scale in ((0.0, 1.0), (1.3, 0.4), (-1.0, 5.0), (3.0, 0.0)):
        found = law.mean_distance(np.array([shift]), np.array([scale]))[0]
        if scale == 0:
            assert found == abs(shift)
            continue

        def outside(t, shift=shift, scale=scale):  # E|X| is the integral of P(|X| > t)
            return law.cdf((np.array([shift - t, -shift - t])) / scale).sum()

        expected = quad(outside, 0, 10, epsabs=1e-13, limit=200)[0]
        expected += quad(outside, 10, np.inf, epsabs=1e-13, limit=400)[0]
        assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("df", DFS)
def test_mean_differences_are_those_of_their_quadrature(df):
    rng = np.random.default_rng(1)
    distance = np.concatenate([[0, 0, 0], rng.uniform(0, 5, 300), 10 ** rng.uniform(-3, 5, 300)])
    mean = np.concatenate([[0, 0.5, 0.3], rng.uniform(0, 1, 600) ** 4 / 2])
    found = Differences(df)(distance, mean) - distance
    tolerance = 2e-9 if df < 2.5 else 1e-10
    np.testing.assert_allclose(found, difference_excess(distance, mean, df), rtol=0, atol=tolerance)


@pytest.mark.parametrize("df", [2.5, 7.0, 500.0])
def test_that_quadrature_is_the_integral_over_both(df):
    """E|d + s T - (1 - s) T'| is the mean over T' of the closed form for T."""
    law = standard(df)
    for d, s in ((0.0, 0.5), (0.4, 0.01), (0.7, 0.8), (3.0, 1.0)):
        found = difference_excess(np.array([d]), np.sqrt(np.array([s * (1 - s)])), df)[0] + d

        def given(t, d=d, s=s):
            inner = law.mean_distance(np.array([d - (1 - s) * t]), np.array([s]))[0]
            return inner * np.exp(law.log_density(np.array([t])))[0]

        pieces = [-np.inf, -10, 0, 10, np.inf]
        expected = sum(
            quad(given, *ends, epsabs=1e-12, epsrel=1e-11, limit=300)[0]
            for ends in pairwise(pieces)
        )
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("df", [2.5, 7.0, np.inf])
def test_mean_differences_by_location_and_scale(df):
    law = standard(df)
    shift = np.array([0.0, 2.0, -2.0, 3.0, 3.0, 0.0])
    first, second = np.array([[1, 3, 0.1, 0, 2, 0], [1, 0.1, 3, 0, 0, 0]], dtype=float)
    found = law.mean_difference(shift, first, second)
    np.testing.assert_allclose(found, law.mean_difference(-shift, second, first))
    assert found[1] == pytest.approx(found[2])
    assert found[0] == pytest.approx(law.self_difference, rel=1e-9)
    assert found[3] == 3
    assert found[4] == pytest.approx(law.mean_distance(shift[4:5], first[4:5])[0], rel=1e-8)
    assert found[5] == 0


def test_mills_ratio_of_the_cauchy_like_tail():
    """At large z it is z / df."""
    np.testing.assert_allclose(mills_ratio(np.array([1e9]), 3.0), 1e9 / 3, rtol=1e-13)
