import math

import pytest
import torch
from gpytorch.kernels import LinearKernel, RBFKernel

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.models import ExactRegression


def make(outputs=None, kernel=None, n=24, extra=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    shape = (n,) if outputs is None else (n, outputs)
    y = torch.randn(shape, dtype=torch.float64, generator=generator)
    kernel = kernel or ResNetLimitKernel(input_bias=True, variance="no_growth", contrast=True)
    variance = 0.5 * torch.rand(n, dtype=torch.float64, generator=generator) if extra else None
    return ExactRegression(x, y, kernel.double(), variance)


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("extra", [False, True])
def test_outputs_are_independent_and_share_the_variance(outputs, extra):
    model = make(outputs, extra=extra)
    x = torch.randn(5, 2, dtype=torch.float64)
    posterior = model.posterior()
    mean, variance = posterior.mean_and_variance(x)
    columns = [model.train_targets] if outputs is None else model.train_targets.unbind(-1)
    alone = [
        ExactRegression(
            model.train_inputs[0], column, model.covar_module.base_kernel, model.extra_variance
        )
        for column in columns
    ]
    means = torch.stack([one.posterior().mean(x) for one in alone], -1)
    torch.testing.assert_close(mean.reshape(means.shape), means, rtol=1e-11, atol=1e-12)
    shared = alone[0].posterior().mean_and_variance(x)[1]
    torch.testing.assert_close(variance, shared if outputs is None else shared[:, None] + 0 * mean)
    total = sum(one.log_marginal_likelihood() for one in alone)
    torch.testing.assert_close(model.log_marginal_likelihood(), total, rtol=1e-12, atol=1e-10)
    assert posterior.log_marginal_likelihood() == pytest.approx(total.item(), rel=1e-12)


@pytest.mark.parametrize("outputs", [None, 2])
def test_leave_one_out_is_what_fits_without_each_row_say(outputs):
    model = make(outputs, n=8, extra=True)
    mean, variance = model.posterior().leave_one_out()
    x, y, extra = model.train_inputs[0], model.train_targets, model.extra_variance
    for i in range(8):
        others = torch.arange(8) != i
        kernel = model.covar_module.base_kernel
        less = ExactRegression(x[others], y[others], kernel, extra[others]).posterior()
        expected_mean, latent = less.mean_and_variance(x[i : i + 1])
        torch.testing.assert_close(mean[i], expected_mean[0], rtol=1e-10, atol=1e-11)
        noise = model.likelihood.noise.detach()[0] + extra[i]
        torch.testing.assert_close(variance[i], latent[0] + noise, rtol=1e-10, atol=1e-12)
        of_f = model.posterior().leave_one_out(observation_noise=False)[1]
        torch.testing.assert_close(of_f[i], latent[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("outputs", [None, 2])
def test_left_out_rows_have_no_robust_weight(outputs):
    """As if a new row came: the others are weighed, its own noise is the usual one."""
    model = make(outputs, n=8, extra=True)
    x, y, extra = model.train_inputs[0], model.train_targets, model.extra_variance
    weight, robust = (torch.linspace(0.2, top, 8, dtype=torch.float64) for top in (3, 1))
    kernel = model.covar_module.base_kernel
    posterior = ExactRegression(x, y, kernel, extra, weight, robust).posterior()
    start = ExactRegression(x[:5], y[:5], kernel, extra[:5], weight[:5], robust[:5])
    mean, variance = posterior.leave_one_out()
    pairs = posterior.leave_pair_out()
    for i in range(8):
        noise = (model.likelihood.noise.detach()[0] + extra[i]) / weight[i]
        for j in range(8):
            others = [k for k in range(8) if k not in (i, j)]
            rows = (x[others], y[others], kernel, extra[others], weight[others], robust[others])
            expected, latent = ExactRegression(*rows).posterior().mean_and_variance(x[i : i + 1])
            if i == j:
                torch.testing.assert_close(mean[i], expected[0], rtol=1e-10, atol=1e-11)
                torch.testing.assert_close(variance[i], latent[0] + noise, rtol=1e-10, atol=1e-12)
                of_f = posterior.leave_one_out(observation_noise=False)[1]
                torch.testing.assert_close(of_f[i], latent[0], rtol=1e-9, atol=1e-10)
            else:
                z = (y[i] - expected[0]) / (latent[0] + noise).sqrt()
                torch.testing.assert_close(torch.as_tensor(pairs[j, i]), z, rtol=1e-8, atol=1e-9)
    usual = torch.ones(3, dtype=torch.float64)
    more = start.posterior().condition(x[5:], y[5:], extra[5:])
    both = [torch.cat([part[:5], usual]) for part in (weight, robust)]
    whole = ExactRegression(x, y, kernel, extra, *both).posterior()
    for one, other in zip(more.leave_one_out(), whole.leave_one_out(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("outputs", [None, 2])
def test_conditioning_in_two_steps_is_conditioning_at_once(outputs):
    model = make(outputs, extra=True)
    x, y, extra = model.train_inputs[0], model.train_targets, model.extra_variance
    kernel = model.covar_module.base_kernel
    first = ExactRegression(x[:15], y[:15], kernel, extra[:15]).posterior()
    both = first.condition(x[15:], y[15:], extra[15:])
    whole = model.posterior()
    torch.testing.assert_close(both.cholesky, whole.cholesky, rtol=1e-10, atol=1e-12)
    points = torch.randn(4, 2, dtype=torch.float64)
    for one, other in zip(
        both.mean_and_variance(points), whole.mean_and_variance(points), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def with_linear():
    own = ResNetLimitKernel(input_bias=True, variance="no_growth")
    return LinearKernel() + own


@pytest.mark.parametrize(
    ("outputs", "kernel"), [(None, None), (2, None), (None, LinearKernel), (None, with_linear)]
)
def test_gradient_of_the_posterior(outputs, kernel, monkeypatch):
    monkeypatch.setattr("resnet_gp.models.exact_posterior._GRADIENT_PAIRS", 50)  # several slices
    posterior = make(outputs, kernel and kernel()).posterior()
    x = torch.randn(5, 2, dtype=torch.float64)
    mean, variance = posterior.gradient(x, with_variance=True)
    step = 1e-4
    for i, direction in enumerate(torch.eye(2, dtype=torch.float64)):
        pairs = torch.stack([x + step * direction, x - step * direction], 1)
        above, below = posterior.mean(pairs[:, 0]), posterior.mean(pairs[:, 1])
        torch.testing.assert_close(mean[:, i], (above - below) / (2 * step), rtol=1e-5, atol=1e-6)
        for row in range(5):
            _, covariance = posterior.mean_and_covariance(pairs[row])
            difference = torch.tensor([1.0, -1.0], dtype=torch.float64) / (2 * step)
            shared = covariance if outputs is None else covariance[..., 0]
            expected = difference @ shared @ difference
            assert variance[row, i].reshape(-1)[-1].item() == pytest.approx(
                expected.item(), rel=1e-3, abs=1e-6
            )


@pytest.mark.parametrize("kernel", [ResNetTangentKernel(input_bias=True), RBFKernel()])
def test_gradient_variance_needs_second_derivatives(kernel):
    posterior = make(kernel=kernel).posterior()
    x = torch.randn(3, 2, dtype=torch.float64)
    assert posterior.gradient(x, with_variance=False)[0].shape == (3, 2)
    with pytest.raises(RuntimeError, match=r"second derivatives where its inputs coincide: .+"):
        posterior.gradient(x, with_variance=True)


def test_a_starting_value_is_finite():
    assert math.isfinite(make().log_marginal_likelihood().item())
