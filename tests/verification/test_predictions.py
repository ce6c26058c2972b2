"""Predictions against independent formulas and against networks."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from resnet_gp import ResNetLimitKernel
from resnet_gp.activations import any_activation
from resnet_gp.networks import MLP, ResNet, Simulation, simulate
from resnet_gp.verification.fluctuations import scaled_variance
from resnet_gp.verification.predictions import (
    correlation_of,
    covariance,
    mlp_log_norm,
    tangent,
)

INPUTS = torch.tensor([[1.0, 0.5], [-0.4, 1.3]], dtype=torch.float64)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("biases", [(0.0, 0.0), (0.4, 0.3)])
def test_covariance_along_the_depth_is_the_recursion(activation, biases):
    network = ResNet(5, 10, activation, 1.3, *biases)
    phi = any_activation(activation)
    q = INPUTS @ INPUTS.T / 2 + biases[0]
    np.testing.assert_allclose(covariance(network, INPUTS, time=0), q, rtol=1e-14)
    for block in range(1, 11):
        qa = q.diagonal()
        q = q + (1.3 * phi.moment(qa[:, None], qa, q) + biases[1]) / 10
        np.testing.assert_allclose(covariance(network, INPUTS, time=block / 10), q, rtol=1e-9)


def test_the_limit_is_the_kernel():
    kernel = ResNetLimitKernel().double()
    with torch.no_grad():
        expected = kernel(INPUTS).to_dense().numpy()
    np.testing.assert_allclose(covariance(ResNet(3, 4), INPUTS, limit=True), expected)
    half = covariance(ResNet(3, 4), INPUTS, time=0.5, limit=True)
    assert half[0, 0] == pytest.approx(0.625 * math.exp(0.25))


def test_tangent_layers_add_up():
    network = ResNet(3, 4, input_bias_variance=0.3)
    parts = [tangent(network, INPUTS, layers) for layers in ("all", "blocks", "readout")]
    np.testing.assert_allclose(parts[2], covariance(network, INPUTS))
    assert (parts[0] > parts[1] + parts[2]).all()


def test_correlations():
    q = np.array([[4.0, 3.0], [3.0, 9.0]])
    np.testing.assert_allclose(correlation_of(q), [[1, 0.5], [0.5, 1]])
    np.testing.assert_allclose(correlation_of(np.stack([q, q]))[1], correlation_of(q))


def test_log_norm_of_mlps():
    """z-scores of mean and variance, at a width so small that expansions in 1/n fail."""
    network = MLP(24, 6)
    start = Simulation(
        "norm", network, INPUTS[:1] / INPUTS[0].square().mean().sqrt(), 20000,
        lambda depth, y: y.square().sum(-1).log(), (0, 6), keep=True,
    )  # fmt: skip
    found = simulate(start, np.random.SeedSequence(3))
    # The last layer's norm has the same law as the first's, times the product of the layers.
    mean, variance = mlp_log_norm(network)
    first, last = (found[depth].values[:, 0] for depth in (0, 6))
    z_mean = (last.mean() - first.mean() - mean) / math.sqrt((last.var() + first.var()) / 20000)
    spread = last.var() - first.var() - variance
    z_variance = spread / math.sqrt(2 * (last.var() ** 2 + first.var() ** 2) / 20000)
    assert np.abs([z_mean, z_variance]).max() < stats.norm.isf(0.0025)


@pytest.mark.parametrize("depth", [1, 5])
def test_fluctuations_of_one_network(depth):
    one = Simulation(
        "q", ResNet(1024, depth), torch.ones(1, 1), 4000, lambda depth, y: y.square().mean(-1)
    )
    variance = 1024 * simulate(one, np.random.SeedSequence(4))[depth].variance[0]
    z = (variance / scaled_variance(depth) - 1) / math.sqrt(2 / 4000)
    assert abs(z) < stats.norm.isf(0.0025)


def test_fluctuations_converge_within_the_measured_range():
    roots = np.sqrt([scaled_variance(depth) for depth in (8, 16, 32)])
    assert 3.2 < roots[-1] < 3.9
    assert roots[2] - roots[1] == pytest.approx((roots[1] - roots[0]) / 2, rel=0.1)
    # For a linear network, n Var q would be 2 e^2 + ...; without blocks it is that of chi^2.
    assert scaled_variance(4, weight_variance=0.0) == pytest.approx(2)
