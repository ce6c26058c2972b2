import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from linear_operator import to_dense

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.models import ExactRegression, gaussian_log_likelihood
from resnet_gp.models.network_likelihood import networks_of

KERNELS = [
    (ResNetLimitKernel, {}),
    (ResNetLimitKernel, {"input_bias": True, "variance": "no_growth", "contrast": True}),
    (ResNetLimitKernel, {"input_bias": True, "variance": "unit", "ard_num_dims": 3}),
    (ResNetLimitKernel, {"activation": "abs", "depth": 5, "ard_num_dims": 3}),
    (ResNetTangentKernel, {"input_bias": True}),
    (ResNetSumKernel, {"input_bias": True, "variance": "no_growth", "ard_num_dims": 3}),
]


def rows(n=40, d=3, seed=0):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_definition(model):
    covariance = to_dense(model.covar_module(model.train_inputs[0]))
    return gaussian_log_likelihood(covariance + model.row_noise().diag(), model.train_targets)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("kernel", "options"), KERNELS, ids=str)
def test_value_and_gradient_are_those_of_the_definition(kernel, options, outputs):
    x, y = rows(), rows(d=outputs, seed=1).squeeze(-1)
    x[3] = 0  # without an input bias, a null row
    model = ExactRegression(
        x, y, kernel(**options).double(), sample_weight=torch.linspace(0.5, 2, 40).double()
    )
    model.likelihood.noise, model.covar_module.outputscale = 0.3, 1.7
    parameters = list(model.parameters())
    assert networks_of(model.covar_module) is not None
    value, expected = model.log_marginal_likelihood(), by_definition(model)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
    found = torch.autograd.grad(3 * value, parameters)
    for one, other in zip(found, torch.autograd.grad(3 * expected, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_value_alone_needs_no_graph():
    model = ExactRegression(rows(), rows(d=1)[:, 0], ResNetLimitKernel().double())
    with torch.no_grad():
        value = model.log_marginal_likelihood()
    assert not value.requires_grad
    assert value == model.log_marginal_likelihood()


def test_second_derivatives_are_refused():
    model = ExactRegression(rows(), rows(d=1)[:, 0], ResNetLimitKernel().double())
    parameter = model.covar_module.raw_outputscale
    value = model.log_marginal_likelihood() ** 2
    (slope,) = torch.autograd.grad(value, parameter, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.backward()


def test_a_singular_covariance_is_an_error():
    model = ExactRegression(torch.zeros(5, 3), torch.ones(5), ResNetLimitKernel())
    model.likelihood.noise = 1e-30
    model.train_inputs[0][:] = 1
    with pytest.raises(torch.linalg.LinAlgError):
        model.log_marginal_likelihood()


@pytest.mark.parametrize(
    "kernel",
    [
        RBFKernel(),
        ResNetLimitKernel("erf"),
        ResNetLimitKernel(block_bias=True),
        ResNetLimitKernel(active_dims=(0,)),
        ResNetLimitKernel(batch_shape=torch.Size([2])),
    ],
    ids=["rbf", "erf", "block bias", "active dims", "batch"],
)
def test_kernels_of_other_families(kernel):
    assert networks_of(ScaleKernel(kernel, batch_shape=kernel.batch_shape)) is None
