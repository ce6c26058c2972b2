from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

import resnet_gp.bayes
from resnet_gp.predictive import Law

RNG = np.random.default_rng(0)
DFS = [2.3, 5.0, np.inf]


def member(mean, scale, df):
    return stats.norm(mean, scale) if np.isinf(df) else stats.t(df, mean, scale)


def mixture(df, members=6, points=(4,), seed=0):
    rng = np.random.default_rng(seed)
    size = (members, *points)
    return Law(rng.normal(size=size), rng.uniform(0.1, 2, size), rng.uniform(0, 1, size), df)


def reference_cdf(law, y, point):
    parts = member(law.means[:, point], law.scales[:, point], law.df)
    return float(law.weights[:, point] @ parts.cdf(y))


def test_it_has_one_home():
    assert resnet_gp.bayes.Law is Law


@pytest.mark.parametrize("df", DFS)
def test_cdf_and_density_are_those_of_the_members(df):
    law = mixture(df)
    y = RNG.normal(size=4)
    for i in range(4):
        parts = member(law.means[:, i], law.scales[:, i], df)
        assert law.cdf(y)[i] == pytest.approx(law.weights[:, i] @ parts.cdf(y[i]), rel=1e-13)
        density = np.log(law.weights[:, i] @ parts.pdf(y[i]))
        assert law.log_density(y)[i] == pytest.approx(density, rel=1e-12)
    np.testing.assert_array_equal(law.cdf(0.3), law.cdf(np.full(4, 0.3)))


@pytest.mark.parametrize("df", [5.0, np.inf])
def test_moments_are_those_of_draws(df):
    law = mixture(df)
    draws = law.sample(200_000, random_state=1)
    gaps = draws - law.mean
    for values, expected in ((gaps, np.zeros(4)), (gaps**2, law.variance)):
        error = values.std(0) / 200_000**0.5
        assert (np.abs(values.mean(0) - expected) < 4 * error).all()
    np.testing.assert_allclose(law.std**2, law.variance)


@pytest.mark.parametrize("df", DFS)
def test_draws_follow_the_law(df):
    law = mixture(df)
    pit = np.stack([law.cdf(draw) for draw in law.sample(2000, random_state=2)])
    for i in range(4):
        assert stats.kstest(pit[:, i], "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(law.sample(3), law.sample(3, random_state=0))
    assert not np.array_equal(law.sample(3), law.sample(3, random_state=1))


@pytest.mark.parametrize("df", DFS)
def test_one_law_is_itself(df):
    law = Law(np.full((1, 2, 3), 2.0), np.full((1, 2, 3), 0.5), df=df)
    one = member(2.0, 0.5, df)
    np.testing.assert_allclose(law.mean, 2.0)
    np.testing.assert_allclose(law.std, one.std())
    np.testing.assert_allclose(law.quantile(0.975), one.ppf(0.975))
    assert law.quantile([0.1, 0.2]).shape == (2, 3, 2)
    low, high = law.interval(0.8)
    np.testing.assert_allclose([low[0, 0], high[0, 0]], one.interval(0.8))


@pytest.mark.parametrize("df", DFS)
@pytest.mark.parametrize("level", [1e-12, 0.05, 0.5, 0.93, 1 - 1e-12])
def test_quantiles_invert_the_cdf(df, level):
    law = mixture(df, points=(50,))
    sign = 1 if level <= 0.5 else -1  # the lower tail of the mirrored law keeps its digits
    side = Law(sign * law.means, law.scales, law.weights, df)
    np.testing.assert_allclose(side.cdf(sign * law.quantile(level)), min(level, 1 - level), 1e-12)


@pytest.mark.parametrize("df", DFS)
def test_each_point_has_its_own_level(df):
    law = mixture(df, points=(4, 2))
    p = RNG.uniform(size=(4, 2))
    found = law.inverse_cdf(p)
    np.testing.assert_allclose(law.cdf(found), p, rtol=1e-12)
    levels = [law[i, k].quantile(p[i, k]) for i in range(4) for k in range(2)]
    np.testing.assert_allclose(found.ravel(), levels)
    np.testing.assert_array_equal(law[:2, 0].inverse_cdf([0, 1]), [-np.inf, np.inf])
    with pytest.raises(ValueError, match="p must be between 0 and 1"):
        law.inverse_cdf(1.1)


@given(
    means=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4),
    exponents=st.lists(st.floats(-12, 3), min_size=4, max_size=4),
    weights=st.lists(st.floats(1e-6, 1), min_size=4, max_size=4),
    level=st.floats(1e-9, 1 - 1e-9),
    df=st.sampled_from(DFS),
)
def test_quantiles_of_narrow_members_far_apart(means, exponents, weights, level, df):
    count = len(means)
    law = Law(
        np.array(means)[:, None],
        10.0 ** np.array(exponents[:count])[:, None],
        np.array(weights[:count]),
        df,
    )
    x = float(law.quantile(level)[0])
    slack = 4e-15 * max(abs(x), np.abs(means).max()) + 1e-13 * law.scales.max()
    assert law.cdf(x - slack)[0] <= level + 1e-12
    assert law.cdf(x + slack)[0] >= level - 1e-12


