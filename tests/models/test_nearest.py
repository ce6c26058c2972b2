import copy
import pickle

import numpy as np
import pytest
import torch
from gpytorch.kernels import MaternKernel
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.fitting import get_raw
from resnet_gp.fitting.optimiser import set_raw
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.models import ExactRegression
from resnet_gp.models.metric import correlation_widths
from resnet_gp.models.nearest import NearestRegression, sample_rows

N, D = 50, 3
KERNELS = {
    "limit": lambda: ResNetLimitKernel(
        input_bias=True, variance="no_growth", contrast=True, ard_num_dims=D
    ),
    "leaky": lambda: ResNetLimitKernel("leaky_relu", negative_slope=0.3, input_bias=True),
    "depth": lambda: ResNetLimitKernel(depth=3, input_bias=True),
    "tangent": lambda: ResNetTangentKernel(input_bias=True),
    "sum": lambda: ResNetSumKernel(input_bias=True, variance="no_growth", ard_num_dims=D),
    "matern": lambda: MaternKernel(2.5, ard_num_dims=D),
    "erf": lambda: ResNetLimitKernel("erf", depth=1, input_bias=True),
}


def data(outputs=None, n=N, dtype=torch.float64):
    """Rows of which the first are the same for every n."""
    numbers = np.random.default_rng(0).normal(size=(n, D + (outputs or 1)))
    x, noise = torch.from_numpy(numbers).split([D, outputs or 1], 1)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] + 0.1 * noise
    return x.to(dtype), (y if outputs else y[:, 0]).to(dtype)


def of_rows(n=N):
    generator = torch.Generator().manual_seed(1)
    extra = torch.rand(n, dtype=torch.float64, generator=generator)
    return extra, 0.2 + 3 * torch.rand(n, dtype=torch.float64, generator=generator)


def model(outputs=None, kernel="limit", rows=(None, None), n=N, dtype=torch.float64, **options):
    x, y = data(outputs, n, dtype)
    one = NearestRegression(x, y, KERNELS[kernel](), 20, None, *rows, **options)
    one.likelihood.noise = torch.tensor(0.03, dtype=torch.float64)  # floats would be rounded
    one.covar_module.outputscale = torch.tensor(1.7, dtype=torch.float64)
    return one


def gradients(value, one):
    return torch.autograd.grad(value, list(one.parameters()))


@pytest.mark.parametrize("rows", [(None, None), of_rows()], ids=["alone", "weighted"])
@pytest.mark.parametrize("outputs", [None, 2])
def test_the_likelihood_is_that_of_each_row_given_all_others(path, outputs, rows):
    """Fewer rows than 64 neighbours: the pseudo-likelihood of Besag, by scipy."""
    one = model(outputs, rows=rows)
    with torch.no_grad():
        covariance = one.covar_module(one.train_x).to_dense().numpy()
        extra, weight = (0.0, 1.0) if rows[0] is None else (part.numpy() for part in rows)
        covariance += np.diag(np.full(N, (0.03 + extra) / weight))
        value = one.log_marginal_likelihood().item()
    expected = 0.0
    for y in one.train_y.reshape(N, -1).numpy().T:
        for i in range(N):
            rest = np.arange(N) != i
            others = multivariate_normal(np.zeros(N - 1), covariance[np.ix_(rest, rest)])
            expected += multivariate_normal(np.zeros(N), covariance).logpdf(y)
            expected -= others.logpdf(y[rest])
    assert value == pytest.approx(expected, rel=1e-8)


