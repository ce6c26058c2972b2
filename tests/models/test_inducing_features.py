import math

import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.models import SparseRegression
from resnet_gp.models.inducing_features import InducingFeatures, inducing_factor


def points(n=30, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 2, dtype=torch.float64, generator=generator).to(dtype)


def limit_kernel(dtype=torch.float64):
    return ScaleKernel(ResNetLimitKernel(input_bias=True)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_jitter_without_need(dtype):
    covariance = limit_kernel(dtype)(points(6, dtype)).to_dense()
    assert torch.equal(inducing_factor(covariance), torch.linalg.cholesky(covariance))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("shift", [0.0, 1e-12])
def test_duplicates_add_no_more_features(dtype, bound, shift):
    """With every point twice, variances given f(Z) stay the same but for the jitter."""
    x, new = points(6, dtype), points(20, dtype)
    kernel = limit_kernel(dtype).requires_grad_(False)
    once = InducingFeatures.at(kernel, x)
    twice = InducingFeatures.at(kernel, torch.cat([x, x + shift]))
    expected = once.residual_variance(new, once(new))
    found = twice.residual_variance(new, twice(new))
    assert (found - expected).abs().max() < bound * kernel(new, diag=True).mean()


def test_a_smooth_kernel_keeps_all_but_rounding_of_its_variance():
    """The matrix has eigenvalues far below rounding; a jitter of 1e-8 leaves 2e-9 at the points."""
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    features = InducingFeatures.at(RBFKernel().double().requires_grad_(False), x)
    assert features.residual_variance(x, features(x)).max() < 1e-11


@pytest.mark.parametrize(
    ("dtype", "distance", "bound"), [(torch.float64, 1e-8, 1e-4), (torch.float32, 1e-4, 1.0)]
)
def test_rounding_of_nearly_equal_points_does_not_reach_the_bound(dtype, distance, bound):
    """Without the least pivot, values of the bound scatter by 23 and 10 nats."""
    x = points(60)
    y, values = torch.sin(2 * x[:, 0]) + x[:, 1], []
    z = torch.cat([x[:9], x[:1] + distance])
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        rounding = torch.randn(z.shape, dtype=torch.float64, generator=generator)
        near = z * (1 + torch.finfo(dtype).eps * rounding)
        model = SparseRegression(x.to(dtype), y.to(dtype), RBFKernel().to(dtype), near.to(dtype))
        model.likelihood.noise = 0.03
        values.append(model.log_marginal_likelihood().item())
    assert max(values) - min(values) < bound


def test_conditional_is_the_process_given_its_values():
    kernel, x, new = limit_kernel().requires_grad_(False), points(6), points(9) + 0.3
    features = InducingFeatures.at(kernel, x)
    z = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, variance = features.conditional(new, z)
    solved = torch.linalg.solve(kernel(x).to_dense(), kernel(x, new).to_dense())
    torch.testing.assert_close(mean, solved.mT @ features.factor @ z)
    explained = (kernel(x, new).to_dense() * solved).sum(0)
    torch.testing.assert_close(variance, kernel(new, diag=True) - explained)


def test_derivatives_in_the_points():
    kernel, new = limit_kernel(), points(3) + 0.5
    z = torch.ones(4, 1, dtype=torch.float64)

    def conditional(x):
        return InducingFeatures.at(kernel, x).conditional(new, z)

    assert torch.autograd.gradcheck(conditional, points(4).requires_grad_())


def test_says_what_to_do():
    covariance = torch.full((3, 3), math.nan)
    with pytest.raises(torch.linalg.LinAlgError, match="with a relative jitter of 2e-04: choose"):
        inducing_factor(covariance)
