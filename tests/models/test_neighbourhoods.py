"""Compiled loops against plain torch, and both against densities from scipy.stats."""

import numpy as np
import pytest
import torch
from gpytorch.kernels import LinearKernel, MaternKernel, RBFKernel, ScaleKernel
from scipy.stats import multivariate_normal, norm

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.models import neighbourhoods
from resnet_gp.models.neighbourhoods import (
    FLOOR,
    Rows,
    compact,
    log_density,
    predicted_means,
    whitened,
)

N, D, B = 40, 3, 25
OURS = {
    "limit": lambda: ResNetLimitKernel(ard_num_dims=D),
    "bias": lambda: ResNetLimitKernel(input_bias=True, variance="no_growth", ard_num_dims=D),
    "contrast": lambda: ResNetLimitKernel(
        input_bias=True, variance="no_growth", contrast=True, ard_num_dims=D
    ),
    "unit": lambda: ResNetLimitKernel(input_bias=True, variance="unit"),
    "leaky": lambda: ResNetLimitKernel("leaky_relu", negative_slope=0.3, input_bias=True),
    "linear": lambda: ResNetLimitKernel("leaky_relu", negative_slope=1.0, input_bias=True),
    "depth": lambda: ResNetLimitKernel(depth=3, input_bias=True),
    "tangent": lambda: ResNetTangentKernel(input_bias=True, ard_num_dims=D),
    "deep tangent": lambda: ResNetTangentKernel(depth=4, layers="blocks", input_bias=True),
    "sum": lambda: ResNetSumKernel(
        input_bias=True, variance="no_growth", contrast=True, ard_num_dims=D
    ),
    "sum of tangents": lambda: ResNetSumKernel(kind="tangent", input_bias=True),
}
OTHERS = {
    "matern": lambda: MaternKernel(2.5, ard_num_dims=D),
    "rbf and linear": lambda: RBFKernel() + LinearKernel(),
    "erf": lambda: ResNetLimitKernel("erf", depth=2, input_bias=True),
    "active": lambda: RBFKernel(ard_num_dims=2, active_dims=(2, 0)),
    "limit of active": lambda: ResNetLimitKernel(input_bias=True, active_dims=(2, 0)),
}  # fmt: skip


def kernel(name, dtype=torch.float64):
    scaled = ScaleKernel((OURS | OTHERS)[name]()).to(dtype)
    scaled.outputscale = 1.7
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in scaled.base_kernel.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(dtype)
    return scaled


def data(p=1, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, dtype=torch.float64, generator=generator)
    y = torch.randn(N, p, dtype=torch.float64, generator=generator)
    noise = scale * (0.05 + 0.5 * torch.rand(N, dtype=torch.float64, generator=generator))
    return Rows(x.to(dtype), y.to(dtype), noise.to(dtype))


def members(m, b=B):
    generator = np.random.default_rng(1)
    return torch.from_numpy(np.stack([generator.permutation(N)[:m] for _ in range(b)]))


def covariance(k, rows, index):
    with torch.no_grad():
        return (k(rows.x[index]).to_dense() + torch.diag(rows.noise[index])).double().numpy()


def in_torch(monkeypatch, function, *arguments):
    with monkeypatch.context() as patch:
        patch.setattr("resnet_gp.flow.autograd._numba_module", lambda name: None)
        return function(*arguments)


def gradients(k, rows, index):
    """The density, and its gradients in all hyperparameters and noises."""
    noise = rows.noise.clone().requires_grad_()
    value = log_density(k, Rows(rows.x, rows.y, noise), index)
    return value.detach(), torch.autograd.grad(value, [*k.parameters(), noise])


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
@pytest.mark.parametrize("p", [1, 3])
def test_densities_are_conditional_ones(path, name, p):
    """log p(y_last | others) = log p(all) - log p(others), each by scipy."""
    k, rows, index = kernel(name), data(p), members(7, 4)
    expected = 0.0
    for row in index:
        joint, others = covariance(k, rows, row), covariance(k, rows, row[:-1])
        for y in rows.y[row].numpy().T:
            expected += multivariate_normal(np.zeros(7), joint).logpdf(y)
            expected -= multivariate_normal(np.zeros(6), others).logpdf(y[:-1])
    assert log_density(k, rows, index).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["contrast", "sum", "matern"])
