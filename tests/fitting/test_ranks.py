"""Ranks of skewed features as further inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata
from sklearn.preprocessing import QuantileTransformer

from resnet_gp.fitting.ranks import RankingStandardiser, skewed_columns
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.fitting.units import Units


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return np.stack(
        [
            rng.exponential(size=90),
            rng.normal(size=90),
            rng.poisson(0.7, 90),
            rng.lognormal(size=90),
        ],
        axis=1,
    )


def ranking(values, columns):
    return RankingStandardiser.add_to(Standardiser.of(values), values, columns)


class TestSkewedColumns:
    def test_long_tails_are_found(self):
        rng = np.random.default_rng(1)
        n = 3000
        columns = {
            "uniform": rng.uniform(size=n), "normal": rng.normal(size=n),
            "two values": (rng.random(n) < 0.02).astype(float), "constant": np.ones(n),
            "exponential": rng.exponential(size=n), "lognormal": rng.lognormal(size=n),
            "Cauchy": rng.standard_cauchy(n), "reflected": -rng.exponential(size=n),
        }  # fmt: skip
        found = skewed_columns(np.stack(list(columns.values()), axis=1))
        names = [list(columns)[i] for i in found]
        assert names == ["exponential", "lognormal", "Cauchy", "reflected"]

    def test_units_do_not_matter(self, values):
        shifted = 1e6 + values * [1e-3, 1e3, 1.0, 7.0]
        assert skewed_columns(shifted) == skewed_columns(values)


class TestRankingStandardiser:
    def test_inputs_are_the_features_and_then_their_ranks(self, values):
        scaler = ranking(values, [0, 3])
        inputs = scaler(values).numpy()
        assert inputs.shape == (90, 6)
        np.testing.assert_array_equal(inputs[:, :4], Standardiser.of(values)(values).numpy())
        for place, column in ((4, 0), (5, 3)):
            ranks = rankdata(values[:, column])
            expected = (ranks - ranks.mean()) / ranks.std()
            np.testing.assert_allclose(inputs[:, place], expected, atol=1e-9)

    def test_ties_and_quantiles_agree_with_scikit_learn(self):
        rng = np.random.default_rng(2)
        many = np.concatenate([rng.poisson(2.0, (500, 1)), rng.exponential(size=(500, 1))], axis=1)
        scaler = ranking(many, [0, 1])
        theirs = QuantileTransformer(n_quantiles=200, subsample=None).fit(many)
        expected = theirs.transform(many)
        found = scaler(many).numpy()[:, 2:] * scaler.ranks.scale + scaler.ranks.mean
        # At the least and the largest value, scikit-learn has 0 and 1 also where there are ties.
        inside = (many > many.min(0)).all(1) & (many < many.max(0)).all(1)
        assert inside.sum() > 300
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-9)

    def test_ranks_stay_within_the_training_values(self, values):
        scaler = ranking(values, [0])
        beyond = np.tile(values.mean(0), (2, 1))
        beyond[:, 0] = -1e3, 1e3
        at_ends = np.tile(values.mean(0), (2, 1))
        at_ends[:, 0] = values[:, 0].min(), values[:, 0].max()
        np.testing.assert_allclose(scaler(beyond)[:, 4], scaler(at_ends)[:, 4])
        assert scaler(beyond)[1, 0] > 100

    @settings(max_examples=50, deadline=None)
    @given(arrays(np.float64, st.integers(3, 40), elements=st.integers(-5, 5).map(float)))
    def test_ranks_rise_with_the_values(self, column):
        scaler = ranking(column[:, None], [0])
        grid = np.sort(np.concatenate([column, np.linspace(-6, 6, 60)]))[:, None]
        assert (np.diff(scaler(grid)[:, 1].numpy()) >= -1e-12).all()

    def test_gradients_are_those_of_differences(self, values):
        scaler = ranking(values, [0, 3])
        rng = np.random.default_rng(3)
        at = values[:20] + rng.uniform(0, 1e-3, (20, 4))
        weights = rng.normal(size=(20, 6, 2))  # of two outputs
        step, found = 1e-7, scaler.pull_back(weights, at)
        for j in range(4):
            moved = at.copy()
            moved[:, j] += step
            slope = (scaler(moved) - scaler(at)).numpy()[:, :, None] / step
            expected = (slope * weights).sum(1)
            near = np.isclose(found[:, j], expected, rtol=1e-4, atol=1e-4).all(1)
            assert near.mean() > 0.9  # a step may cross a quantile

    def test_lengthscales_add_up_by_inverse_squares(self, values):
        scaler = ranking(values, [1])
        found = scaler.lengthscale(np.array([1.0, 2.0, 3.0, 4.0, 2.0]))
        expected = scaler.scale * [1.0, 2**0.5, 3.0, 4.0]
        np.testing.assert_allclose(found, expected)


def test_units_survive_a_file(values):
    units = Units(ranking(values, [0, 2]), Standardiser.of(values[:, 1]))
    restored = Units.from_tensors(units.tensors())
    assert restored.ranked_columns == [0, 2]
    np.testing.assert_array_equal(restored.x(values), units.x(values))
    plain = Units(Standardiser.of(values), Standardiser.of(values[:, 1]))
    assert Units.from_tensors(plain.tensors()).ranked_columns == []
