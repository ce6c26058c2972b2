"""``ResNetLimitKernel`` beyond the homogeneous family: other activations, and block biases."""

from __future__ import annotations

import pytest
import torch
from kernels.properties import KernelProperties, dense, points
from kernels.test_resnet_limit_kernel import Configuration as LimitConfiguration

from resnet_gp import Activation, ResNetLimitKernel, ResNetTangentKernel


class Configuration(LimitConfiguration):
    twice_differentiable = False
    roundings = 1000  # tables and integration: about 1e-12


CONFIGURATIONS = [
    Configuration("relu", block_bias=True),
    Configuration("erf", input_bias=True, ard=True),
    Configuration("gelu", block_bias=True, depth=20),
    Configuration("erf", dtype=torch.float32),
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
class TestGeneralActivations(KernelProperties):
    """What every kernel owes, but homogeneity."""

    test_homogeneous_without_bias = None


def test_a_block_bias_of_nothing_changes_nothing():
    x, kernel = points(20, 3), ResNetLimitKernel("relu", block_bias=True).double()
    kernel.block_bias_variance = 1e-14
    torch.testing.assert_close(
        dense(kernel, x), dense(ResNetLimitKernel().double(), x), rtol=1e-9, atol=1e-9
    )


def cosine(u):
    return torch.cos(u)


def test_an_activation_of_ones_own():
    """E[cos u cos v] = exp(-(q_a + q_b) / 2) cosh(q): one block from there is a closed form."""
    x = points(15, 3)
    kernel = ResNetLimitKernel(Activation(cosine, name="cos"), depth=1).double()
    kernel.weight_variance = 0.7
    q = x @ x.mT / 3
    size = q.diagonal()
    moment = torch.exp(-(size[:, None] + size) / 2) * torch.cosh(q)
    torch.testing.assert_close(dense(kernel, x), q + 0.7 * moment, rtol=1e-8, atol=1e-8)


def test_refuses_what_has_no_meaning():
    with pytest.raises(ValueError, match="activation"):
        ResNetLimitKernel("swish-ish")
    with pytest.raises(ValueError, match="no_growth"):
        ResNetLimitKernel("erf", variance="no_growth")
    with pytest.raises(ValueError, match="activation"):
        ResNetTangentKernel("tanh")
    with pytest.raises(ValueError, match="block_bias_variance"):
        ResNetLimitKernel(block_bias_variance_prior=object())
    with pytest.raises(AttributeError, match="block_bias"):
        ResNetLimitKernel().block_bias_variance = 1.0
    with pytest.raises(AttributeError, match="negative_slope"):
        _ = ResNetLimitKernel("erf").negative_slope
