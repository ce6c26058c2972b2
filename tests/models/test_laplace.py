import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from resnet_gp.models.dirichlet import dirichlet_targets, heteroscedastic_leave_one_out
from resnet_gp.models.laplace import fit_laplace
from resnet_gp.models.leave_one_out import leave_one_out


def data(n=25, classes=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    return x, np.digitize(x[:, 0], [-0.4, 0.4][: classes - 1])


def covariance_of(x, scale=2.0):
    gaps = np.square(x[:, None] - x).sum(-1)
    return torch.from_numpy(scale * np.exp(-gaps / 2))


def test_two_classes_are_the_logistic_model_of_their_difference():
    """f_1 - f_0 has twice the covariance; scikit-learn has Laplace's approximation for it."""
    x, y = data(classes=2)
    fit = fit_laplace(covariance_of(x), torch.from_numpy(y), 2)
    assert fit.converged
    kernel = ConstantKernel(4.0, "fixed") * RBF(1.0, "fixed")
    peer = GaussianProcessClassifier(kernel, optimizer=None).fit(x, y)
    assert fit.log_evidence == pytest.approx(peer.log_marginal_likelihood_value_, abs=1e-3)
    f = covariance_of(x) @ fit.weights
    p = torch.softmax(f, 1)[:, 1].numpy()
    np.testing.assert_allclose(fit.weights[:, 1].numpy(), y - p, atol=1e-3)


def test_the_mode_is_where_the_gradient_vanishes():
    x, y = data()
    covariance = covariance_of(x)
    fit = fit_laplace(covariance, torch.from_numpy(y), 3)
    p = torch.softmax(covariance @ fit.weights, 1)
    truth = torch.nn.functional.one_hot(torch.from_numpy(y), 3).double()
    torch.testing.assert_close(fit.weights, truth - p, rtol=0, atol=1e-3)


def test_the_determinant_of_the_evidence():
    x, y = data(n=8)
    covariance = covariance_of(x)
    fit = fit_laplace(covariance, torch.from_numpy(y), 3)
    f = covariance @ fit.weights
    p = torch.softmax(f, 1)
    stacked = p.mT.reshape(-1)  # class by class
    pi = torch.cat([torch.diag(column) for column in p.unbind(1)])
    curvature = torch.diag(stacked) - pi @ pi.mT
    whole = torch.block_diag(*[covariance] * 3)
    determinant = torch.logdet(torch.eye(24, dtype=torch.float64) + whole @ curvature)
    likelihood = torch.log(p[torch.arange(8), torch.from_numpy(y)]).sum()
    expected = likelihood - 0.5 * (fit.weights * f).sum() - 0.5 * determinant
    assert fit.log_evidence == pytest.approx(expected.item(), rel=1e-6)


def test_dirichlet_targets_have_the_moments_of_gamma_variables():
    targets, noise = dirichlet_targets(torch.tensor([0, 1]), 2, 0.5)
    mean = torch.exp(targets + noise / 2)  # of a log-normal variable
    variance = (torch.exp(noise) - 1) * mean**2
    expected = torch.tensor([[1.5, 0.5], [0.5, 1.5]], dtype=torch.float64)
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(variance, expected)


def test_columns_with_noise_of_their_own():
    x, _ = data(n=10)
    covariance = covariance_of(x)
    targets = torch.randn(10, 2, dtype=torch.float64)
    noise = 0.1 + torch.rand(10, 2, dtype=torch.float64)
    found = heteroscedastic_leave_one_out(covariance, targets, noise)
    for c in range(2):
        alone = leave_one_out(covariance, targets[:, c : c + 1], noise[:, c])
        torch.testing.assert_close(found.mean[:, c : c + 1], alone.mean)
        torch.testing.assert_close(found.variance[:, c : c + 1], alone.variance)
