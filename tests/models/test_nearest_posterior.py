import math

import numpy as np
import pytest
import torch
from gpytorch.kernels import LinearKernel, MaternKernel, RBFKernel
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_gp import ResNetLimitKernel
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.models import ExactRegression, nearest_posterior, neighbours
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.posterior import UnsupportedError
from resnet_gp.predictive.local_scale import LocalScale

N, D = 40, 2
STUDENT = LocalScale(5.0, 1.2, 6.0)
TWO_PARTS = LocalScale(5.0, 1.2, 6.0, 0.3, -1.5, 0.2)
KERNELS = {
    "limit": lambda: ResNetLimitKernel(
        input_bias=True, variance="no_growth", contrast=True, ard_num_dims=D
    ),
    "sum": lambda: ResNetSumKernel(input_bias=True, variance="no_growth", ard_num_dims=D),
    "matern": lambda: MaternKernel(2.5, ard_num_dims=D),
}


def data(outputs=None, n=N, dtype=torch.float64, seed=0):
    """Rows of which the first are the same for every n."""
    numbers = np.random.default_rng(seed).normal(size=(n, D + (outputs or 1)))
    x, noise = torch.from_numpy(numbers).split([D, outputs or 1], 1)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] + 0.2 * noise
    return x.to(dtype), (y if outputs else y[:, 0]).to(dtype)


def extra_variance(n=N):
    return torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def at(model, noise=0.04):
    model.likelihood.noise = torch.tensor(
        noise, dtype=torch.float64
    )  # floats would be rounded to float32
    model.covar_module.outputscale = torch.tensor(1.7, dtype=torch.float64)
    return model


def posterior(x, y, k, kernel="limit", extra=None, weight=None, scale=None, **options):
    kernel = KERNELS[kernel]() if isinstance(kernel, str) else kernel
    return at(NearestRegression(x, y, kernel, k, scale, extra, weight), **options).posterior()


def exact(x, y, kernel="limit", extra=None, weight=None):
    return at(ExactRegression(x, y, KERNELS[kernel]().double(), extra, weight)).posterior()


def points(n=12):
    return data(n=n, seed=5)[0]


