import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.models.ensemble import Ensemble, ExactMember

X = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
NEW = torch.tensor([[0.3], [2.0]], dtype=torch.float64)


def member(noise):
    kernel = ResNetLimitKernel(input_bias=True).double().requires_grad_(False)
    noisy = kernel(X).to_dense() + noise * torch.eye(8)
    weights = torch.linalg.solve(noisy, X.cos())
    return ExactMember(kernel, X, weights, 1.0, noise, torch.ones(1, dtype=torch.float64))


def test_moments_of_a_mixture_from_those_of_its_members():
    members = [member(noise) for noise in (0.01, 0.1, 1.0)]
    weights = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    offset = torch.tensor([0.5], dtype=torch.float64)
    mean, variance = Ensemble(members, weights, offset).mean_and_variance(NEW)
    means, variances = map(
        torch.stack, zip(*(one.mean_and_variance(NEW) for one in members), strict=True)
    )
    shares = weights[:, None, None]
    expected = (shares * means).sum(0)
    second = (shares * (variances + means.square())).sum(0)
    torch.testing.assert_close(mean, expected + offset, rtol=1e-13, atol=0)
    torch.testing.assert_close(variance, second - expected.square(), rtol=1e-10, atol=0)
    torch.testing.assert_close(Ensemble(members, weights, offset).mean(NEW), mean)
