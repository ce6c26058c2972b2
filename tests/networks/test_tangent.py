"""Empirical tangent kernels: both samplers in law, and their mean against the kernel."""

import pytest
import torch
from scipy import stats

from resnet_gp import ResNetTangentKernel
from resnet_gp.networks import ResNet, tangent_kernels
from resnet_gp.report.checks import holm

INPUTS = torch.tensor([[1.0, 0.5], [0.9, -0.6], [1.0, 0.5]])


def sampled(network, sampler, networks, seed):
    generator = torch.Generator().manual_seed(seed)
    return tangent_kernels(network, INPUTS, networks, generator, sampler)


@pytest.mark.parametrize("network", [ResNet(12, 3), ResNet(2, 2, "abs", input_bias_variance=0.5)])
def test_samplers_agree_in_law(network):
    explicit = sampled(network, "explicit", 4000, 1)
    exact = sampled(network, "exact", 4000, 2)
    p = [
        stats.ks_2samp(one[:, i, j], other[:, i, j]).pvalue
        for one, other in zip(explicit, exact, strict=True)
        for i, j in ((0, 0), (0, 1))
    ]
    assert min(holm(p)) > 0.01


@pytest.mark.parametrize("sampler", ["explicit", "exact"])
def test_duplicates(sampler):
    for part in sampled(ResNet(30, 4), sampler, 20, 3):
        assert (part[:, 0] - part[:, 2]).abs().max() <= 1e-3 * part.abs().max()


def test_explicit_parts_are_the_gradients_of_a_network(monkeypatch):
    """Compare with torch's derivatives in the weights, drawn in the same order."""
    network, n = ResNet(6, 2, "tanh", 1.3), 6
    parts = sampled(network, "explicit", 1, 4)
    generator = torch.Generator().manual_seed(4)
    weights = [
        torch.empty(shape).normal_(generator=generator).requires_grad_()
        for shape in ((2, n), (n, n), (n, n), (1, n))
    ]
    hidden = INPUTS / 2**0.5 @ weights[0]
    for matrix in weights[1:3]:
        hidden = hidden + (1.3 / (n * 2)) ** 0.5 * torch.tanh(hidden) @ matrix
    outputs = (hidden @ weights[3].T)[:, 0] / n**0.5
    rows = [torch.autograd.grad(output, weights, retain_graph=True) for output in outputs]
    for part, chosen in ((parts.input, [0]), (parts.blocks, [1, 2]), (parts.readout, [3])):
        jacobian = torch.stack([torch.cat([row[k].flatten() for k in chosen]) for row in rows])
        torch.testing.assert_close(part[0], jacobian @ jacobian.T, rtol=1e-4, atol=1e-5)


def test_mean_is_the_kernel():
    network = ResNet(2048, 4, weight_variance=1.3, input_bias_variance=0.4)
    parts = sampled(network, "exact", 100, 5)
    kernel = ResNetTangentKernel(depth=4, input_bias=True).double()
    kernel.weight_variance, kernel.input_bias_variance = 1.3, 0.4
    with torch.no_grad():
        expected = kernel(INPUTS.double()).to_dense()
    theta = sum(parts).double()
    z = (theta.mean(0) - expected) / (theta.std(0) / 10)
    p = 2 * stats.norm.sf(z[[0, 0, 1], [0, 1, 1]].abs().numpy())
    assert min(holm(list(p))) > 0.01


def test_block_biases_are_refused():
    with pytest.raises(ValueError, match="block_bias_variance must be 0"):
        sampled(ResNet(4, 2, block_bias_variance=1.0), "exact", 3, 0)
    with pytest.raises(ValueError, match="sampler must be one of"):
        sampled(ResNet(4, 2), "quick", 3, 0)
