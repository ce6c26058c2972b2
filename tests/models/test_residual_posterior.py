"""A posterior with a residual law: targets change, the latent function does not."""

import math

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel

from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.mixture import ExactMixture
from resnet_gp.models.residual_posterior import ResidualPosterior
from resnet_gp.models.sparse import SparseRegression
from resnet_gp.predictive import residual_law

GENERATOR = torch.Generator().manual_seed(0)
X = torch.linspace(-3, 3, 80, dtype=torch.float64)[:, None]
NOISE = torch.where(X[:, 0] > 0, 0.5, 0.02)
Y = torch.sin(2 * X[:, 0]) + NOISE * torch.randn(80, generator=GENERATOR, dtype=torch.float64)
PEAKED = torch.where(torch.rand(80, generator=GENERATOR) < 0.5, 0.0, NOISE.exp() * Y.abs())
NEW = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]], dtype=torch.float64)


def model(kind="exact", x=X, y=Y, noise=0.1, lengthscale=0.8):
    kernel = RBFKernel().double()
    kernel.lengthscale = lengthscale
    made = (
        SparseRegression(x, y, kernel, x[::4])
        if kind == "sparse"
        else ExactRegression(x, y, kernel)
    )
    made.likelihood.noise = noise
    return made


def with_residuals(kind="exact", x=X, y=Y, num_optimised=0):
    if kind == "mixture":
        models = [model(x=x, y=y, noise=0.08, lengthscale=0.7), model(x=x, y=y)]
        inner = ExactMixture([one.posterior() for one in models], torch.tensor([0.3, 0.7]))
        metric = models[1].covar_module
    else:
        own = model(kind, x, y)
        inner, metric = own.posterior(), own.covar_module
    return ResidualPosterior.fit(inner, metric, x, y, num_optimised)


@pytest.mark.parametrize("kind", ["exact", "sparse", "mixture"])
def test_the_scale_follows_the_noise_and_the_mean_stays(kind):
    posterior = with_residuals(kind)
    law, inner = posterior.law(NEW), posterior.inner.law(NEW)
    np.testing.assert_array_equal(law.means, inner.means)
    assert (law.std[:2] < 0.6 * inner.std[:2]).all()
    assert (law.std[2:] > inner.std[2:]).all()
    latent = posterior.law(NEW, observation_noise=False)
    np.testing.assert_array_equal(latent.scales, posterior.inner.law(NEW, False).scales)
    assert math.isinf(latent.df)


def correlations(covariance):
    return covariance / covariance.diagonal().outer(covariance.diagonal()).sqrt()


@pytest.mark.parametrize("kind", ["exact", "mixture"])
@pytest.mark.parametrize("y", [Y, PEAKED], ids=["one part", "two parts"])
def test_joint_variances_are_those_of_the_law(kind, y):
    posterior = with_residuals(kind, y=y)
    assert (posterior.residuals.share > 0) == (y is PEAKED)
    mean, covariance = posterior.joint(NEW)
    law = posterior.law(NEW)
    np.testing.assert_allclose(mean, law.mean)
    np.testing.assert_allclose(covariance.diagonal().sqrt(), law.std, rtol=1e-10)
    assert torch.linalg.eigvalsh(covariance).min() > 0
    inner = posterior.inner.joint(NEW)[1]
    for ours, theirs in zip(correlations(covariance), correlations(inner), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["exact", "sparse", "mixture"])
@pytest.mark.parametrize("y", [Y, PEAKED], ids=["one part", "two parts"])
def test_left_out_moments_are_those_of_the_left_out_law(kind, y):
    posterior = with_residuals(kind, y=y)
    law = posterior.leave_one_out_law()
    mean, variance = posterior.leave_one_out()
    np.testing.assert_allclose(variance, law.variance)
    np.testing.assert_allclose(mean, posterior.inner.leave_one_out()[0])
    latent = posterior.leave_one_out(observation_noise=False)[1]
    torch.testing.assert_close(latent, posterior.inner.leave_one_out(False)[1])


def test_an_outlier_does_not_widen_its_own_left_out_law():
    y = Y.clone()
    y[20] += 3.0
    own = model(y=y)
    before, after = (
        with_residuals(),
        ResidualPosterior.fit(own.posterior(), own.covar_module, X, y, 0),
    )
    after.residuals = before.residuals.with_rows(y.numpy(), after.inner.leave_one_out_law())
    clean, dirty = before.leave_one_out_law().scales[0], after.leave_one_out_law().scales[0]
    assert dirty[20] == pytest.approx(clean[20], rel=1e-6)
    assert dirty[21] > clean[21]


def test_one_part_is_what_there_was_before_the_second():
    posterior = with_residuals(y=PEAKED)
    one = posterior.with_one_part()
    assert one.residuals.share == 0
    assert one.residuals.df < posterior.residuals.df
    np.testing.assert_array_equal(one.residuals.squares, posterior.residuals.squares)
    density = [part.leave_one_out_law().log_density(PEAKED).mean() for part in (one, posterior)]
    assert density[1] > density[0] + 0.05


def test_new_rows_count_as_neighbours():
    posterior = with_residuals(x=X[::2], y=Y[::2])
    wild = Y[1::2] + torch.where(X[1::2, 0] < -1.5, 1.0, 0.0)
    more = posterior.condition(X[1::2], wild)
    assert len(more.train_x) == 80
    assert more.law(NEW).scales[0, 0] > 1.2 * posterior.law(NEW).scales[0, 0]
    assert more.residuals.df == posterior.residuals.df


def test_fewer_than_ten_rows_are_gaussian():
    posterior = with_residuals(x=X[::10], y=Y[::10])
    assert posterior.residuals.is_normal
    np.testing.assert_array_equal(posterior.law(NEW).scales, posterior.inner.law(NEW).scales)
    torch.testing.assert_close(posterior.joint(NEW)[1], posterior.inner.joint(NEW)[1])


def test_several_outputs_have_scales_of_their_own():
    y = torch.stack([Y, Y.flip(0)], 1)
    posterior = with_residuals(y=y)
    scales = posterior.law(NEW).scales[0]
    assert scales.shape == (4, 2)
    assert (scales[:2, 0] < scales[:2, 1]).all()
    assert posterior.joint(NEW)[1].shape == (4, 4, 2)
    np.testing.assert_allclose(
        posterior.joint(NEW)[1].diagonal().mT.sqrt(), posterior.law(NEW).std, rtol=1e-10
    )


def test_many_rows_are_thinned(monkeypatch):
    monkeypatch.setattr(residual_law, "_MOST_ROWS", 50)
    posterior = with_residuals()
    assert len(posterior.residuals.squares) == 50
    assert posterior.leave_one_out_law().shape == (80,)
    assert posterior.condition(NEW, torch.zeros(4, dtype=torch.float64)).law(NEW).shape == (4,)
