import pickle

import numpy as np
import pyro
import pytest
import torch
from gpytorch.kernels import ScaleKernel
from gpytorch.priors import LogNormalPrior
from scipy.stats import multivariate_normal

from resnet_gp.bayes.hyperparameters import sample_hyperparameters
from resnet_gp.kernels import ResNetLimitKernel
from resnet_gp.kernels.priors import RelatedLogNormalPrior, register_value_prior

GROUPS = (0, 1, 1, 1, 2)
MEAN, SCALE, SPREAD = 0.3, 0.8, 0.5


def covariance():
    """Of the logarithms, entry by entry."""
    found = np.zeros((5, 5))
    for i, one in enumerate(GROUPS):
        for j, other in enumerate(GROUPS):
            found[i, j] = SCALE**2 * (one == other) + SPREAD**2 * (i == j and one == 1)
    return found


def prior():
    return RelatedLogNormalPrior(GROUPS, MEAN, SCALE, SPREAD)


def test_logarithms_are_normal_with_these_covariances():
    values = torch.rand(7, 5, dtype=torch.float64) + 0.1
    expected = multivariate_normal(np.full(5, MEAN), covariance()).logpdf(values.log())
    np.testing.assert_allclose(prior().log_density_of_logarithms(values), expected, rtol=1e-12)
    jacobian = -values.log().sum(1)
    np.testing.assert_allclose(prior().log_prob(values), expected + jacobian.numpy(), rtol=1e-12)


def test_groups_of_one_are_unrelated():
    values = torch.rand(4, dtype=torch.float64) + 0.1
    plain = LogNormalPrior(MEAN, SCALE).log_prob(values).sum()
    found = RelatedLogNormalPrior(range(4), MEAN, SCALE, SPREAD).log_prob(values)
    assert found.item() == pytest.approx(plain.item(), rel=1e-6)  # its numbers are float32


def test_draws_have_these_moments():
    torch.manual_seed(0)
    n = 20_000
    logs = prior().expand((2,)).rsample((n // 2,)).log().reshape(n, 5).numpy()
    truth = covariance()
    z = (logs.mean(0) - MEAN) / np.sqrt(truth.diagonal() / n)
    assert np.abs(z).max() < 4
    error = np.sqrt((truth**2 + np.multiply.outer(truth.diagonal(), truth.diagonal())) / n)
    assert np.abs((np.cov(logs.T) - truth) / error).max() < 4.5


def test_the_same_after_pickle_and_in_another_dtype():
    values = torch.rand(5, dtype=torch.float64) + 0.1
    again = pickle.loads(pickle.dumps(prior()))
    assert torch.equal(again.log_prob(values), prior().log_prob(values))
    single = prior().to(torch.float32).log_prob(values.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), prior().log_prob(values), rtol=1e-5, atol=1e-5)


def test_pyro_draws_the_lengthscales_of_a_kernel():
    kernel = ScaleKernel(ResNetLimitKernel(ard_num_dims=5)).double()
    register_value_prior(kernel.base_kernel, "lengthscale", prior())

    def model():
        return sample_hyperparameters("", kernel).base_kernel.lengthscale

    trace = pyro.poutine.trace(model).get_trace()
    site = trace.nodes["base_kernel.lengthscale"]
    assert site["value"].shape == (1, 5)
    assert torch.equal(trace.nodes["_RETURN"]["value"], site["value"])
    expected = prior().log_prob(site["value"]).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)
