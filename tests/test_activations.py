from __future__ import annotations

import dataclasses
import math
import pickle

import pytest
import torch

from resnet_gp.activations import (
    ACTIVATIONS,
    Activation,
    LeakyReLU,
    any_activation,
    leaky_relu_of,
)


@pytest.mark.parametrize(("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("abs", -1.0)])
def test_names(name, slope):
    assert leaky_relu_of(name) == LeakyReLU(slope)


def test_all_names_are_known():
    assert len({any_activation(name) for name in ACTIVATIONS}) == len(ACTIVATIONS)


def test_negative_slope_is_that_of_leaky_relu_alone():
    assert leaky_relu_of("leaky_relu", 0.3) == LeakyReLU(0.3)
    assert leaky_relu_of("relu", 0.3) == LeakyReLU(0.0)
    assert leaky_relu_of("abs", math.nan) == LeakyReLU(-1.0)


def test_slope_becomes_a_float():
    assert isinstance(leaky_relu_of("leaky_relu", 1).negative_slope, float)


@pytest.mark.parametrize("name", ["ReLU", "softplus", "", None, 3, ["relu"]])
def test_unknown_activation(name):
    with pytest.raises(ValueError, match="activation must be one of relu, leaky_relu, abs; got"):
        leaky_relu_of(name)


@pytest.mark.parametrize("slope", [math.nan, math.inf, -math.inf])
def test_slope_must_be_finite(slope):
    with pytest.raises(ValueError, match="negative_slope must be finite"):
        leaky_relu_of("leaky_relu", slope)


def test_activations_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        leaky_relu_of("relu").negative_slope = 1.0


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "erf", "gelu", "sin"])
def test_partials_are_those_of_the_moment(name):
    activation = any_activation(name)
    state = torch.tensor([0.7, 1.9, -0.4], dtype=torch.float64)
    for k, partial in enumerate(activation.partials(*state)):
        step = torch.zeros(3, dtype=torch.float64)
        step[k] = 1e-5
        quotient = (activation.moment(*(state + step)) - activation.moment(*(state - step))) / 2e-5
        assert partial == pytest.approx(float(quotient), rel=1e-8)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "erf", "gelu", "sin"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_partials_are_finite_at_equal_and_opposite_inputs(name, sign):
    q = 10.0 ** torch.arange(-30, 7, dtype=torch.float64)
    activation = any_activation(name)
    assert activation.moment(q, q, sign * q).isfinite().all()
    assert all(partial.isfinite().all() for partial in activation.partials(q, q, sign * q))


@pytest.mark.parametrize("function", [torch.sign, torch.abs, torch.exp])
def test_functions_without_accurate_moments_are_refused(function):
    with pytest.raises(ValueError, match="Gaussian moments of activation 'mine'"):
        Activation(function, name="mine")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_values(name):
    activation = any_activation(name)
    copy = pickle.loads(pickle.dumps(activation))
    assert copy == activation
    assert hash(copy) == hash(activation)