@pytest.mark.parametrize("df", DFS)
@pytest.mark.parametrize("level", [0.003, 0.5, 0.95])
def test_quantiles_of_members_that_are_narrow_beside_their_means(df, level):
    """Newton's steps at the edge of a plateau are below rounding, far from the quantile."""
    rng = np.random.default_rng(0)
    means, scales = 1e6 + 1e3 * rng.normal(size=(8, 500)), 10 ** rng.uniform(-12, 2, (8, 500))
    scales[rng.uniform(size=scales.shape) < 0.1] = 0
    law = Law(means, scales, rng.dirichlet(np.ones(8) * 0.3, size=500).T + 1e-200, df)
    x = law.quantile(level)
    assert (law.cdf(x - 4e-9) <= level * (1 + 1e-9)).all()
    assert (law.cdf(x + 4e-9) >= level * (1 - 1e-9)).all()


@pytest.mark.parametrize("df", DFS)
def test_crps_is_its_integral(df):
    law = mixture(df, members=3, points=(3,))
    y = RNG.normal(size=3)
    for i in range(3):
        cuts = [*np.sort([*law.means[:, i], y[i]])]
        edges = [-np.inf, *cuts, np.inf]
        expected = sum(
            quad(
                lambda x, i=i: (reference_cdf(law, x, i) - (x >= y[i])) ** 2,
                *ends, epsabs=1e-12, epsrel=1e-12, limit=200,
            )[0]
            for ends in pairwise(edges)
        )  # fmt: skip
        assert law.crps(y)[i] == pytest.approx(expected, abs=1e-9)


def test_crps_of_one_student_law():
    """Jordan, Krueger & Lerch 2019, appendix A."""
    from scipy.special import beta

    df, z = 3.7, np.array([-40.0, 0.0, 0.3, 2.0])
    t = stats.t(df)
    expected = (
        z * (2 * t.cdf(z) - 1)
        + 2 * t.pdf(z) * (df + z**2) / (df - 1)
        - 2 * df**0.5 / (df - 1) * beta(0.5, df - 0.5) / beta(0.5, df / 2) ** 2
    )
    law = Law.student(np.ones(4), 2.0, df)
    np.testing.assert_allclose(law.crps(1 + 2 * z), 2 * expected, rtol=1e-12)


def test_crps_of_one_normal_law():
    z = np.array([-40.0, 0.0, 0.3, 2.0])
    expected = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi**-0.5
    np.testing.assert_allclose(Law.normal(z * 0, 1).crps(z), expected, rtol=1e-12)


