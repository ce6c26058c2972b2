import math

import numpy as np
import pytest
import torch
from scipy import stats

from resnet_gp.networks import ResNet, Simulation, simulate
from resnet_gp.verification.fluctuations import scaled_variance
from resnet_gp.verification.required_size import THEORY, Constants, required_depth, required_width


def error(n, L, constants=THEORY):
    return math.sqrt(constants.width**2 / n + (constants.depth / L) ** 2)


@pytest.mark.parametrize("tolerance", [0.1, 0.03, 0.01])
def test_both_free(tolerance):
    width, depth = required_width(tolerance), required_depth(tolerance)
    assert error(width.size, depth.size) <= tolerance
    assert error(width.size - 2, max(1, depth.size - 1)) > tolerance


def test_one_given_is_the_least():
    n, L = required_width(0.05, depth=10).size, required_depth(0.05, width=10_000).size
    assert error(n, 10) <= 0.05 < error(n - 1, 10)
    assert error(10_000, L) <= 0.05 < error(10_000, L - 1)


def test_it_scales_with_the_input():
    assert required_width(0.3, input_variance=3.0) == required_width(0.1)


def test_own_constants_and_the_source():
    own = Constants(1.0, 0.1, "a fit")
    assert required_width(0.1, constants=own).size == 200
    assert str(required_depth(0.1, constants=own)) == "2 (a fit)"
    assert "resnet-gp verify --experiments roles" in str(required_width(0.1))


def test_constant_of_the_width_is_that_of_the_theory():
    coarse, fine = (math.sqrt(scaled_variance(depth)) for depth in (16, 32))
    assert THEORY.width == pytest.approx(2 * fine - coarse, abs=2e-3)


def test_networks_of_the_recommended_size():
    """Their mean squared error is at most the squared tolerance, up to noise."""
    tolerance, networks = 0.1, 1000
    size = ResNet(required_width(tolerance).size, required_depth(tolerance).size)
    one = Simulation(
        "q",
        size,
        torch.ones(1, 1),
        networks,
        lambda depth, y: (y.square().mean(-1) - math.exp(0.5)) ** 2,
    )
    found = simulate(one, np.random.SeedSequence(1))[size.depth]
    assert (found.mean - tolerance**2) / found.standard_error < stats.norm.isf(0.01)
    assert found.mean > 0.5 * tolerance**2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: required_width(0.0), "tolerance must be positive and finite, got 0.0"),
        (lambda: required_depth(0.1, input_variance=-1.0), "input_variance must be positive"),
        (lambda: required_width(0.01, depth=5), "depth must be more than 20.609"),
        (lambda: required_depth(0.01, width=100), "width must be more than 1.2709e[+]05"),
    ],
)
def test_out_of_reach(call, message):
    with pytest.raises(ValueError, match=message):
        call()
