import math
import pickle

import pytest
import torch

from resnet_gp import Activation
from resnet_gp.activations import ACTIVATIONS, LeakyReLU
from resnet_gp.networks import MLP, ResNet

EXPECTED = {
    "relu": lambda u: max(u, 0.0),
    "leaky_relu": lambda u: max(u, 0.0) + 0.3 * min(u, 0.0),
    "abs": abs,
    "erf": math.erf,
    "gelu": lambda u: u * (1 + math.erf(u / math.sqrt(2))) / 2,
    "tanh": math.tanh,
    "silu": lambda u: u / (1 + math.exp(-u)),
    "sin": math.sin,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_its_formula(name):
    u = torch.tensor([-2.0, -0.3, 0.0, 0.7, 3.0], dtype=torch.float64)
    found = ResNet(3, 2, name, negative_slope=0.3).function(u)
    expected = torch.tensor([EXPECTED[name](float(x)) for x in u], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)


def test_activation_objects_and_plain_functions():
    u = torch.linspace(-1, 1, 5)
    assert torch.equal(ResNet(3, 2, Activation(torch.cos, name="cos")).function(u), torch.cos(u))
    assert torch.equal(ResNet(3, 2, torch.exp).function(u), torch.exp(u))
    assert torch.equal(ResNet(3, 2, LeakyReLU(-1.0)).function(u), u.abs())


def test_critical_mlps_keep_the_variance():
    assert MLP(5, 3).weight_variance == 2
    assert MLP(5, 3, "abs").weight_variance == 1
    assert MLP(5, 3, "leaky_relu", negative_slope=0.5).weight_variance == 1.6
    assert MLP(5, 3, "tanh", weight_variance=1.1).weight_variance == 1.1
    with pytest.raises(ValueError, match="weight_variance of an MLP is known"):
        MLP(5, 3, "tanh")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"weight_variance": -1.0}, "weight_variance must be finite and not negative"),
        ({"input_bias_variance": math.inf}, "input_bias_variance must be finite"),
        ({"block_bias_variance": math.nan}, "block_bias_variance must be finite"),
        ({"activation": "swish"}, "activation must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**{"width": 4, "depth": 2} | arguments)


def test_laws_are_values():
    assert pickle.loads(pickle.dumps(ResNet(4, 2, "erf"))) == ResNet(4, 2, "erf")