@pytest.mark.parametrize("df", DFS)
def test_no_density_at_infinity(df):
    law = mixture(df)
    for y in (-np.inf, np.inf):
        np.testing.assert_array_equal(law.log_density(y), np.full(4, -np.inf))
        np.testing.assert_allclose(law.cdf(y), np.full(4, float(y > 0)), rtol=1e-15)


@pytest.mark.parametrize("df", DFS)
def test_point_masses(df):
    law = Law(np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]]), np.array([0.25, 0.75]), df)
    other = member(1.0, 2.0, df)
    below = 0.75 * other.cdf(0)
    np.testing.assert_allclose(law.cdf(0.0), below + 0.25)
    np.testing.assert_allclose(law.cdf(-1e-300), below)
    assert law.log_density(0.0)[0] == np.inf
    np.testing.assert_allclose(law.log_density(0.5), np.log(0.75 * other.pdf(0.5)))
    np.testing.assert_allclose(law.quantile(below + 0.1), 0.0, atol=1e-14)
    np.testing.assert_allclose(law.quantile(below - 0.01), other.ppf((below - 0.01) / 0.75))
    alone = Law.student([3.0, 4.0], 0.0, df)
    np.testing.assert_array_equal(alone.quantile(0.1), [3, 4])
    np.testing.assert_array_equal(alone.log_density([3.0, 5.0]), [np.inf, -np.inf])
    np.testing.assert_array_equal(alone.crps([3.0, 6.0]), [0, 2])
    np.testing.assert_array_equal(alone.cdf([3.0, 3.9]), [1, 0])
    np.testing.assert_array_equal(alone.sample(2), [[3, 4]] * 2)


def test_members_without_weight_do_not_count():
    law = Law(np.array([[0.0], [1e9]]), np.ones((2, 1)), np.array([1, 0]), 4.0)
    one = Law.student([0.0], 1.0, 4.0)
    for method, argument in (("quantile", 0.9), ("log_density", 0.3), ("cdf", 0.3), ("crps", 0.3)):
        np.testing.assert_allclose(getattr(law, method)(argument), getattr(one, method)(argument))
    assert law.std == one.std
    assert (law.sample(100) < 1e6).all()


def test_weights_by_point_are_those_of_each_law():
    law = mixture(5.0, points=(3, 2))
    by_row = Law(law.means, law.scales, law.weights[:, :, 0], 5.0)
    for row in range(3):
        alone = Law(law.means[:, row], law.scales[:, row], law.weights[:, row, 0], 5.0)
        np.testing.assert_allclose(by_row[row].quantile(0.9), alone.quantile(0.9))
        np.testing.assert_allclose(by_row.mean[row], alone.mean)
    np.testing.assert_allclose(by_row[1:, 0].crps(0.2), by_row.crps(0.2)[1:, 0])
    assert by_row[[True, False, True]].shape == (2, 2)


def test_equal_weights_are_the_default():
    means = RNG.normal(size=(3, 2))
    np.testing.assert_allclose(Law(means, np.ones((3, 2))).weights, 1 / 3)
    np.testing.assert_allclose(Law(means, np.ones((3, 2)), np.full(3, 7.0)).weights, 1 / 3)


@pytest.mark.parametrize("df", DFS)
def test_other_units(df):
    law = mixture(df, points=(4, 2))
    shift, scale = np.array([1.0, -3.0]), np.array([2.0, 0.1])
    there = law.affine(shift, scale)
    y = RNG.normal(size=(4, 2))
    np.testing.assert_allclose(there.mean, law.mean * scale + shift)
    np.testing.assert_allclose(there.std, law.std * scale)
    np.testing.assert_allclose(there.quantile(0.2), law.quantile(0.2) * scale + shift)
    np.testing.assert_allclose(there.crps(y * scale + shift), law.crps(y) * scale)
    density = law.log_density(y) - np.log(scale)
    np.testing.assert_allclose(there.log_density(y * scale + shift), density)


