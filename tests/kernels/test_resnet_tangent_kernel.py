from __future__ import annotations

import dataclasses
import itertools
import math
import unittest

import pytest
import torch
from gpytorch.test.base_kernel_test_case import BaseKernelTestCase
from kernels.properties import KernelProperties, dense, points
from kernels.test_resnet_limit_kernel import Configuration as LimitConfiguration
from torch.func import grad, vmap

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel


@dataclasses.dataclass(frozen=True)
class Configuration(LimitConfiguration):
    layers: str = "all"

    @property
    def twice_differentiable(self):
        return False

    def __str__(self):
        return f"{super().__str__()}-{self.layers}"

    def kernel(self, batch_shape=None):
        limit = super().kernel(batch_shape)
        kernel = ResNetTangentKernel(
            self.activation,
            self.depth,
            layers=self.layers,
            negative_slope=0.1,
            input_bias=self.input_bias,
            variance=self.variance,
            ard_num_dims=self.dimensions if self.ard else None,
            batch_shape=batch_shape,
        ).to(self.dtype)
        kernel.load_state_dict(limit.state_dict())
        return kernel

    def linear_limit(self, kernel, x, z):
        parts = {"all": 2, "blocks": 0}[self.layers]  # readout and input layer
        return parts * super().linear_limit(kernel, x, z)


CONFIGURATIONS = [
    Configuration("relu"),
    Configuration("relu", input_bias=True, ard=True, dtype=torch.float32),
    Configuration("relu", depth=20, input_bias=True, ard=True, variance="no_growth"),
    Configuration("leaky_relu", layers="blocks"),
    Configuration("leaky_relu", depth=10**6, dtype=torch.float32),
    Configuration("abs", depth=2, input_bias=True),
    Configuration("abs", ard=True, variance="no_growth"),
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
class TestResNetTangentKernel(KernelProperties):
    """Everything that every kernel owes."""

    def test_zero_depth_is_linear(self, configuration):
        if configuration.layers == "all":
            super().test_zero_depth_is_linear(configuration)
            return
        x, kernel = self.points(configuration, 20), configuration.kernel()
        linear = configuration.linear_limit(kernel, x, x)
        assert dense(kernel, x).abs().max() < 1e-15
        assert not linear.any()


class TestGPyTorchContract(BaseKernelTestCase, unittest.TestCase):
    seed = 0

    def create_kernel_no_ard(self, **kwargs):
        return ResNetTangentKernel(**kwargs)

    def create_kernel_ard(self, num_dims, **kwargs):
        return ResNetTangentKernel(ard_num_dims=num_dims, **kwargs)


@pytest.mark.parametrize("depth", [None, 7])
def test_a_trained_readout_is_the_limit_kernel(depth):
    x = points(10, 3)
    tangent, limit = (
        ResNetTangentKernel(depth=depth, layers="readout"),
        ResNetLimitKernel("relu", depth),
    )
    assert torch.equal(dense(tangent, x), dense(limit, x))


@pytest.mark.parametrize("activation", ["relu", "abs"])
def test_meets_the_limit_with_slope_minus_one(activation):
    x = points(20, 3)
    limit = dense(ResNetTangentKernel(activation).double(), x)
    errors = [
        (dense(ResNetTangentKernel(activation, 2**k).double(), x) - limit).norm()
        for k in range(6, 16)
    ]
    slopes = [math.log2(after / before) for before, after in itertools.pairwise(errors)]
    assert slopes == pytest.approx([-1] * len(slopes), abs=0.03)


@pytest.mark.parametrize("layers", ["input", None, "All"])
def test_refuses_layers(layers):
    with pytest.raises(ValueError, match="layers"):
        ResNetTangentKernel(layers=layers)


@pytest.mark.parametrize("option", [{"contrast": True}, {"variance": "unit"}], ids=str)
def test_refuses_what_only_the_readout_has(option):
    with pytest.raises(ValueError, match=f'{next(iter(option))}=.* layers="readout"'):
        ResNetTangentKernel(**option)
    x, limit = points(5, 3), ResNetLimitKernel(**option).double()
    tangent = ResNetTangentKernel(layers="readout", **option).double()
    assert torch.equal(dense(tangent, x), dense(limit, x))


@pytest.mark.parametrize("option", [{"negative_slope": -0.5}, {"activation": "abs"}, {}], ids=str)
def test_is_the_tangent_kernel_of_finite_networks(option):
    """By automatic differentiation: z-scores of the means over random networks, layer by layer.

    The width puts the bias, O(1 / width), below the standard error.
    """
    width, depth, networks, weight_variance = 192, 4, 250, 1.5
    activation = "leaky_relu" if "negative_slope" in option else option.get("activation", "relu")
    alpha = {"leaky_relu": option.get("negative_slope"), "abs": -1.0, "relu": 0.0}[activation]
    x = points(2, 3, seed=4)

    def network(parameters, a):
        inner, blocks, readout = parameters
        state = inner @ a / math.sqrt(len(a))
        for block in blocks:
            active = torch.where(state > 0, state, alpha * state)
            state = state + math.sqrt(weight_variance / (depth * width)) * (block @ active)
        return readout @ state / math.sqrt(width)

    def tangents(parameters):
        slopes = [grad(network)(parameters, a) for a in x]
        parts = []
        for part in range(3):  # input layer, blocks, readout
            rows = [slope[part].flatten() for slope in slopes]
            parts.append(torch.stack([rows[0] @ rows[0], rows[0] @ rows[1], rows[1] @ rows[1]]))
        return torch.stack(parts)

    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(networks // 10):
        shapes = [(10, width, 3), (10, depth, width, width), (10, width)]
        draws = [torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes]
        found.append(vmap(tangents)(tuple(draws)))
    found = torch.cat(found)

    def expected(layers):
        kernel = ResNetTangentKernel(
            activation, depth, layers=layers, negative_slope=alpha
        ).double()
        kernel.weight_variance = weight_variance
        K = dense(kernel, x)
        return torch.stack([K[0, 0], K[0, 1], K[1, 1]])

    for layers, sample in [
        ("all", found.sum(1)),
        ("blocks", found[:, 1]),
        ("readout", found[:, 2]),
    ]:
        error = sample.std(0) / math.sqrt(networks)
        z = (sample.mean(0) - expected(layers)) / error
        assert z.abs().max() < 4
