import copy

import pyro
import pytest
import torch
from gpytorch.kernels import AdditiveKernel, RBFKernel, ScaleKernel
from gpytorch.priors import GammaPrior

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import add_weak_priors, sample_hyperparameters, with_hyperparameters
from resnet_gp.bayes.hyperparameters import current_hyperparameters
from resnet_gp.kernels import ResNetSumKernel

X = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)


@pytest.fixture
def kernel():
    kernel = ScaleKernel(ResNetLimitKernel(input_bias=True, block_bias=True, ard_num_dims=2))
    add_weak_priors(kernel.double())
    return kernel


@pytest.fixture
def sum_kernel():
    kernel = ScaleKernel(ResNetSumKernel(input_bias=True, ard_num_dims=2))
    add_weak_priors(kernel.double())
    return kernel


def traced(name, module):
    with pyro.poutine.trace() as trace:
        drawn = sample_hyperparameters(name, module)
    sites = {n: s["value"] for n, s in trace.trace.nodes.items() if s["type"] == "sample"}
    return drawn, sites


def test_sites_are_named_after_the_hyperparameters_and_take_effect(kernel):
    pyro.set_rng_seed(0)
    drawn, sites = traced("group", kernel)
    inner = "group.base_kernel."
    assert set(sites) == {
        "group.outputscale", inner + "lengthscale", inner + "weight_variance",
        inner + "input_bias_variance", inner + "block_bias_variance",
    }  # fmt: skip
    torch.testing.assert_close(drawn.base_kernel.lengthscale, sites[inner + "lengthscale"])
    torch.testing.assert_close(drawn.outputscale, sites["group.outputscale"])
    again = with_hyperparameters("group", kernel, sites)
    torch.testing.assert_close(again(X).to_dense(), drawn(X).to_dense())


def test_the_module_itself_is_not_touched(kernel):
    before = copy.deepcopy(kernel.state_dict())
    value = kernel(X).to_dense()
    drawn, _ = traced("", kernel)
    assert isinstance(drawn, ScaleKernel)
    assert isinstance(drawn.base_kernel, ResNetLimitKernel)
    assert all(torch.equal(before[name], value) for name, value in kernel.state_dict().items())
    assert torch.equal(kernel(X).to_dense(), value)
    assert not torch.equal(drawn(X).to_dense(), value)


def test_values_are_differentiable(kernel):
    values = {
        name: value.requires_grad_() for name, value in current_hyperparameters("", kernel).items()
    }
    with_hyperparameters("", kernel, values)(X).to_dense().sum().backward()
    assert all(value.grad.isfinite().all() and (value.grad != 0).any() for value in values.values())


@pytest.mark.parametrize("name", ["kernel", "sum_kernel"])
def test_a_batch_of_values_makes_a_batch_of_kernels(request, name):
    kernel = request.getfixturevalue(name)
    draws = [traced("", kernel)[1] for _ in range(4)]
    batch = {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}
    together = with_hyperparameters("", kernel, batch)(X.expand(4, -1, -1)).to_dense()
    for draw, matrix in zip(draws, together, strict=True):
        one = with_hyperparameters("", kernel, draw)(X).to_dense()
        torch.testing.assert_close(matrix, one, rtol=1e-12, atol=1e-12)


def test_kernels_of_gpytorch_and_sums_are_drawn_too():
    kernel = AdditiveKernel(
        ScaleKernel(RBFKernel(lengthscale_prior=GammaPrior(3.0, 6.0))),
        ScaleKernel(ResNetLimitKernel()),
    )
    add_weak_priors(kernel)
    drawn, sites = traced("k", kernel)
    assert len(sites) == 5
    scale = drawn.kernels[0].base_kernel.lengthscale
    torch.testing.assert_close(scale, sites["k.kernels.0.base_kernel.lengthscale"])


def test_a_module_in_two_places_is_drawn_once():
    kernel = ResNetLimitKernel()
    add_weak_priors(kernel)
    drawn, sites = traced("", kernel + kernel)
    assert len(sites) == 2
    assert drawn.kernels[0] is drawn.kernels[1]


def test_draws_follow_the_prior(kernel):
    pyro.set_rng_seed(1)
    logs = torch.stack([traced("", kernel)[1]["outputscale"].log() for _ in range(2000)])
    z = logs.mean() / (1.5 / 2000**0.5)
    assert abs(z) < 4
    assert abs(logs.std() / 1.5 - 1) < 4 / 4000**0.5


def test_a_changed_prior_counts_from_the_next_draw_on(kernel):
    traced("", kernel)
    kernel.outputscale_prior.loc.fill_(50.0)
    assert traced("", kernel)[1]["outputscale"] > 1e10


def test_values_of_another_shape_and_missing_ones_are_named(kernel):
    values = current_hyperparameters("", kernel)
    with pytest.raises(
        ValueError, match=r"base_kernel.lengthscale must end with the shape \(1, 2\)"
    ):
        with_hyperparameters("", kernel, values | {"base_kernel.lengthscale": torch.ones(3)})
    del values["outputscale"]
    with pytest.raises(KeyError, match="outputscale"):
        with_hyperparameters("", kernel, values)


def test_a_prior_that_cannot_be_set_is_named():
    kernel = RBFKernel()
    kernel.register_prior("odd_prior", GammaPrior(1.0, 1.0), lambda module: module.lengthscale)
    with pytest.raises(ValueError, match="odd has no setting closure"):
        sample_hyperparameters("", kernel)
