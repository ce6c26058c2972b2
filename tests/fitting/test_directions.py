"""Inputs along the principal directions of a function's gradient."""

import numpy as np
import pytest
import torch

from resnet_gp.fitting.directions import DirectedStandardiser, gradient_directions
from resnet_gp.fitting.ranks import RankingStandardiser
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.fitting.units import Units


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return np.stack([rng.lognormal(size=60), 5 + 3 * rng.normal(size=60)], axis=1)


@pytest.fixture
def ranked(values):
    return RankingStandardiser.add_to(Standardiser.of(values), values, [0])


def turned(inner, k, seed=1):
    return DirectedStandardiser.along(inner, np.random.default_rng(seed).normal(size=(k, k)))


class TestDirectedStandardiser:
    def test_inputs_are_products(self, values, ranked):
        scaler = turned(ranked, 3)
        found = scaler(values).numpy()
        np.testing.assert_allclose(found, ranked(values).numpy() @ scaler.directions)

    @pytest.mark.parametrize("outputs", [(), (2,)])
    def test_gradients_are_those_of_differences(self, values, outputs):
        scaler = turned(Standardiser.of(values), 2)
        weights = np.random.default_rng(2).normal(size=(60, 2, *outputs))
        found = scaler.pull_back(weights, values)
        assert found.shape == weights.shape
        for j in range(2):
            step = np.zeros(2)
            step[j] = 1e-4
            slope = (scaler(values + step) - scaler(values)).numpy() / 1e-4
            expected = np.einsum("nk,nk...->n...", slope, weights)
            np.testing.assert_allclose(found[:, j], expected, rtol=1e-6, atol=1e-6)

    def test_lengthscales_are_those_along_each_feature(self, values):
        scaler, lengthscale = turned(Standardiser.of(values), 2), np.array([0.5, 3.0])
        found = scaler.lengthscale(lengthscale)
        for j in range(2):
            step = np.zeros((1, 2))
            step[0, j] = found[j]
            moved = (scaler(values[:1] + step) - scaler(values[:1])).numpy() / lengthscale
            assert np.linalg.norm(moved) == pytest.approx(1)

    def test_directions_of_the_features_change_nothing(self, values, ranked):
        same = DirectedStandardiser.along(ranked, np.eye(3))
        np.testing.assert_array_equal(same(values), ranked(values))
        lengthscale = np.array([1.0, 2.0, 3.0])
        expected = ranked.lengthscale(lengthscale)
        np.testing.assert_allclose(same.lengthscale(lengthscale), expected)

    def test_units_survive_a_file(self, values, ranked):
        units = Units(turned(ranked, 3), Standardiser.of(values[:, 1]))
        restored = Units.from_tensors(units.tensors())
        assert restored.ranked_columns == [0]
        np.testing.assert_array_equal(restored.directions, units.directions)
        np.testing.assert_array_equal(restored.x(values), units.x(values))
        plain = Units(Standardiser.of(values), Standardiser.of(values[:, 1]))
        assert Units.from_tensors(plain.tensors()).directions is None


class Linear:
    """A posterior whose mean has these gradients everywhere, one for each output."""

    def __init__(self, *gradients):
        self._gradients = torch.tensor(gradients, dtype=torch.float64).T

    def gradient(self, x, with_variance):
        assert not with_variance
        found = self._gradients.expand(len(x), *self._gradients.shape)
        return (found if found.shape[2] > 1 else found[..., 0]), None


class TestGradientDirections:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()

    def test_the_steepest_direction_is_first_and_inputs_have_variance_one(self):
        directions = gradient_directions(Linear([3.0, 4.0, 0.0]), self.x)
        first = directions[:, 0] / np.linalg.norm(directions[:, 0])
        np.testing.assert_allclose(np.abs(first), [0.6, 0.8, 0.0], atol=1e-12)
        np.testing.assert_allclose((self.x.numpy() @ directions).std(0), 1)

    def test_outputs_are_added_up(self):
        directions = gradient_directions(Linear([3.0, 4.0, 0.0], [0.0, 0.0, 9.0]), self.x)
        first = directions[:, 0] / np.linalg.norm(directions[:, 0])
        np.testing.assert_allclose(np.abs(first), [0.0, 0.0, 1.0], atol=1e-12)

    def test_collinear_inputs_are_not_blown_up(self):
        x = torch.cat([self.x, self.x[:, :1] * (1 + 1e-15)], dim=1)
        x[:, 1] = 0.0  # a constant feature
        directions = gradient_directions(Linear([1.0, 1.0, 0.0, 1.0]), x)
        assert np.isfinite(directions).all()
        assert np.abs(directions).max() <= 1000

    def test_a_constant_mean_has_none(self):
        assert gradient_directions(Linear([0.0, 0.0, 0.0]), self.x) is None
