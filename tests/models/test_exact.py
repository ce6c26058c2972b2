import math

import gpytorch
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from resnet_gp import ResNetLimitKernel
from resnet_gp.models import ExactRegression, gaussian_log_likelihood


@pytest.fixture
def model():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, dtype=torch.float64, generator=generator)
    y = torch.sin(x[:, 0]) + 0.1 * torch.randn(30, dtype=torch.float64, generator=generator)
    kernel = ResNetLimitKernel(input_bias=True, ard_num_dims=3).double()
    model = ExactRegression(x, y, kernel)
    model.covar_module.outputscale = 1.7
    model.likelihood.noise = 0.03
    return model


def covariance_and_targets(n=6):
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(n, n, dtype=torch.float64, generator=generator)
    y = torch.randn(n, dtype=torch.float64, generator=generator)
    return root @ root.mT + torch.eye(n, dtype=torch.float64), y


def test_log_likelihood_is_that_of_the_normal_law():
    covariance, y = covariance_and_targets()
    expected = multivariate_normal(np.zeros(6), covariance.numpy()).logpdf(y.numpy())
    assert gaussian_log_likelihood(covariance, y).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("outputs", [1, 3])
def test_noise_and_scale_may_come_apart(outputs):
    covariance, y = covariance_and_targets()
    y = y[:, None] * torch.arange(1.0, outputs + 1).double()
    noise, scale = torch.linspace(0.1, 2, 6, dtype=torch.float64), torch.tensor(3.0).double()
    before = covariance.clone()
    value = gaussian_log_likelihood(covariance, y, noise, scale)
    expected = gaussian_log_likelihood(3 * covariance + noise.diag(), y)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(
        gaussian_log_likelihood(covariance, y, scale=scale),
        gaussian_log_likelihood(3 * covariance, y),
        rtol=1e-13, atol=0,
    )  # fmt: skip
    assert torch.equal(covariance, before)


@pytest.mark.parametrize("outputs", [1, 3])
def test_log_likelihood_gradient(outputs):
    covariance, y = covariance_and_targets()
    y = y[:, None] * torch.arange(1.0, outputs + 1).double()
    noise, scale = torch.linspace(0.1, 2, 6, dtype=torch.float64), torch.tensor(3.0).double()

    def symmetric(root, y, noise, scale):  # finite differences must stay symmetric
        return gaussian_log_likelihood((root + root.mT) / 2, y, noise, scale)

    inputs = tuple(tensor.requires_grad_() for tensor in (covariance, y, noise, scale))
    assert torch.autograd.gradcheck(symmetric, inputs)


def test_log_likelihood_refuses_second_derivatives():
    covariance, y = covariance_and_targets()
    value = gaussian_log_likelihood(covariance.requires_grad_(), y) ** 2
    (gradient,) = torch.autograd.grad(value, covariance, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_log_likelihood_refuses_indefinite_matrices():
    with pytest.raises(torch.linalg.LinAlgError):
        gaussian_log_likelihood(-torch.eye(3), torch.ones(3))


def test_marginal_likelihood_agrees_with_gpytorch(model):
    model.train()
    theirs = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    with gpytorch.settings.fast_computations(False, False, False):
        expected = theirs(model(*model.train_inputs), model.train_targets) * 30
    assert model.log_marginal_likelihood().item() == pytest.approx(expected.item(), rel=1e-11)


def test_posterior_agrees_with_gpytorch(model):
    x = torch.randn(7, 3, dtype=torch.float64)
    posterior = model.posterior()
    mean, variance = posterior.mean_and_variance(x)
    model.eval()
    with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
        expected = model(x)
    torch.testing.assert_close(mean, expected.mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(variance, expected.variance, rtol=1e-8, atol=1e-10)
    joint_mean, covariance = posterior.mean_and_covariance(x)
    torch.testing.assert_close(joint_mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(covariance, expected.covariance_matrix, rtol=1e-8, atol=1e-10)


def test_prediction_in_slices_is_prediction_at_once(model, monkeypatch):
    x = torch.randn(11, 3, dtype=torch.float64)
    posterior = model.posterior()
    whole = posterior.mean_and_variance(x)
    monkeypatch.setattr("resnet_gp.models.exact_posterior._PREDICTION_ROWS", 4)
    sliced = posterior.mean_and_variance(x)
    for one, other in zip(whole, sliced, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(posterior.mean(x), whole[0], rtol=1e-12, atol=1e-12)


def test_latent_variance_is_never_negative(model):
    model.likelihood.noise = 1e-8
    _, variance = model.posterior().mean_and_variance(model.train_inputs[0])
    assert (variance >= 0).all()
    assert variance.max() < 1e-6


def test_starting_values(model):
    fresh = ExactRegression(*model.train_inputs, model.train_targets, ResNetLimitKernel())
    assert fresh.covar_module.outputscale.item() == 1
    assert fresh.likelihood.noise.item() == pytest.approx(0.1, rel=1e-7)
    assert math.isfinite(fresh.log_marginal_likelihood().item())


@pytest.mark.parametrize("extra", [False, True])
def test_a_weight_is_the_number_of_observations_behind_a_mean(model, extra):
    """The process given means of observations is that given the observations."""
    generator = torch.Generator().manual_seed(2)
    x, kernel, noise = model.train_inputs[0][:8], model.covar_module.base_kernel, 0.03
    counts = torch.tensor([1, 2, 3, 4, 1, 2, 3, 4])
    variance = torch.rand(8, dtype=x.dtype, generator=generator) if extra else None
    rows = torch.arange(8).repeat_interleave(counts)
    y = torch.randn(len(rows), dtype=x.dtype, generator=generator)
    means = torch.stack([part.mean() for part in y.split(counts.tolist())])
    single = ExactRegression(x[rows], y, kernel, None if variance is None else variance[rows])
    weighted = ExactRegression(x, means, kernel, variance, counts.double())
    for one in (single, weighted):
        one.likelihood.noise = noise
    new = x + 0.3
    for part, whole in zip(
        weighted.posterior().mean_and_covariance(new),
        single.posterior().mean_and_covariance(new),
        strict=True,
    ):
        torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-10)
    assert weighted.log_marginal_likelihood().item() == pytest.approx(
        multivariate_normal(np.zeros(8), weighted.noisy_covariance().detach().numpy()).logpdf(
            means.numpy()
        )
    )
