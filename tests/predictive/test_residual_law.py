import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnet_gp.predictive import Law, ResidualLaw, residual_law
from resnet_gp.predictive.residual_law import kernel_distances, neighbour_rows


def squared_distances(a, b):
    return ((a[:, None] - b) ** 2).sum(-1)


def simulated(n, noise, seed=0, new=4000):
    """Residual law of targets ``noise(rng, x)`` that a standard normal law predicts."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n + new, 2))
    y = noise(rng, x)
    old, later = x[:n], x[n:]
    fitted = ResidualLaw.fit(y[:n], standard(n), squared_distances(old, old))
    return fitted, at(fitted, standard(new), squared_distances(later, old)), y[n:], later


def at(law, normal, distances):
    """The law at new points."""
    return law.scaled(normal, law.local_scale(distances))


def left_out(law, normal, distances, pairs=None):
    """The law of each training target given the others."""
    return law.scaled(normal, law.local_scale_left_out(distances, pairs))


def standard(n, outputs=()):
    return Law.normal(np.zeros((n, *outputs)), 1.0)


def gains(law, y):
    """Log density over that of the standard normal law."""
    return law.log_density(y) - standard(len(y)).log_density(y)


def z_score(values):
    return values.mean() / (values.std() / len(values) ** 0.5)


def is_uniform(probabilities, bins=20):
    return stats.chisquare(np.histogram(probabilities, bins, (0, 1))[0]).pvalue > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_normal_residuals_keep_their_law(seed):
    law, new, y, _ = simulated(2000, lambda rng, x: rng.normal(size=len(x)), seed)
    assert law.df > 15
    assert 0.92 < law.c < 1.02
    scale = law.local_scale_left_out(np.random.default_rng(seed).uniform(size=(2000, 2000)))
    assert 0.9 < scale.min() < scale.max() < 1.15
    assert is_uniform(new.cdf(y))
    assert gains(new, y).mean() > -0.01


def test_heavy_tails():
    law, new, y, _ = simulated(1000, lambda rng, x: rng.standard_t(4, len(x)))
    assert 3 < law.df < 6
    assert 0.9 < law.c < 1.1
    assert z_score(gains(new, y)) > 4
    assert is_uniform(new.cdf(y))


def test_noise_that_grows_along_an_input():
    law, new, y, x = simulated(1000, lambda rng, x: np.exp(1.5 * x[:, 0]) * rng.normal(size=len(x)))
    assert law.nu0 < 5
    assert np.corrcoef(np.log(new.scales[0]), x[:, 0])[0, 1] > 0.9
    assert z_score(gains(new, y)) > 5
    tails_alone = at(dataclasses.replace(law, nu0=1e12), standard(len(y)), np.ones((len(y), 1000)))
    assert z_score(new.log_density(y) - tails_alone.log_density(y)) > 5


def test_the_formula():
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(30, 3)), rng.normal(size=(5, 3))
    law = ResidualLaw(3.0, 1.2, 5.0, squares=rng.uniform(0, 25, 30))
    expected = []
    for point in new:
        distance = np.linalg.norm(x - point, axis=1)
        order = np.argsort(distance)
        weight = 1 - (distance[order[:20]] / distance[order[20]]) ** 2
        near = weight @ law.squares[order[:20]]
        expected.append(math.sqrt((3 + near) / (3 + weight.sum())))
    distances = squared_distances(new, x)
    np.testing.assert_allclose(law.local_scale(distances), expected, rtol=1e-12)
    before = Law(rng.normal(size=(2, 5)), rng.uniform(1, 2, (2, 5)), rng.uniform(size=(2, 5)))
    after = at(law, before, distances)
    np.testing.assert_array_equal(after.means, before.means)
    np.testing.assert_allclose(after.weights, before.weights)
    np.testing.assert_allclose(after.scales, 1.2 * np.array(expected) * before.scales)


def test_a_row_is_not_its_own_neighbour():
    """Its leave-one-out scale is that of a law without the row at a new point in its place."""
    rng = np.random.default_rng(0)
    x, squares = rng.normal(size=(40, 2)), rng.uniform(0, 25, 40)
    law = ResidualLaw(2.0, 1.0, 5.0, squares=squares)
    found = law.local_scale_left_out(squared_distances(x, x))
    for i in range(40):
        others = np.delete(np.arange(40), i)
        without = ResidualLaw(2.0, 1.0, 5.0, squares=squares[others])
        expected = without.local_scale(squared_distances(x[i : i + 1], x[others]))
        np.testing.assert_allclose(found[i], expected[0], rtol=1e-12)


def test_the_fit_leaves_out_own_residuals():
    """Normal residuals say nothing about each other; with their own, they would."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 2)), rng.normal(size=500)
    assert ResidualLaw.fit(y, standard(500), squared_distances(x, x)).nu0 > 20
    own = np.tile(y, (500, 1))
    own[:] = y[:, None]  # every neighbour has the residual of the row
    assert ResidualLaw.fit(y, standard(500), squared_distances(x, x), own).nu0 < 1


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_the_fit_is_the_mode(outputs):
    """Density and priors from scipy.stats, for a mixture with weights that depend on the row."""
    rng = np.random.default_rng(0)
    n, size = 60, (3, 60, *outputs)
    x, y = rng.normal(size=(n, 2)), rng.standard_t(3, (n, *outputs))
    left_out = Law(rng.normal(0, 0.3, size), rng.uniform(0.5, 1.5, size), rng.uniform(size=size))
    distances = squared_distances(x, x)
    law = ResidualLaw.fit(y, left_out, distances)
    z = (y - left_out.mean) / left_out.std
    np.testing.assert_allclose(law.squares, np.minimum(z**2, 25))

    def log_posterior(nu0, c, df):
        scale = dataclasses.replace(law, nu0=nu0).local_scale_left_out(distances)
        size = np.hypot((y - left_out.means) / left_out.scales, 0.03)
        members = stats.t(df).pdf(size / (c * scale)) / (c * scale * left_out.scales)
        density = np.log((left_out.weights * members).sum(0)).sum()
        priors = stats.norm(math.log(50), 1.5), stats.norm(0, 0.2)
        prior = sum(p.logpdf(math.log(v)) for p, v in zip(priors, (nu0, c), strict=True))
        return density + prior + stats.gamma(2, scale=10).logpdf(df) + math.log(df)

    mode = np.array([law.nu0, law.c, law.df])
    best = log_posterior(*mode)
    for step in np.concatenate([np.eye(3), -np.eye(3)]) * 0.05:
        assert log_posterior(*mode * np.exp(step)) < best


