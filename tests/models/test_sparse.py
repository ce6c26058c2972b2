import math
import pickle

import pytest
import torch
from gpytorch.kernels import RBFKernel
from torch.utils._python_dispatch import TorchDispatchMode

from resnet_gp import ResNetLimitKernel
from resnet_gp.fitting import get_raw, maximise
from resnet_gp.models import ExactRegression, SparseRegression, row_sums

N, D, M = 40, 3, 9


def data(outputs=None, n=N):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, D, dtype=torch.float64, generator=generator)
    noise = torch.randn(n, outputs or 1, dtype=torch.float64, generator=generator)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] + 0.1 * noise
    return x, (y if outputs else y[:, 0])


def our_kernel():
    kernel = ResNetLimitKernel(input_bias=True, variance="no_growth", contrast=True, ard_num_dims=D)
    return kernel.double()


def sparse(x, y, points=None, extra=None, weight=None, kernel=None):
    points = x[:M] if points is None else points
    model = SparseRegression(x, y, kernel or our_kernel(), points, extra, weight)
    model.likelihood.noise = 0.03
    model.covar_module.outputscale = 1.7
    return model


def extra_variance(n=N):
    return torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def sample_weight(n=N):
    return 0.2 + 3 * torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def dense_bound(model, x, y, extra=0.0, weight=1.0):
    """Titsias' equation 9, as it is written."""
    covariance = model.covar_module(x).to_dense()
    cross = model.covar_module(x, model.inducing_points).to_dense()
    inducing = model.covar_module(model.inducing_points).to_dense()
    explained = cross @ torch.linalg.solve(inducing, cross.mT)
    noise = ((model.likelihood.noise + extra) / weight).expand(len(x))
    columns = y.reshape(len(x), -1)
    law = torch.distributions.MultivariateNormal(
        columns.new_zeros(len(x)), explained + torch.diag(noise)
    )
    missing = ((covariance - explained).diagonal() / noise).sum()
    return sum(law.log_prob(column) - missing / 2 for column in columns.mT)


