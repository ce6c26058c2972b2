"""Densities in threads are those of one model after another."""

import numpy as np
import pytest
import torch

from resnet_gp.fitting.density import curvature, density
from resnet_gp.fitting.optimiser import get_raw, set_raw, value_and_gradient
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.priors import add_weak_priors, log_prior
from resnet_gp.threads import torch_threads


@pytest.fixture
def model():
    from resnet_gp.kernels import ResNetLimitKernel

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    model = ExactRegression(
        x, torch.sin(x[:, 0]), ResNetLimitKernel(ard_num_dims=2, input_bias=True).double()
    )
    add_weak_priors(model)
    return model


def objective(model):
    return lambda: model.log_marginal_likelihood() + log_prior(model)


def test_values_and_gradients_are_those_of_one_thread_to_the_bit(model):
    raws = get_raw(model) + 0.3 * np.random.RandomState(0).normal(size=(24, len(get_raw(model))))
    calls = []
    with torch_threads(2), density(model, objective, lambda: calls.append(1)) as posterior:
        values, gradients = posterior.values(raws), posterior.gradients(raws)
    assert len(calls) == 48
    at = get_raw(model)
    with torch_threads(1):
        for raw, value, gradient in zip(raws, values, gradients, strict=True):
            own, slope = value_and_gradient(objective(model), model, raw)
            assert value == own
            np.testing.assert_array_equal(gradient, slope)
    set_raw(model, at)


def test_the_model_and_the_number_of_threads_stay_as_they_were(model):
    before, threads = get_raw(model), torch.get_num_threads()
    with density(model, objective, lambda: None) as posterior:
        posterior.values(before[None] + 1)
    np.testing.assert_array_equal(get_raw(model), before)
    assert torch.get_num_threads() == threads


def test_impossible_points_have_no_density(model):
    raws = np.stack([get_raw(model), get_raw(model)])
    raws[1, -1] = 800.0  # a weight variance that overflows
    with density(model, objective, lambda: None) as posterior:
        values = posterior.values(raws)
    assert np.isfinite(values[0])
    assert values[1] == -np.inf


def test_the_curvature_is_minus_the_second_derivative():
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    found = curvature(lambda raws: -raws @ matrix, np.array([0.3, -1.0]))
    np.testing.assert_allclose(found, matrix, rtol=1e-8)