def test_deviations_count_the_tails():
    law = ResidualLaw(1.0, 0.5, 3.0, squares=np.full(30, 4.0))
    distances = np.random.default_rng(0).uniform(size=(6, 30))
    new = at(law, Law.normal(np.zeros(6), 2.0), distances)
    np.testing.assert_allclose(new.std, 0.5 * law.local_scale(distances) * 2 * math.sqrt(3))


@pytest.mark.parametrize("n", [1, 2, 9])
def test_fewer_than_ten_rows_stay_normal(n):
    rng = np.random.default_rng(0)
    law = ResidualLaw.fit(9 * rng.normal(size=n), standard(n), np.ones((n, n)))
    assert law.is_normal
    before = Law.normal(rng.normal(size=4), 1.3)
    after = at(law, before, rng.uniform(size=(4, n)))
    assert after.df == math.inf
    np.testing.assert_array_equal(after.scales, before.scales)
    np.testing.assert_array_equal(law.local_scale_left_out(np.ones((n, n))), 1)


@pytest.mark.parametrize("seed", range(5))
def test_little_data_changes_little(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 2))
    law = ResidualLaw.fit(rng.normal(size=12), standard(12), squared_distances(x, x))
    assert not law.is_normal
    assert 0.7 < law.c < 1.3
    assert law.df > 10
    scale = law.local_scale_left_out(squared_distances(x, x))
    assert 0.85 < scale.min() < scale.max() < 1.25


@pytest.mark.parametrize("residual", [0.0, 1e-9, 1e3])
@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_constant_residuals_and_coincident_rows(residual, apart):
    n = 200
    law = ResidualLaw.fit(np.full(n, residual), standard(n), apart * (1 - np.eye(n)))
    new = at(law, standard(3), np.full((3, n), apart))
    assert np.isfinite(new.log_density(np.full(3, residual))).all()
    assert (new.scales >= 0.001).all()


