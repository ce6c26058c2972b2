import math

import numpy as np
import pyro
import pytest
import torch
from bayes.models import data, few_draws, regression
from gpytorch.kernels import MaternKernel, RBFKernel
from scipy.stats import norm

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import Draws, GPRegression, run_nuts
from resnet_gp.bayes.chain import Potential
from resnet_gp.bayes.hyperparameters import current_hyperparameters
from resnet_gp.models.priors import log_prior


def test_the_potential_is_minus_the_log_posterior_of_the_logarithms():
    model = regression()
    module = model.module
    potential = Potential(model, ())
    here = potential.unconstrained(current_hyperparameters("", module))
    expected = -(module.log_marginal_likelihood() + log_prior(module))
    assert potential.value_and_gradient(here)[0] == pytest.approx(expected.item(), rel=1e-8)


def test_what_data_cannot_tell_is_fixed():
    kernel = regression().module.covar_module.base_kernel
    assert kernel.variance == "no_growth"
    assert not kernel.raw_input_bias_variance.requires_grad
    assert "likelihood.noise_covar.noise" in current_hyperparameters("", regression().module)


def test_predictions_average_over_the_draws():
    model, draws = regression(), few_draws(regression())
    x, _ = data(5, seed=1)
    mixture = model.predict(x, draws, at_most=None)
    assert mixture.means.shape == (12, 5)
    second = {name: value.flatten(0, 1)[1] for name, value in draws.values.items()}
    at = model.at(second)
    mean, variance = at.posterior().mean_and_variance(x)
    np.testing.assert_allclose(mixture.means[1], mean)
    variance = (variance + at.likelihood.noise).detach()
    np.testing.assert_allclose(mixture.scales[1] ** 2, variance)
    latent = model.predict(x, draws, at_most=None, observation_noise=False)
    assert (latent.scales < mixture.scales).all()
    assert model.predict(x, draws, at_most=4).means.shape == (4, 5)


def test_several_outputs_share_hyperparameters():
    x, y = data()
    model = GPRegression(x, torch.stack([y, y], 1), ResNetLimitKernel(input_bias=True))
    one = GPRegression(x, y, ResNetLimitKernel(input_bias=True))
    draws = few_draws(model)
    mixture = model.predict(x[:3], draws)
    assert mixture.means.shape == mixture.scales.shape == (12, 3, 2)
    trace = pyro.poutine.trace(model).get_trace()
    values = {
        name: trace.nodes[name]["value"] for name in current_hyperparameters("", model.module)
    }
    single = pyro.poutine.trace(pyro.poutine.condition(one, values)).get_trace()
    torch.testing.assert_close(
        trace.nodes["y"]["fn"].log_prob(model.module.train_targets),
        2 * single.nodes["y"]["fn"].log_prob(y),
    )


def test_pointwise_densities_are_those_of_models_without_the_row():
    x, y = data(8)
    model = GPRegression(x, y, ResNetLimitKernel(input_bias=True))
    draws = few_draws(model, 1)
    found = model.loo_log_likelihood(draws)
    assert found.shape == (2, 1, 8)
    rest = GPRegression(x[1:], y[1:], ResNetLimitKernel(input_bias=True))
    mixture = rest.predict(x[:1], draws, at_most=None)
    each = norm(mixture.means[:, 0], mixture.scales[:, 0]).logpdf(y[0].item())
    np.testing.assert_allclose(found[:, 0, 0], each)


def test_a_larger_model_holds_it_as_a_part():
    """A Pyro model of the user's: two groups share the kernel's hyperparameters."""
    from resnet_gp.bayes import GaussianVector, add_weak_priors, sample_hyperparameters

    (xa, ya), (xb, yb) = data(15), data(12, seed=1)
    kernel = ResNetLimitKernel(input_bias=True, variance="no_growth").double()
    kernel.raw_input_bias_variance.requires_grad_(False)
    add_weak_priors(kernel)

    def model():
        shared = sample_hyperparameters("shared", kernel)
        for name, x, y in (("a", xa, ya), ("b", xb, yb)):
            scale = pyro.sample(
                f"scale_{name}", pyro.distributions.LogNormal(ya.new_zeros(()), 1.0)
            )
            covariance = scale * shared(x).to_dense() + 0.05 * torch.eye(len(x)).double()
            pyro.sample(f"y_{name}", GaussianVector(covariance), obs=y)

    with pytest.warns(UserWarning, match="worth|disagree"):
        draws = run_nuts(
            model, num_chains=2, num_draws=10, num_warmup=20, max_tree_depth=3, verbose=False
        )
    assert set(draws.values) == {
        "scale_a", "scale_b", "shared.lengthscale", "shared.weight_variance"
    }  # fmt: skip


def test_kernels_of_gpytorch_are_sampled_too():
    x, y = data()
    model = GPRegression(x, y, MaternKernel(2.5, ard_num_dims=2))
    sites = current_hyperparameters("", model.module)
    assert len(sites) == 3
    prior = model.module.covar_module.base_kernel.lengthscale_prior
    assert float(prior.loc) == pytest.approx(math.sqrt(2) + math.log(2) / 2)
    assert math.isfinite(Potential(model, ()).value_and_gradient(Potential(model, ()).start)[0])


@pytest.mark.parametrize(("x", "y"), [((4, 2), (5,)), ((4,), (4,)), ((4, 2), (4, 1, 1))])
def test_shapes_that_do_not_match_are_both_named(x, y):
    with pytest.raises(ValueError, match="train_x must be n x d and train_y") as error:
        GPRegression(torch.zeros(x), torch.zeros(y), ResNetLimitKernel())
    assert str(x) in str(error.value)
    assert str(y) in str(error.value)


def test_bad_data_are_named():
    x, y = torch.randn(6, 2), torch.randn(6)
    for arguments, message in (
        ((x, y * torch.nan), "train_y must hold finite"),
        ((x.long(), y), "train_x must hold finite floating-point numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            GPRegression(*arguments, RBFKernel())
    model, none = GPRegression(x, y, RBFKernel()), Draws({}, torch.zeros(1, 0))
    for points, message in (
        (x[:, :1], r"x must be k x 2, got shape \(6, 1\)"), (x[0], "x must be k x 2"),
        (x * torch.nan, "x must hold finite"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model.predict(points, none)
    for extra in (-torch.ones(6), torch.ones(5), torch.full((6,), torch.inf)):
        with pytest.raises(ValueError, match="extra_variance must hold 6 variances"):
            GPRegression(x, y, RBFKernel(), extra_variance=extra)