def test_errors_are_those_of_each_target_given_the_farther_ones(path, name):
    k, rows, index = kernel(name), data(2), members(6, 3)
    found = whitened(k, rows, index)
    assert found.deviation.shape == (3,)
    assert found.z.shape == (3, 2, 6)
    for b, row in enumerate(index):
        c, y = covariance(k, rows, row), rows.y[row].numpy()
        for j in range(6):
            weights = np.linalg.solve(c[:j, :j], c[:j, j])
            deviation = np.sqrt(c[j, j] - weights @ c[:j, j])
            np.testing.assert_allclose(
                found.z[b, :, j], (y[j] - weights @ y[:j]) / deviation, rtol=1e-8, atol=1e-9
            )
        assert found.deviation[b].item() == pytest.approx(deviation, rel=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 21])
@pytest.mark.parametrize("name", OURS)
def test_compiled_loops_are_those_of_torch(monkeypatch, name, m):
    pytest.importorskip("numba")
    k, rows, index = kernel(name), data(2), members(m)
    found, expected = whitened(k, rows, index), in_torch(monkeypatch, whitened, k, rows, index)
    torch.testing.assert_close(found.deviation, expected.deviation, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.z, expected.z, rtol=1e-10, atol=1e-9)
    value, found = gradients(k, rows, index)
    other, expected = in_torch(monkeypatch, gradients, k, rows, index)
    torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-10)
    for one, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(one, truth, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["matern", "erf"])
def test_one_matrix_of_all_rows_serves_neighbourhoods_that_share_them(name, monkeypatch):
    k, rows, index = kernel(name), data(2), members(N // 2, 8)
    found = []
    for entries in (0, N**2):
        monkeypatch.setattr(neighbourhoods, "_SHARED", entries)
        monkeypatch.setitem(neighbourhoods._ENTRIES, "cpu", 3 * (N // 2) ** 2)
        value, slopes = gradients(k, rows, index)
        one = whitened(k, rows, index)
        means = predicted_means(k, rows, index)
        found.append([value, *slopes, one.deviation, one.z, means])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["bias", "contrast", "tangent", "sum"])
def test_single_precision(path, name):
    k, rows, index = kernel(name), data(2), members(12)
    narrow = kernel(name, torch.float32)
    narrow.load_state_dict({key: value.float() for key, value in k.state_dict().items()})
    single = Rows(rows.x.float(), rows.y.float(), rows.noise.float())
    found, expected = whitened(narrow, single, index), whitened(k, rows, index)
    assert found.z.dtype == found.deviation.dtype == torch.float32
    torch.testing.assert_close(found.deviation.double(), expected.deviation, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.z.double(), expected.z, rtol=1e-3, atol=1e-3)
    value, found = gradients(narrow, single, index)
    other, expected = gradients(k, rows, index)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(other.item(), rel=1e-4)
    for one, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), truth, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["contrast", "matern"])
def test_a_noise_below_the_floor_counts_as_the_floor(path, name, dtype):
    """Copies of a row are finite, and the noise, which the floor replaces, has no gradient."""
    k, rows, index = kernel(name, dtype), data(1, dtype, scale=0.0), members(4, 6)
    index[:, 1] = index[:, 0]
    found = whitened(k, rows, index)
    assert found.deviation.isfinite().all()
    floor = FLOOR[dtype] * k(rows.x, diag=True).detach()
    at_floor = whitened(k, Rows(rows.x, rows.y, floor), index)
    torch.testing.assert_close(found.deviation, at_floor.deviation, rtol=1e-6, atol=0)
    *_, of_noise = gradients(k, rows, index)[1]
    assert (of_noise == 0).all()