def test_repeated_targets_leave_other_rows_alone():
    """Half of the rows are predicted exactly, the others with normal errors."""

    def noise(rng, x):
        return np.where(x[:, 0] < 0, 0.0, rng.normal(size=len(x)))

    law, new, y, x = simulated(600, noise)
    assert 0.9 < law.c < 1.1
    quiet, loud = (new.scales[0][side] for side in (x[:, 0] < -0.3, x[:, 0] > 0.3))
    assert 0.001 <= quiet.min() < np.median(quiet) < 0.05
    assert 0.85 < np.median(loud) < 1.15
    low, high = new.interval(0.9)
    inside = ((low <= y) & (y <= high))[x[:, 0] > 0.3]
    assert 0.85 < inside.mean() < 0.95


def test_coincident_neighbours_share_the_weight_of_k():
    law = ResidualLaw(5.0, 1.0, 5.0, squares=np.arange(30.0) / 2)
    distances = np.concatenate([np.zeros((1, 25)), np.ones((1, 5))], 1)
    expected = (5 + 20 * law.squares[:25].mean()) / 25
    np.testing.assert_allclose(law.local_scale(distances) ** 2, expected)


def test_outputs_have_scales_of_their_own():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2))
    y = rng.normal(size=(400, 2)) * np.exp(1.5 * np.stack([x[:, 0], -x[:, 0]], 1))
    distances = squared_distances(x, x)
    law = ResidualLaw.fit(y, standard(400, (2,)), distances)
    scale = law.local_scale(distances)
    assert np.corrcoef(np.log(scale).T)[0, 1] < -0.8
    for output in range(2):
        alone = dataclasses.replace(law, squares=law.squares[:, output])
        np.testing.assert_allclose(alone.local_scale(distances), scale[:, output], rtol=1e-12)
    assert at(law, standard(400, (2,)), distances).shape == (400, 2)
    twice = ResidualLaw.fit(y[:, [0, 0]], standard(400, (2,)), distances)
    once = ResidualLaw.fit(y[:, 0], standard(400), distances)
    assert twice.nu0 < once.nu0  # twice the data, one prior
    np.testing.assert_array_equal(twice.squares[:, 0], once.squares)


def test_optimism_of_optimised_hyperparameters():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, 2)), rng.normal(size=1000)
    distances = squared_distances(x, x)
    plain = ResidualLaw.fit(y, standard(1000), distances)
    wider = ResidualLaw.fit(y, standard(1000), distances, hyperparameters=250)
    factor = math.exp(1.5 * 250 / 1250)
    assert wider.optimism == pytest.approx(factor)
    np.testing.assert_allclose(wider.squares, np.minimum(factor * y**2, 25))
    typical = [np.median(at(law, standard(1000), distances).scales) for law in (plain, wider)]
    assert typical[1] / typical[0] == pytest.approx(math.sqrt(factor), rel=0.03)


def test_pairs_take_the_place_of_left_out_residuals():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 2)), rng.normal(size=50)
    distances = squared_distances(x, x)
    plain = ResidualLaw.fit(y, standard(50), distances, hyperparameters=3)
    pairs = np.tile(y, (50, 1))
    same = ResidualLaw.fit(y, standard(50), distances, pairs, hyperparameters=3)
    assert (same.nu0, same.c, same.df) == pytest.approx((plain.nu0, plain.c, plain.df), rel=1e-4)
    expected = left_out(plain, standard(50), distances).scales
    found = left_out(plain, standard(50), distances, pairs).scales
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (plain.local_scale_left_out(distances, 2 * pairs) > expected[0] / plain.c).all()


def test_no_jumps():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (100, 2))
    law = ResidualLaw(0.5, 1.0, 5.0, squares=rng.uniform(0, 25, 100))
    line = np.linspace([-1, -0.3], [1, 0.4], 20_001)
    steps = np.abs(np.diff(law.local_scale(squared_distances(line, x))))
    assert steps.max() < 0.002


@settings(max_examples=20)
@given(st.integers(0, 100), st.floats(-150, 150))
def test_the_unit_of_distances_does_not_matter(seed, exponent):
    rng = np.random.default_rng(seed)
    law = ResidualLaw(2.0, 1.0, 5.0, squares=rng.uniform(0, 25, 40))
    distances = rng.uniform(size=(7, 40))
    scale = law.local_scale(distances)
    np.testing.assert_allclose(law.local_scale(distances * 10**exponent), scale, rtol=1e-9)
    assert ((scale**2 >= 2 / 22) & (scale**2 <= (2 + 20 * 25) / 22)).all()