def close(found, expected, tolerance=1e-10):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("outputs", [None, 1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rows", [False, True], ids=["alone", "weighted"])
def test_with_all_rows_it_is_the_exact_posterior(path, outputs, kernel, rows):
    (x, y), new = data(outputs), points()
    own = {"extra": extra_variance(), "weight": 0.3 + extra_variance()} if rows else {}
    found, truth = posterior(x, y, N, kernel, **own), exact(x, y, kernel, **own)
    close([found.mean(new)], [truth.mean(new)])
    close(found.mean_and_variance(new), truth.mean_and_variance(new))
    for noise in (True, False):
        one, other = found.law(new, noise), truth.law(new, noise)
        assert one.shape == other.shape
        np.testing.assert_allclose(one.means, other.means, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(one.scales, other.scales, rtol=1e-9, atol=1e-10)
        close(found.leave_one_out(noise), truth.leave_one_out(noise), 1e-9)
    np.testing.assert_allclose(
        found.leave_one_out_law().std, truth.leave_one_out_law().std, rtol=1e-9
    )
    # n - 1 neighbours leave one row out, and are all that left-out rows have
    close(posterior(x, y, N - 1, kernel, **own).leave_one_out(), truth.leave_one_out(), 1e-9)


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("kernel", ["limit", "sum"])
def test_with_all_rows_gradients_are_the_exact_ones(path, monkeypatch, outputs, kernel):
    (x, y), new = data(outputs), points()
    found, truth = posterior(x, y, 99, kernel), exact(x, y, kernel)
    for with_variance in (True, False):
        one, other = (part.gradient(new, with_variance) for part in (found, truth))
        close(one[: 1 + with_variance], other[: 1 + with_variance], 1e-8)
    assert one[1] is None


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_is_that_of_the_mean(path, kernel):
    """The neighbours stay the same nearby."""
    (x, y), new, step = data(2, 100), points(), 1e-5
    found = posterior(x, y, 10, kernel)
    gradient, nothing = found.gradient(new, with_variance=False)
    assert nothing is None
    for i, direction in enumerate(step * torch.eye(D, dtype=torch.float64)):
        slope = (found.mean(new + direction) - found.mean(new - direction)) / (2 * step)
        torch.testing.assert_close(gradient[:, i], slope, rtol=1e-5, atol=1e-5)


def test_gradient_variances_need_second_derivatives():
    found = posterior(*data(), 5, RBFKernel())
    with pytest.raises(UnsupportedError, match="second derivatives"):
        found.gradient(points(), with_variance=True)


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_with_all_rows_and_points_joint_laws_are_the_exact_ones(path, outputs, kernel):
    (x, y), new = data(outputs), points()
    found, truth = posterior(x, y, N + 12, kernel), exact(x, y, kernel)
    close(found.mean_and_covariance(new), truth.mean_and_covariance(new), 1e-8)
    for noise in (True, False):
        close(found.joint(new, noise), truth.joint(new, noise), 1e-8)


@pytest.mark.parametrize("scale", [None, STUDENT, TWO_PARTS], ids=["normal", "student", "two"])
@pytest.mark.parametrize("outputs", [None, 2])
def test_joint_laws_have_the_marginals_of_the_points(path, outputs, scale):
    (x, y), new = data(outputs, 80), torch.cat([points(), points(3)])  # three points twice
    found = posterior(x, y, 7, scale=scale)
    for noise in (True, False):
        mean, covariance = found.joint(new, noise)
        law = found.law(new, noise)
        np.testing.assert_allclose(mean, law.mean, rtol=1e-12)
        variance = torch.einsum("ii...->i...", covariance)
        np.testing.assert_allclose(variance, law.variance, rtol=1e-9)
        for one in [covariance] if outputs is None else covariance.unbind(-1):
            torch.testing.assert_close(one, one.mT)
            assert torch.linalg.eigvalsh(one)[0] > -1e-9
    correlation = found.joint(new, False)[1].reshape(15, 15, -1)[..., 0]
    torch.testing.assert_close(correlation[0, 12], correlation[0, 0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kernel", ["limit", "matern"])
def test_errors_fall_with_the_number_of_neighbours(kernel):
    """Against the exact posterior, on targets of a process that has this covariance."""
    x = data(n=300)[0]
    truth = exact(x, x[:, 0], kernel)
    generator = torch.Generator().manual_seed(2)
    factor = torch.linalg.cholesky(
        truth.covar_module(x).to_dense().detach() + 0.04 * torch.eye(300, dtype=torch.float64)
    )
    y = factor @ torch.randn(300, dtype=torch.float64, generator=generator)
    new = points(200)
    mean, variance = exact(x, y, kernel).mean_and_variance(new)
    errors = []
    for k in (3, 10, 30, 100):
        one, spread = posterior(x, y, k, kernel).mean_and_variance(new)
        errors.append((one - mean).square().mean().item())
        assert (spread > variance - 1e-10).all()  # fewer rows never say more
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 * errors[0]
    assert errors[-1] < 0.1 * variance.mean()


@pytest.mark.parametrize("outputs", [None, 2])
def test_the_local_scale_is_that_of_the_neighbours(path, outputs):
    """Factors from the errors of each neighbour given the farther ones, one by one."""
    (x, y), new = data(outputs), points(5)
    k = 6
    plain, found = posterior(x, y, k), posterior(x, y, k, scale=STUDENT)
    distances = torch.cdist(new / plain.widths, x / plain.widths)
    law, normal = found.law(new), plain.law(new)
    np.testing.assert_array_equal(law.means, normal.means)
    columns = y.reshape(N, -1)
    for i in range(5):
        near = distances[i].argsort()[:k].flip(0)
        with torch.no_grad():
            covariance = plain.covar_module(x[near]).to_dense() + 0.04 * torch.eye(
                k, dtype=torch.float64
            )
        z = torch.linalg.solve_triangular(
            torch.linalg.cholesky(covariance), columns[near], upper=False
        )
        factors = 1.2 * ((5 + z.square().clamp(max=25).sum(0)) / (5 + k)).sqrt()
        np.testing.assert_allclose(
            np.ravel(law.scales[0, i] / normal.scales[0, i]), np.ravel(factors), rtol=1e-9
        )
    latent = found.law(new, observation_noise=False)
    np.testing.assert_array_equal(latent.scales, plain.law(new, observation_noise=False).scales)
    assert math.isinf(latent.df)
    assert law.df == 6.0


@pytest.mark.parametrize("scale", [STUDENT, TWO_PARTS])
def test_left_out_laws_have_the_variances_that_are_returned(scale):
    x, y = data(2)
    found = posterior(x, y, 6, scale=scale, extra=extra_variance())
    mean, variance = found.leave_one_out()
    law = found.leave_one_out_law()
    np.testing.assert_allclose(mean, law.mean)
    np.testing.assert_allclose(variance, law.variance)
    latent = found.leave_one_out(observation_noise=False)[1]
    normal = posterior(x, y, 6, extra=extra_variance()).leave_one_out()[1]
    gap = (normal - latent)[:, 0] - extra_variance()
    np.testing.assert_allclose(gap, 0.04, rtol=1e-9)


def test_left_out_rows_are_predicted_as_new_points_from_the_others(path):
    x, y = data()
    found = posterior(x, y, 6, "matern", scale=STUDENT)
    mean, variance = found.leave_one_out()
    for i in range(0, N, 7):
        rest = torch.arange(N) != i
        others = posterior(x[rest], y[rest], 6, "matern", scale=STUDENT)
        others = others.replace(widths=found.widths, index=neighbours.Neighbours(
            (x[rest] / found.widths).numpy()
        ))  # fmt: skip
        law = others.law(x[i : i + 1])
        assert mean[i].item() == pytest.approx(law.mean[0], rel=1e-9, abs=1e-10)
        assert variance[i].item() == pytest.approx(law.variance[0], rel=1e-9)


def test_the_likelihood_is_that_of_left_out_targets(monkeypatch):
    x, y = data(2)
    found = posterior(x, y, 6, scale=STUDENT)
    expected = found.leave_one_out_law().log_density(y.numpy()).sum()
    assert found.log_marginal_likelihood() == pytest.approx(expected)
    monkeypatch.setattr(nearest_posterior, "_DENSITY_ROWS", 20)
    some = found.log_marginal_likelihood()
    assert some != pytest.approx(expected)
    assert some == pytest.approx(expected, abs=0.6 * abs(expected) + 30)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("outputs", [None, 2])
def test_predictions_do_not_depend_on_what_else_is_asked_for(path, monkeypatch, kernel, outputs):
    (x, y), new = data(outputs), points()
    found = posterior(x, y, 9, kernel, scale=STUDENT)
    whole, left_out = found.law(new), found.leave_one_out()
    alone = [found.law(point[None]) for point in new]
    monkeypatch.setattr(nearest_posterior, "_CHUNK", 5)
    in_parts, left_out_in_parts = found.law(new), found.leave_one_out()
    if path == "compiled" and kernel != "matern":
        np.testing.assert_array_equal(in_parts.means, whole.means)
        np.testing.assert_array_equal(in_parts.scales, whole.scales)
        np.testing.assert_array_equal(np.concatenate([one.mean for one in alone]), whole.mean)
        np.testing.assert_array_equal(np.concatenate([one.std for one in alone]), whole.std)
        assert torch.equal(left_out_in_parts[0], left_out[0])
        assert torch.equal(left_out_in_parts[1], left_out[1])
    np.testing.assert_allclose(in_parts.std, whole.std, rtol=1e-12)
    np.testing.assert_allclose([one.mean[0] for one in alone], whole.mean, rtol=1e-9, atol=1e-11)


def test_gradients_do_not_depend_on_what_else_is_asked_for(monkeypatch):
    (x, y), new = data(2), points()
    found = posterior(x, y, 9)
    whole = found.gradient(new, with_variance=True)
    monkeypatch.setattr(nearest_posterior, "_GRADIENT_ENTRIES", 200)
    close(found.gradient(new, with_variance=True), whole)


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr("resnet_gp.threads._SERIAL", 10)
    (x, y), new = data(2), points()
    found = posterior(x, y, 9, scale=STUDENT)
    one = found.law(new), found.leave_one_out_law()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        other = found.law(new), found.leave_one_out_law()
    finally:
        torch.set_num_threads(before)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.means, b.means)
        np.testing.assert_array_equal(a.scales, b.scales)


def test_the_order_of_rows_does_not_matter():
    (x, y), new = data(), points()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    found = posterior(x, y, 9, "matern", scale=STUDENT)
    other = posterior(x[order], y[order], 9, "matern", scale=STUDENT)
    torch.testing.assert_close(other.widths, found.widths)
    np.testing.assert_allclose(other.law(new).mean, found.law(new).mean, rtol=1e-10)
    np.testing.assert_allclose(other.law(new).std, found.law(new).std, rtol=1e-10)
    close([other.leave_one_out()[0]], [found.leave_one_out()[0][order]])


@pytest.mark.parametrize("waiting", [0, 1000])
@pytest.mark.parametrize("outputs", [None, 2])
def test_conditioning_row_by_row_is_conditioning_at_once(monkeypatch, outputs, waiting):
    """Whether appended rows wait beside the tree or not."""
    monkeypatch.setattr(neighbours, "_WAITING", waiting)
    (x, y), new, extra = data(outputs), points(), extra_variance()
    first = posterior(x[:25], y[:25], 9, "matern", extra=extra[:25])
    at_once = step = first
    at_once = first.condition(x[25:], y[25:], extra[25:])
    for i in range(25, N):
        step = step.condition(x[i : i + 1], y[i : i + 1], extra[i : i + 1])
    assert len(first.rows.x) == 25
    close(step.mean_and_variance(new), at_once.mean_and_variance(new))
    close(step.leave_one_out(), at_once.leave_one_out())
    truth = posterior(x, y, N, "matern", extra=extra)
    all_rows = step.replace(n_neighbors=N)
    close(all_rows.mean_and_variance(new), truth.mean_and_variance(new))
    without = first.condition(x[25:], y[25:])
    torch.testing.assert_close(
        without.rows.noise[25:], torch.full((15,), 0.04, dtype=torch.float64)
    )


def test_more_copies_than_neighbours(path):
    """A point with many copies is known but for the noise of k targets; the rest are as before."""
    x, y = data(n=6)
    many, targets = x.repeat_interleave(30, 0), y.repeat_interleave(30, 0)
    found = posterior(many, targets, 5, scale=STUDENT)
    mean, variance = found.mean_and_variance(x)
    prior = found.covar_module(x, diag=True).detach()
    torch.testing.assert_close(mean, y * prior / (prior + 0.04 / 5), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(variance, 1 / (1 / prior + 5 / 0.04), rtol=1e-6, atol=0)
    left_mean, left_variance = found.leave_one_out()
    assert left_mean.isfinite().all()
    assert left_variance.isfinite().all()


def test_copies_without_noise_are_the_target_itself(path):
    x, y = data(n=20)
    found = posterior(torch.cat([x, x]), torch.cat([y, y]), 8, noise=1e-8)
    mean, variance = found.mean_and_variance(x)
    torch.testing.assert_close(mean, y, rtol=1e-4, atol=1e-4)
    assert (variance >= 0).all()
    assert (variance < 1e-6).all()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2, 50])
def test_few_rows(path, n, k):
    (x, y), new = data(n=n), points()
    found = posterior(x, y, k, scale=STUDENT)
    if k >= n:
        close(found.mean_and_variance(new), exact(x, y).mean_and_variance(new))
    mean, variance = found.leave_one_out()
    assert mean.isfinite().all()
    assert (variance > 0).all()
    if n == 1:
        assert mean.item() == 0
    found.condition(new, new[:, 0]).leave_one_out_law()
    assert found.gradient(new, True)[1].shape == new.shape
    assert math.isfinite(found.log_marginal_likelihood())


def test_one_neighbour(path):
    (x, y), new = data(), points()
    found = posterior(x, y, 1, "matern")
    near = torch.cdist(new / found.widths, x / found.widths).argmin(1)
    with torch.no_grad():
        cross = found.covar_module(new, x[near], diag=True)
        noisy = found.covar_module(x[near], diag=True) + 0.04
    expected = cross / noisy * y[near], 1.7 - cross.square() / noisy
    close(found.mean_and_variance(new), expected, 1e-9)


def test_constant_columns_change_nothing(path):
    (x, y), new = data(), points()
    kernel = MaternKernel(2.5)
    found = posterior(x, y, 9, kernel)
    wider = [torch.cat([part, torch.full((len(part), 1), 3.0)], 1) for part in (x, new)]
    other = posterior(wider[0].double(), y, 9, kernel)
    close(other.mean_and_variance(wider[1].double()), found.mean_and_variance(new), 1e-9)


def test_single_precision(path):
    (x, y), new = data(2), points()
    found = posterior(x, y, 9, scale=STUDENT)
    narrow = posterior(x.float(), y.float(), 9, scale=STUDENT)
    mean, variance = narrow.mean_and_variance(new.float())
    assert mean.dtype == variance.dtype == torch.float32
    close([mean.double(), variance.double()], found.mean_and_variance(new), 2e-3)
    left = narrow.leave_one_out()
    assert left[1].dtype == torch.float32
    close([part.double() for part in left], found.leave_one_out(), 5e-3)
    assert narrow.joint(new.float())[1].dtype == torch.float32
    assert narrow.gradient(new.float(), True)[0].dtype == torch.float32


def test_where_the_prior_has_no_variance(path):
    """f = 0 at the origin of a linear or homogeneous kernel without bias, whatever the targets."""
    x, y = data()
    new = torch.cat([torch.zeros(1, D, dtype=torch.float64), points(2)])
    for kernel in (ResNetLimitKernel(), LinearKernel()):
        found = posterior(x, y, 9, kernel)
        mean, variance = found.mean_and_variance(new)
        assert mean[0] == 0
        assert 0 <= variance[0] < 1e-30
        assert (variance[1:] > 0).all()
        assert found.law(new).std[0] == pytest.approx(0.2)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(0, 2**16), st.booleans())
def test_variances_are_between_those_of_all_rows_and_none(k, seed, coarse):
    x, y = data(n=12, seed=seed)
    new = data(n=5, seed=seed + 1)[0]
    if coarse:  # many rows and points coincide
        x, new = x.round(), new.round()
    found, truth = posterior(x, y, k), exact(x, y)
    variance = found.mean_and_variance(new)[1]
    assert (variance >= truth.mean_and_variance(new)[1] - 1e-9).all()
    assert (variance <= found.covar_module(new, diag=True) + 1e-9).all()
    np.testing.assert_allclose(found.law(new).variance, variance + 0.04, rtol=1e-12)
