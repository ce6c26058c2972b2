"""The samplers agree in law, at Holm's level 1 %, and exactly for collinear inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnet_gp.networks import MLP, SAMPLERS, ResNet, layers
from resnet_gp.networks.samplers import semidefinite_root
from resnet_gp.report.checks import holm

INPUTS = torch.tensor([[1.0, 0.5], [-0.4, 1.3], [0.2, -0.1]])
NETWORKS = {
    "relu": ResNet(12, 4),
    "narrow": ResNet(2, 3, "abs"),
    "biases": ResNet(12, 3, "tanh", 1.5, 0.4, 0.3),
    "mlp": MLP(12, 3, "relu", block_bias_variance=0.2),
}


def last_layer(network, sampler, networks=4000, inputs=INPUTS, seed=5):
    generator = torch.Generator().manual_seed(seed)
    *_, hidden = layers(network, inputs, networks, generator, sampler)
    return hidden


def observed(hidden):
    """Numbers that tell laws apart: neurons, their products within and between inputs."""
    gram = hidden @ hidden.mT / hidden.shape[-1]
    return {
        "neuron": hidden[:, 0, 0],
        "norm": gram[:, 0, 0],
        "covariance": gram[:, 0, 1],
        "two neurons": hidden[:, 0, 0] * hidden[:, 0, 1],
        "two neurons, two inputs": hidden[:, 0, 0] * hidden[:, 2, 1],
        "quadratic": (hidden[:, 0] ** 2 * hidden[:, 1] ** 2).mean(-1),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_samplers_agree_in_law(name):
    network = NETWORKS[name]
    explicit = observed(last_layer(network, "explicit", seed=1))
    exact = observed(last_layer(network, "exact", seed=2))
    p = [stats.ks_2samp(explicit[key], exact[key]).pvalue for key in exact]
    assert min(holm(p)) > 0.01, dict(zip(exact, p, strict=True))


def test_that_test_sees_another_law():
    explicit = observed(last_layer(ResNet(12, 4, weight_variance=1.5), "explicit", seed=1))
    exact = observed(last_layer(ResNet(12, 4), "exact", seed=2))
    assert min(holm([stats.ks_2samp(explicit[key], exact[key]).pvalue for key in exact])) < 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_collinear_and_zero_inputs(sampler, dtype):
    x = torch.tensor([[1.0, 0.5], [1.0, 0.5], [2.0, 1.0], [0.0, 0.0], [-0.4, 1.3]], dtype=dtype)
    hidden = last_layer(ResNet(50, 6), sampler, 20, x)
    assert hidden.dtype == dtype
    size = hidden.abs().max()
    rounding = 200 * torch.finfo(dtype).eps
    assert (hidden[:, 0] - hidden[:, 1]).abs().max() <= rounding * size
    assert (2 * hidden[:, 0] - hidden[:, 2]).abs().max() <= rounding * size
    assert hidden[:, 3].abs().max() <= rounding * size


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_function_may_return_its_argument(sampler):
    linear = last_layer(ResNet(9, 3, lambda u: u), sampler, 5)
    assert torch.equal(linear, last_layer(ResNet(9, 3, lambda u: 1 * u), sampler, 5))


def test_there_are_l_plus_one_layers_of_that_shape():
    generator = torch.Generator().manual_seed(0)
    shapes = [y.shape for y in layers(ResNet(7, 4), INPUTS, 5, generator)]
    assert shapes == [(5, 3, 7)] * 5


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**31), st.booleans())
@settings(max_examples=60, deadline=None)
def test_root_of_a_gram_matrix_of_any_rank(m, rank, seed, single):
    dtype = torch.float32 if single else torch.float64
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, m, rank, generator=generator, dtype=dtype)
    x[:, -1] = x[:, 0]
    gram = x @ x.mT
    root = semidefinite_root(gram)
    largest = torch.linalg.matrix_norm(gram, 2).max()
    assert (root @ root.mT - gram).abs().max() <= 8 * m * torch.finfo(dtype).eps * largest


def test_root_of_zero():
    for m in (1, 2, 3):
        assert torch.equal(semidefinite_root(torch.zeros(2, m, m)), torch.zeros(2, m, m))


def test_bad_arguments():
    generator = torch.Generator()
    with pytest.raises(ValueError, match="sampler must be one of exact, explicit; got 'fast'"):
        layers(ResNet(4, 2), INPUTS, 3, generator, "fast")
    for inputs in (INPUTS[0], INPUTS.long(), INPUTS * torch.nan):
        with pytest.raises(ValueError, match="inputs must be m x d, finite and floating"):
            layers(ResNet(4, 2), inputs, 3, generator)
