import pytest
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.models.ensemble import ExactMember
from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.inducing_features import InducingFeatures
from resnet_gp.models.leave_one_out import Spectrum, leave_one_out
from resnet_gp.models.sparse_leave_one_out import SparseMember, SparseSpectrum

NOISE = 0.3


def problem(n=30, p=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    y = torch.randn(n, p, dtype=torch.float64, generator=generator)
    kernel = ResNetLimitKernel(input_bias=True).double().requires_grad_(False)
    return kernel, x, y


def held_out_by_hand(covariance, y):
    """Means and variances of the noisy targets, one regression for each row."""
    n = len(y)
    means, variances = [], []
    for i in range(n):
        others = torch.arange(n) != i
        noisy = covariance[others][:, others] + NOISE * torch.eye(n - 1, dtype=torch.float64)
        solved = torch.linalg.solve(noisy, covariance[others, i])
        means.append(solved @ y[others])
        variances.append(covariance[i, i] + NOISE - solved @ covariance[others, i])
    return torch.stack(means), torch.stack(variances)


@pytest.mark.parametrize("way", ["cholesky", "spectrum"])
def test_is_what_regressions_without_each_row_say(way):
    kernel, x, y = problem()
    covariance = kernel(x).to_dense()
    if way == "cholesky":
        found = leave_one_out(covariance, y, NOISE)
    else:
        found = Spectrum(covariance, y).leave_one_out(NOISE)
    means, variances = held_out_by_hand(covariance, y)
    torch.testing.assert_close(found.mean, means, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.variance[:, 0], variances, rtol=1e-9, atol=1e-10)
    noisy = covariance + NOISE * torch.eye(30, dtype=torch.float64)
    torch.testing.assert_close(found.weights, torch.linalg.solve(noisy, y))
    assert found.squared_error(y) == pytest.approx((means - y).square().mean().item())
    ratio = ((means - y).square() / variances[:, None]).mean(0)
    torch.testing.assert_close(found.outputscale(y), ratio)


def test_noise_must_be_positive():
    kernel, x, y = problem()
    with pytest.raises(ValueError, match="noise must be positive"):
        Spectrum(kernel(x).to_dense(), y).leave_one_out(0.0)


@pytest.mark.parametrize("chunk", [7, 4096])
def test_sparse_leave_one_out_is_exact_for_the_features(chunk, monkeypatch):
    monkeypatch.setattr("resnet_gp.models.sparse_leave_one_out._CHUNK", chunk)
    kernel, x, y = problem()
    features = InducingFeatures.at(kernel, x[greedy_inducing_points(kernel, x, 8)])
    spectrum = SparseSpectrum(features, x, y)
    phi = features(x) / spectrum.scale**0.5
    assert phi.shape == (30, 8)
    means, variances = held_out_by_hand(phi @ phi.mT, y)
    found = spectrum.leave_one_out(NOISE)
    torch.testing.assert_close(found.mean, means, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.variance[:, 0], variances, rtol=1e-8, atol=1e-9)
    [error] = spectrum.squared_errors([NOISE])
    assert error == pytest.approx(found.squared_error(y))
    member = SparseMember.of(spectrum, NOISE, found)
    ridge = torch.linalg.solve(phi.mT @ phi + NOISE * torch.eye(8, dtype=torch.float64), phi.mT @ y)
    torch.testing.assert_close(member.mean(x), phi @ ridge, rtol=1e-8, atol=1e-9)


def test_all_rows_as_inducing_inputs_give_the_exact_regression():
    kernel, x, y = problem()
    spectrum = SparseSpectrum(InducingFeatures.at(kernel, x), x, y)
    scale = kernel(x, diag=True).mean().item()
    exact = leave_one_out(kernel(x).to_dense() / scale, y, NOISE)
    found = spectrum.leave_one_out(NOISE)
    torch.testing.assert_close(found.mean, exact.mean, rtol=1e-9, atol=1e-10)
    sparse = SparseMember.of(spectrum, NOISE, found)
    outputscale = exact.outputscale(y)
    member = ExactMember(kernel, x, exact.weights, scale, NOISE, outputscale)
    new = x + 0.3
    for ours, theirs in zip(
        sparse.mean_and_variance(new), member.mean_and_variance(new), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(sparse.mean(new), member.mean(new), rtol=1e-8, atol=1e-9)