def gradients(value, model):
    return torch.autograd.grad(value, [one for one in model.parameters() if one.requires_grad])


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize(
    "of_rows",
    [{}, {"extra": extra_variance()}, {"extra": extra_variance(), "weight": sample_weight()}],
    ids=["alone", "extra", "weighted"],
)
def test_bound_and_gradient_are_those_of_the_dense_formula(outputs, of_rows):
    x, y = data(outputs)
    model = sparse(x, y, **of_rows)
    model.inducing_points.requires_grad_()
    value = model.log_marginal_likelihood()
    expected = dense_bound(model, x, y, **of_rows)
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)
    for one, other in zip(gradients(value, model), gradients(expected, model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


def test_gradcheck():
    x, y = data(2)
    model = sparse(x, y, extra=extra_variance())
    names = [name for name, one in model.named_parameters() if one.requires_grad]
    names.append("inducing_points")
    model.inducing_points.requires_grad_()
    values = [model.get_parameter(name).detach().clone().requires_grad_() for name in names]

    def bound(*raw):
        with torch.no_grad():
            for name, one in zip(names, raw, strict=True):
                model.get_parameter(name).copy_(one)
        return _Attach.apply(model, names, *raw)

    assert torch.autograd.gradcheck(bound, values, rtol=1e-4, atol=1e-5)


class _Attach(torch.autograd.Function):
    """The bound as a function of what was copied into the parameters."""

    @staticmethod
    def forward(ctx, model, names, *raw):
        ctx.model, ctx.names = model, names
        return model.log_marginal_likelihood().detach()

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            value = ctx.model.log_marginal_likelihood()
            wanted = [ctx.model.get_parameter(name) for name in ctx.names]
            found = torch.autograd.grad(value, wanted)
        return None, None, *(grad * one for one in found)


@pytest.mark.parametrize("make", [our_kernel, lambda: RBFKernel(ard_num_dims=D).double()])
def test_with_all_inputs_as_points_it_is_exact_inference(make):
    x, y = data()
    exact = ExactRegression(x, y, make())
    exact.likelihood.noise, exact.covar_module.outputscale = 0.03, 1.7
    model = sparse(x, y, points=x, kernel=make())
    value, expected = model.log_marginal_likelihood(), exact.log_marginal_likelihood()
    assert value.item() == pytest.approx(expected.item(), rel=1e-8)
    for one, other in zip(gradients(value, model), gradients(expected, exact), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    new = data(n=60)[0][N:]
    for ask in ("mean_and_variance", "mean_and_covariance"):
        found, truth = (getattr(one.posterior(), ask)(new) for one in (model, exact))
        for one, other in zip(found, truth, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(model.posterior().mean(new), truth[0], rtol=1e-6, atol=1e-7)


def test_bound_is_below_the_likelihood_and_rises_with_points():
    x, y = data()
    with torch.no_grad():
        values = [sparse(x, y, x[:m]).log_marginal_likelihood().item() for m in (3, 9, 27, N)]
    assert values == sorted(values)


def test_posterior_with_variances_and_weights_is_the_dense_one():
    x, y = data(2)
    extra, weight, new = extra_variance(), sample_weight(), data(n=60)[0][N:]
    model = sparse(x, y, extra=extra, weight=weight)
    mean, covariance = model.posterior().mean_and_covariance(new)
    with torch.no_grad():
        k = {
            name: model.covar_module(*pair).to_dense()
            for name, pair in {
                "uu": (x[:M], x[:M]), "uf": (x[:M], x), "us": (x[:M], new), "ss": (new, new),
            }.items()
        }  # fmt: skip
        weights = weight / (model.likelihood.noise + extra)
        sigma = torch.linalg.inv(k["uu"] + (k["uf"] * weights) @ k["uf"].mT)
        expected = k["us"].mT @ sigma @ (k["uf"] * weights) @ y
        inner = torch.linalg.inv(k["uu"]) - sigma
    torch.testing.assert_close(mean, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(
        covariance[..., 1], k["ss"] - k["us"].mT @ inner @ k["us"], rtol=1e-8, atol=1e-8
    )
    _, variance = model.posterior().mean_and_variance(new)
    torch.testing.assert_close(variance.mT, covariance.diagonal(), rtol=1e-8, atol=1e-10)
    assert model.posterior().mean(new).shape == (20, 2)


@pytest.mark.parametrize("cache", [0, 2**30])
def test_chunks_change_nothing_beyond_rounding(monkeypatch, cache):
    x, y = data(2)
    model = sparse(x, y, extra=extra_variance())
    whole = model.log_marginal_likelihood()
    whole_gradients = gradients(whole, model)
    monkeypatch.setattr(row_sums, "CACHE_BYTES", cache)
    monkeypatch.setattr(row_sums, "_CHUNK_ENTRIES", 7 * M)
    monkeypatch.setattr("resnet_gp.models.sparse._PREDICTION_ENTRIES", 3 * M)
    sliced = model.log_marginal_likelihood()
    assert sliced.item() == pytest.approx(whole.item(), rel=1e-12)
    for one, other in zip(gradients(sliced, model), whole_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert model.posterior().mean(x).shape == y.shape


class Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that is made."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.entries = max(self.entries, out.numel())
        return out


def test_no_matrix_of_all_rows(monkeypatch):
    x, y = data(n=2000)
    model = sparse(x, y, x[:20])
    monkeypatch.setattr(row_sums, "_CHUNK_ENTRIES", 100 * 20)
    with Largest() as largest:
        gradients(model.log_marginal_likelihood(), model)
        model.posterior()
    assert largest.entries <= max(100 * 20, 2000 * D)


def test_a_fit_improves_the_bound_and_can_move_the_points():
    x, y = data()
    model = sparse(x, y)
    start = get_raw(model)
    fixed = maximise(model.log_marginal_likelihood, model, {}, [start], max_iter=15).value
    model.inducing_points.requires_grad_()
    assert next(iter(model.named_parameters()))[0] == "inducing_points"
    moved = maximise(model.log_marginal_likelihood, model, {}, [get_raw(model)], max_iter=15).value
    assert moved > fixed + 0.1


def test_parameters_are_named_as_in_the_exact_model():
    x, y = data()
    exact, model = ExactRegression(x, y, our_kernel()), sparse(x, y)
    assert [name for name, one in model.named_parameters() if one.requires_grad] == [
        name for name, _ in exact.named_parameters()
    ]


def test_survives_pickling():
    x, y = data()
    model = sparse(x, y)
    copy = pickle.loads(pickle.dumps(model))
    assert torch.equal(copy.posterior().mean(x), model.posterior().mean(x))


def test_duplicate_points_get_a_jitter_and_nonsense_an_error():
    x, y = data()
    once, twice = sparse(x, y), sparse(x, y, torch.cat([x[:M], x[:M]]))
    value = twice.log_marginal_likelihood().item()
    assert value == pytest.approx(once.log_marginal_likelihood().item(), abs=1e-4)
    nowhere = sparse(x, y, x[:M] * math.nan)
    with pytest.raises(torch.linalg.LinAlgError, match="inducing_points is not positive definite"):
        nowhere.log_marginal_likelihood()


def test_says_which_argument_is_wrong():
    x, y = data()
    for arguments, message in (
        ((x[:, 0], y, x[:M]), "train_x must be n x d"),
        ((x, y[1:], x[:M]), "train_y must be n or n x p with n = 40"),
        ((x, y, x[:M, :2]), "inducing_points must be m x 3"),
        ((x, y, x[:M], y[:3].abs()), r"extra_variance must be of shape \(40,\)"),
        ((x, y, x[:M], -extra_variance()), "extra_variance must be finite and not negative"),
        ((x, y, x[:M], None, y[:3].abs()), r"sample_weight must be of shape \(40,\)"),
        ((x, y, x[:M], None, torch.zeros(N)), "sample_weight must be finite and positive"),
    ):
        with pytest.raises(ValueError, match=message):
            sparse(*arguments)


@pytest.mark.parametrize("outputs", [None, 2])
def test_left_out_rows_are_predicted_by_the_posterior_of_the_others(outputs):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(12, *([outputs] if outputs else []), generator=generator, dtype=torch.float64)
    extra, weight = torch.rand(12, dtype=torch.float64), 0.5 + torch.rand(12, dtype=torch.float64)
    kernel = ResNetLimitKernel(input_bias=True, ard_num_dims=2).double()

    def posterior(keep):
        return SparseRegression(
            x[keep], y[keep], kernel, x[:5], extra[keep], weight[keep]
        ).posterior()

    whole = posterior(torch.arange(12))
    mean, variance = whole.leave_one_out()
    latent = whole.leave_one_out(observation_noise=False)[1]
    for i in range(12):
        others = posterior(torch.tensor([j for j in range(12) if j != i]))
        m, v = others.mean_and_variance(x[i : i + 1])
        torch.testing.assert_close(mean[i : i + 1], m)
        torch.testing.assert_close(latent[i : i + 1], v)
        noise = (others.noise_variance + extra[i]) / weight[i]
        torch.testing.assert_close(variance[i : i + 1], v + noise)
