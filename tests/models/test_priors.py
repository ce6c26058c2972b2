import math

import pytest
import torch
from gpytorch.kernels import RBFKernel
from gpytorch.priors import GammaPrior
from scipy import stats
from scipy.stats import multivariate_normal, norm

from resnet_gp import ResNetLimitKernel
from resnet_gp.models import ExactRegression
from resnet_gp.models.priors import add_weak_priors, log_prior


def model_of(kernel):
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    model = ExactRegression(x, x[:, 0], kernel.double())
    add_weak_priors(model)
    return model


def names(model):
    return {name for name, *_ in model.named_priors()}


def test_every_hyperparameter_of_our_kernels_has_a_prior_that_can_be_set():
    model = model_of(ResNetLimitKernel(block_bias=True))
    kernel = "covar_module.base_kernel."
    assert names(model) == {
        "likelihood.noise_covar.noise_prior", "covar_module.outputscale_prior",
        kernel + "lengthscale_prior", kernel + "weight_variance_prior",
        kernel + "block_bias_variance_prior",
    }  # fmt: skip
    for _, module, prior, closure, set_value in model.named_priors():
        set_value(module, prior.sample(closure(module).shape))


def test_a_fixed_hyperparameter_gets_none():
    kernel = ResNetLimitKernel(input_bias=True)
    kernel.raw_lengthscale.requires_grad_(False)
    assert not any("lengthscale" in name for name in names(model_of(kernel)))


@pytest.mark.parametrize(("activation", "median"), [("relu", 5.0), ("abs", 1.25)])
def test_the_median_horizon_is_that_of_every_slope(activation, median):
    kernel = model_of(ResNetLimitKernel(activation)).covar_module.base_kernel
    assert math.exp(kernel.weight_variance_prior.loc) == pytest.approx(median)


def test_priors_of_other_kernels_stay_and_count():
    model = model_of(RBFKernel(lengthscale_prior=GammaPrior(3.0, 6.0)))
    assert len(names(model)) == 3
    kernel = model.covar_module.base_kernel
    gamma = kernel.lengthscale_prior.log_prob(kernel.lengthscale).sum()
    normal = [
        stats.norm(math.log(median), spread).logpdf(math.log(value))
        for value, (median, spread) in ((0.1, (0.05, 2.0)), (1.0, (1.0, 1.5)))
    ]  # of the logarithms of noise and output scale
    assert log_prior(model).item() == pytest.approx(gamma.item() + sum(normal), rel=1e-6)


def test_no_priors_weigh_nothing():
    x = torch.zeros(2, 1)
    assert log_prior(ExactRegression(x, x[:, 0], RBFKernel())).item() == 0


def test_lengthscales_of_one_column_are_alike_under_the_weak_prior():
    values = torch.tensor([0.5, 2.0, 3.0, 4.0], dtype=torch.float64)
    densities = []
    for groups in (None, (0, 1, 1, 2)):
        kernel = ResNetLimitKernel(ard_num_dims=4).double()
        add_weak_priors(kernel, groups)
        kernel.lengthscale = values
        densities.append(log_prior(kernel).item())
    plain = norm(0, 1).logpdf(values.log()).sum()
    related = multivariate_normal(cov=[[1.25, 1], [1, 1.25]]).logpdf(values[1:3].log())
    expected = related - norm(0, 1).logpdf(values[1:3].log()).sum()
    assert densities[1] - densities[0] == pytest.approx(expected)
    assert plain < plain + expected  # 2 and 3 are alike