def test_slices_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    law = ResidualLaw(2.0, 1.0, 5.0, squares=rng.uniform(0, 25, (40, 2)))
    distances, pairs = rng.uniform(size=(40, 40)), rng.normal(size=(40, 40, 2))
    before = law.local_scale(distances), law.local_scale_left_out(distances, pairs)
    monkeypatch.setattr(residual_law, "_SLICE", 130)
    after = law.local_scale(distances), law.local_scale_left_out(distances, pairs)
    np.testing.assert_allclose(after, before, rtol=1e-13)
    kept = distances.copy()
    law.local_scale_left_out(distances)
    np.testing.assert_array_equal(distances, kept)


@pytest.mark.parametrize("n", [5, 50])
def test_files(n):
    rng = np.random.default_rng(0)
    law = ResidualLaw.fit(
        rng.normal(size=n), standard(n), rng.uniform(size=(n, n)), hyperparameters=2
    )
    again = ResidualLaw.from_tensors(law.tensors() | {"other": None})
    assert (again.parameters, again.optimism) == (law.parameters, law.optimism)
    np.testing.assert_array_equal(again.squares, law.squares)


def test_rows_that_serve_as_neighbours():
    np.testing.assert_array_equal(neighbour_rows(5000), np.arange(5000))
    rows = neighbour_rows(20_000)
    assert len(rows) == 5000
    assert (np.diff(rows) > 0).all()
    assert rows.min() >= 0
    assert rows.max() < 20_000
    np.testing.assert_array_equal(neighbour_rows(20_000), rows)


def test_distances_of_a_kernel():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    a[0] = 0
    norms = [(part**2).sum(1) for part in (a, b)]
    found = kernel_distances(a @ b.T, *norms)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (a[1:], b)]
    np.testing.assert_allclose(found[1:], squared_distances(*unit), rtol=1e-12)
    np.testing.assert_array_equal(found[0], 2)
    own = kernel_distances(b @ b.T, norms[1], norms[1])
    assert own.min() >= 0


@pytest.mark.parametrize("precision", [np.float64, np.float32])
def test_points_that_are_the_same_have_no_distance(precision):
    """Whatever their covariances' rounding errors."""
    b = np.random.default_rng(0).normal(size=(200, 3)).astype(precision)
    cross, norms = (b @ b.T).astype(np.float64), (b * b).sum(1).astype(np.float64)
    found = kernel_distances(cross, norms, norms, float(np.finfo(precision).eps))
    assert not found.diagonal().any()
    assert (found == 0).mean() < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(11)}, "y of shape"),
        ({"y": np.full(12, np.nan)}, "y must be finite"),
        ({"left_out": Law.student(np.zeros(12), 1.0, 4.0)}, "left_out must be normal"),
        ({"left_out": Law.normal(np.zeros(12), 0.0)}, "positive scales"),
        ({"squared_distances": np.zeros((12, 11))}, "squared_distances must be 12 x 12"),
        ({"squared_distances": np.full((12, 12), -1.0)}, "not negative"),
        ({"squared_distances": np.full((12, 12), np.nan)}, "finite"),
        ({"pairs": np.zeros((12, 11))}, "pairs must be"),
        ({"hyperparameters": -1}, "hyperparameters must be"),
    ],
)
def test_arguments_are_checked(change, message):
    arguments = {
        "y": np.zeros(12),
        "left_out": standard(12),
        "squared_distances": np.ones((12, 12)),
    }
    with pytest.raises(ValueError, match=message):
        ResidualLaw.fit(**(arguments | change))


def test_new_points_are_checked():
    law = ResidualLaw(1.0, 1.0, 5.0, squares=np.ones(12))
    with pytest.raises(ValueError, match="squared_distances must be m x 12"):
        law.local_scale(np.ones((3, 11)))
    with pytest.raises(ValueError, match="does not match local scales"):
        at(law, standard(4), np.ones((3, 12)))
    with pytest.raises(ValueError, match="law must be normal"):
        at(law, Law.student(np.zeros(3), 1.0, 5.0), np.ones((3, 12)))


def test_it_shows_its_parameters_but_not_the_rows():
    law = ResidualLaw(5.0, 1.1, 4.0, squares=np.arange(1000.0))
    assert repr(law).startswith("ResidualLaw(nu0=5.0, c=1.1, df=4.0")
    assert "squares" not in repr(law)