@pytest.mark.parametrize("name", ["contrast", "matern"])
def test_what_cannot_be_factorised(path, name):
    k, rows, index = kernel(name), data(2), members(5, 6)
    rows.noise[index[2, 0]] = torch.nan
    bad = (index == index[2, 0]).any(1)
    found = whitened(k, rows, index)
    assert torch.equal(found.deviation.isnan(), bad)
    assert torch.equal(found.z.isnan().any(-1).any(-1), bad)
    with pytest.raises(torch.linalg.LinAlgError, match="neighbourhood cannot be factorised"):
        log_density(k, rows, index)


@pytest.mark.parametrize("name", ["contrast", "sum", "matern"])
def test_parts_and_threads_change_nothing(path, monkeypatch, name):
    """Each neighbourhood has the same bits with all others, alone, and in threads."""
    k, rows, index = kernel(name), data(2), members(9)
    whole = whitened(k, rows, index)
    value, slopes = gradients(k, rows, index)
    exact = path == "compiled" and name != "matern"
    for b in range(0, B, 6):
        few, own = compact(rows, index[b : b + 1])
        alone = whitened(k, few, own)
        if exact:
            assert torch.equal(alone.deviation, whole.deviation[b : b + 1])
            assert torch.equal(alone.z, whole.z[b : b + 1])
        torch.testing.assert_close(alone.z, whole.z[b : b + 1], rtol=1e-11, atol=1e-12)
    monkeypatch.setattr(neighbourhoods, "_ENTRIES", {"cpu": 3 * 81, "cuda": 3 * 81})
    monkeypatch.setattr("resnet_gp.threads._SERIAL", 10)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        parts = whitened(k, rows, index)
        in_parts, slopes_in_parts = gradients(k, rows, index)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(parts.z, whole.z, rtol=1e-11, atol=1e-12)
    if exact:
        assert torch.equal(parts.z, whole.z)
        assert torch.equal(parts.deviation, whole.deviation)
    torch.testing.assert_close(in_parts, value, rtol=1e-12, atol=1e-12)
    for one, other in zip(slopes_in_parts, slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_a_target_without_neighbours(path):
    k, rows = kernel("contrast"), data(1)
    index = torch.arange(N)[:, None]
    variance = (k(rows.x, diag=True) + rows.noise).detach().numpy()
    expected = norm.logpdf(rows.y[:, 0].numpy(), 0, np.sqrt(variance)).sum()
    assert log_density(k, rows, index).item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(whitened(k, rows, index).deviation, np.sqrt(variance), rtol=1e-9)


def test_inputs_at_the_origin(path):
    """Without an input bias f is 0 there, and so is all that a target says of others."""
    k = ScaleKernel(ResNetLimitKernel()).double()
    rows = data(1)
    rows.x[0] = 0
    index = torch.tensor([[1, 2, 0, 3], [1, 2, 3, 0]])
    found = whitened(k, rows, index)
    without = whitened(k, rows, torch.tensor([[1, 2, 3]]))
    assert found.deviation[0].item() == pytest.approx(without.deviation[0].item())
    assert found.deviation[1].item() == pytest.approx(rows.noise[0].sqrt().item())
    assert found.z[1, 0, -1].item() == pytest.approx((rows.y[0, 0] / rows.noise[0].sqrt()).item())


def test_compact_keeps_what_is_used():
    rows, index = data(2), torch.tensor([[7, 3, 9], [3, 7, 1]])
    few, own = compact(rows, index)
    assert len(few.x) == len(few.y) == len(few.noise) == 4
    for name in ("x", "y", "noise"):
        assert torch.equal(getattr(few, name)[own], getattr(rows, name)[index])