def test_with_few_neighbours_they_are_the_nearest_others(path, monkeypatch):
    monkeypatch.setattr(NearestRegression, "training_neighbors", 4)
    monkeypatch.setattr(NearestRegression, "training_rows", 11)
    one = model(kernel="matern")
    widths = correlation_widths(one.covar_module, one.train_x)
    distances = cdist(one.train_x / widths, one.train_x / widths)
    with torch.no_grad():
        covariance = one.covar_module(one.train_x).to_dense().numpy() + 0.03 * np.eye(N)
        value = one.log_marginal_likelihood().item()
    y, expected = one.train_y.numpy(), 0.0
    for i in sample_rows(N, 11):
        near = np.argsort(distances[i])[:5]
        assert near[0] == i
        for rows, sign in ((near, 1), (near[1:], -1)):
            law = multivariate_normal(np.zeros(len(rows)), covariance[np.ix_(rows, rows)])
            expected += sign * law.logpdf(y[rows])
    assert value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck(path, monkeypatch, kernel):
    monkeypatch.setattr(NearestRegression, "training_neighbors", 7)
    monkeypatch.setattr(NearestRegression, "training_rows", 15)
    one = model(2, kernel, of_rows())
    raw = get_raw(one)
    one.look_up()

    def density(at):
        set_raw(one, at)
        return one.log_marginal_likelihood()

    found = torch.cat([part.reshape(-1) for part in gradients(density(raw), one)]).numpy()
    assert len(found) == len(raw)
    for i, step in enumerate(1e-5 * np.eye(len(raw))):
        with torch.no_grad():
            slope = (density(raw + step) - density(raw - step)).item() / 2e-5
        assert found[i] == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_single_precision(path):
    one, narrow = model(), model(dtype=torch.float32)
    value, other = one.log_marginal_likelihood(), narrow.log_marginal_likelihood()
    assert other.dtype == torch.float32
    assert other.item() == pytest.approx(value.item(), rel=1e-3)
    for a, b in zip(gradients(other, narrow), gradients(value, one), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0.02, atol=0.02)


def test_neighbours_stay_until_they_are_looked_up(monkeypatch):
    """So that the density is smooth in the hyperparameters, whose metric moves."""
    monkeypatch.setattr(NearestRegression, "training_neighbors", 4)
    one = model(kernel="matern")
    one.look_up()
    with torch.no_grad():
        one.covar_module.base_kernel.lengthscale = torch.tensor([0.3, 3.0, 0.3])
        stays = one.log_marginal_likelihood().item()
        one.look_up()
        moves = one.log_marginal_likelihood().item()
        fresh = model(kernel="matern")
        fresh.covar_module.base_kernel.lengthscale = torch.tensor([0.3, 3.0, 0.3])
        assert moves == fresh.log_marginal_likelihood().item()
    assert stays != moves


@pytest.mark.parametrize("rows", [(None, None), of_rows()], ids=["alone", "weighted"])
def test_further_rows_count_as_if_they_had_been_there(rows):
    one = model(rows=rows)
    x, y = data(n=N + 10)
    variance = torch.linspace(0, 1, 10, dtype=torch.float64)
    one.extend(x[N:], y[N:], variance)
    extra = torch.zeros(N, dtype=torch.float64) if rows[0] is None else rows[0]
    weight = None if rows[1] is None else torch.cat([rows[1], torch.ones(10)])
    whole = NearestRegression(x, y, KERNELS["limit"](), 20, None, torch.cat([extra, variance]),
                              weight)  # fmt: skip
    set_raw(whole, get_raw(one))
    with torch.no_grad():
        assert one.log_marginal_likelihood() == whole.log_marginal_likelihood()
    assert torch.equal(one.row_noise(), whole.row_noise())
    assert torch.equal(one.posterior().mean(x), whole.posterior().mean(x))


def test_parameters_are_named_as_in_the_exact_model():
    exact = ExactRegression(*data(), KERNELS["limit"]())
    names = [name for name, _ in exact.named_parameters()]
    assert [name for name, _ in model().named_parameters()] == names


def test_survives_copies():
    one = model(2, rows=of_rows())
    value = one.log_marginal_likelihood().detach()
    for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert torch.equal(other.log_marginal_likelihood(), value)
        assert torch.equal(other.posterior().mean(one.train_x), one.posterior().mean(one.train_x))


def test_the_rows_are_random_and_always_the_same():
    rows = sample_rows(100, 30)
    np.testing.assert_array_equal(rows, sample_rows(100, 30))
    assert len(set(rows)) == 30
    assert not np.array_equal(np.sort(rows), np.arange(30))
    after = sample_rows(100, 40, before=30)
    assert len(after) == 40
    assert not set(after) & set(rows)
    assert len(set(sample_rows(100, 80, before=30))) == 80  # too few others: some of both
    assert set(sample_rows(20, 30, before=30)) == set(range(20))


def test_two_rows_and_one(path):
    for n in (1, 2):
        one = model(n=n)
        value = one.log_marginal_likelihood()
        assert value.isfinite()
        assert all(part.isfinite().all() for part in gradients(value, one))
