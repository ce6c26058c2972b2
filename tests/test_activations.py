from __future__ import annotations

import dataclasses
import math

import pytest

from resnet_gp.activations import ACTIVATIONS, LeakyReLU, any_activation, get_activation


@pytest.mark.parametrize(("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("abs", -1.0)])
def test_names(name, slope):
    assert get_activation(name) == LeakyReLU(slope)


def test_all_names_are_known():
    assert len({any_activation(name) for name in ACTIVATIONS}) == len(ACTIVATIONS)


def test_negative_slope_is_that_of_leaky_relu_alone():
    assert get_activation("leaky_relu", 0.3) == LeakyReLU(0.3)
    assert get_activation("relu", 0.3) == LeakyReLU(0.0)
    assert get_activation("abs", math.nan) == LeakyReLU(-1.0)


def test_slope_becomes_a_float():
    assert isinstance(get_activation("leaky_relu", 1).negative_slope, float)


@pytest.mark.parametrize("name", ["ReLU", "softplus", "", None, 3, ["relu"]])
def test_unknown_activation(name):
    with pytest.raises(ValueError, match="activation must be one of relu, leaky_relu, abs; got"):
        get_activation(name)


@pytest.mark.parametrize("slope", [math.nan, math.inf, -math.inf])
def test_slope_must_be_finite(slope):
    with pytest.raises(ValueError, match="negative_slope must be finite"):
        get_activation("leaky_relu", slope)


def test_activations_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_activation("relu").negative_slope = 1.0