def test_mixtures_of_mixtures():
    first, second = mixture(5.0, 2, seed=1), mixture(5.0, 3, seed=2)
    both = Law.mixture([first, second], [1, 3])
    np.testing.assert_allclose(both.cdf(0.4), 0.25 * first.cdf(0.4) + 0.75 * second.cdf(0.4))
    np.testing.assert_allclose(both.mean, 0.25 * first.mean + 0.75 * second.mean)
    equal = Law.mixture(iter([first, second]))
    np.testing.assert_allclose(equal.mean, (first.mean + second.mean) / 2)
    by_point = Law.mixture([first, second], [[1, 0, 1, 1], [0, 1, 1, 1]])
    np.testing.assert_allclose(by_point.mean[:2], [first.mean[0], second.mean[1]])
    for others in ([], [first, mixture(6.0)], [first, mixture(5.0, points=(5,))]):
        with pytest.raises(ValueError, match="laws must be"):
            Law.mixture(others)


def test_no_points():
    law = Law(np.zeros((3, 0)), np.ones((3, 0)), df=4)
    for values in (law.mean, law.std, law.cdf(0.0), law.crps(0.0), law.quantile(0.1)):
        assert values.shape == (0,)
    assert law.quantile([0.1, 0.2]).shape == (0, 2)
    assert law.sample(5).shape == (5, 0)


def test_slices_change_nothing(monkeypatch):
    law = mixture(5.0, points=(10,))
    whole = law.quantile([0.1, 0.9]), law.crps(0.3), law.cdf(0.2)
    monkeypatch.setattr("resnet_gp.predictive.law._SLICE", 18)
    parts = law.quantile([0.1, 0.9]), law.crps(0.3), law.cdf(0.2)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e170, 1e300])
def test_no_unit_overflows(unit):
    law = mixture(5.0)
    np.testing.assert_allclose(law.affine(0, unit).std / unit, law.std, rtol=1e-12)
    np.testing.assert_allclose(law.std**2, law.variance, rtol=1e-12)
    assert (Law(np.zeros((2, 3)), np.zeros((2, 3))).std == 0).all()
    np.testing.assert_allclose(
        law.affine(0, unit).quantile([0.1, 0.6]) / unit, law.quantile([0.1, 0.6]), rtol=1e-12
    )
    np.testing.assert_array_equal(
        Law(np.zeros((2, 3)), np.ones((2, 3)), [1e308, 1e308]).weights, 0.5
    )
    without = Law(np.zeros((2, 3)), np.array([[1.0] * 3, [1e250] * 3]), [1, 0])
    np.testing.assert_allclose(without.std, 1)


BAD = [
    ({"scales": np.ones((2, 4))}, "one shape"),
    ({"means": np.full((2, 3), np.nan)}, "means must be finite"),
    ({"scales": -np.ones((2, 3))}, "scales must be finite and not negative"),
    ({"df": 2.0}, "df must be above 2"),
    ({"df": np.nan}, "df must be above 2"),
    ({"weights": np.array([1, -1])}, "weights must be finite and not negative"),
    ({"weights": np.array([1, np.inf])}, "weights must be finite"),
    ({"weights": np.zeros(2)}, "weights must have a positive sum"),
    ({"weights": np.ones(3)}, r"weights of shape \(3,\) do not match means of shape \(2, 3\)"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_arguments_are_checked(change, message):
    good = {"means": np.zeros((2, 3)), "scales": np.ones((2, 3))}
    with pytest.raises(ValueError, match=message):
        Law(**(good | change))


def test_values_and_levels_are_checked():
    law = mixture(np.inf)
    with pytest.raises(ValueError, match=r"shape \(3,\) do not match predictions of shape \(4,\)"):
        law.log_density(np.zeros(3))
    for bad in (0.0, 1.0, np.nan, [[0.5]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            law.quantile(bad)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        law.interval(1.0)
    for bad in (1.5, -1):
        with pytest.raises(ValueError, match="n must be an integer of at least 0"):
            law.sample(bad)
    with pytest.raises(ValueError, match="scale must be positive"):
        law.affine(0, [1, 1, 0, 1])
