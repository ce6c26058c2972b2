"""The table path against stored solutions and the direct path; derivatives, batches, edge cases."""

from __future__ import annotations

import pytest
import torch
from flow.test_general import solutions

from resnet_gp.activations import Activation, any_activation
from resnet_gp.flow.general_covariance import general_covariance
from resnet_gp.flow.general_table import _ranges, table_covariance
from resnet_gp.threads import torch_threads

_BOUNDS = {"erf": 1e-9, "gelu": 1e-9, "relu": 1e-9, "sin": 1e-8, "tanh": 1e-8, "silu": 1e-8}


def tensor(*values):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def inputs(n=6, d=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("activation", list(_BOUNDS))
def test_stored_solutions(activation):
    each = list(solutions(activation).items())
    if activation in ("tanh", "silu"):
        each = each[::2]  # their tables take longest to make
    for (w, bias), (qa, qb, q, kaa, kbb, kab) in each:
        if activation == "relu" and w > 0.5:
            continue  # its tables converge slowly: kernels integrate it directly
        large = (qa > 64) | (qb > 64)  # where the sine is integrated directly
        for part in (large, ~large):
            phi, pairs = any_activation(activation), (qa[None, part], qb[None, part], q[None, part])
            (found,) = table_covariance(phi, tensor([w]), tensor([bias]), None, *pairs, False)
            error = (found - kab[part]) / (kaa * kbb)[part].sqrt()
            assert error.abs().max() <= _BOUNDS[activation]


@pytest.mark.parametrize(
    ("activation", "depth"),
    [("erf", None), ("gelu", None), ("relu", None), ("gelu", 5), ("relu", 5), ("erf", 2000)],
)
def test_matrix_is_that_of_the_direct_path(activation, depth, path):
    x = inputs(9)
    x[1], x[2], x[3] = x[0], -x[0], 0
    x[5:] = x[4:5] * torch.linspace(1, 1.1, 4, dtype=torch.float64)[:, None]
    options = {
        "activation": activation,
        "block_bias_variance": tensor(0.2),
        "lengthscale": tensor(0.7),
        "depth": depth,
    }
    found = general_covariance(x, x, tensor(1.2), **options)
    direct = general_covariance(x, x, tensor(1.2), path="direct", **options)
    scale = direct.diagonal().sqrt()
    assert ((found - direct) / (scale[:, None] * scale)).abs().max() <= 1e-9
    assert torch.equal(found, found.mT)
    diagonal = general_covariance(x, x, tensor(1.2), diag=True, **options)
    assert torch.allclose(diagonal, found.diagonal(), rtol=1e-12, atol=0)
    block = general_covariance(x[:2], x[4:], tensor(1.2), **options)
    assert torch.allclose(block, found[:2, 4:], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("path", ["table", "direct"])
@pytest.mark.parametrize("activation", ["erf", "gelu", "relu", "sin"])
def test_gradient(activation, path):
    x1, x2 = inputs(3).requires_grad_(), inputs(2, seed=1).requires_grad_()
    hyper = [tensor(1.1), tensor(0.3), tensor(0.8), tensor(0.4)]
    hyper = [value.requires_grad_() for value in hyper]

    def function(a, b, w, bias, lengthscale, input_bias):
        return general_covariance(
            a,
            b,
            w,
            activation=activation,
            block_bias_variance=bias,
            lengthscale=lengthscale,
            input_bias_variance=input_bias,
            path=path,
        )

    assert torch.autograd.gradcheck(function, (x1, x2, *hyper), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "silu", "sin"])
def test_gradient_of_tabulated_moments(activation, path):
    x = inputs(3).requires_grad_()
    w = tensor(0.9).requires_grad_()

    def function(a, v):
        return general_covariance(a, a, v, activation=activation)

    assert torch.autograd.gradcheck(function, (x, w), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_compiled_loops_agree_with_torch(same, monkeypatch):
    """Rows and columns of several cells, in groups of all sizes."""
    pytest.importorskip("numba")
    x, z = (inputs(30, seed=seed) * torch.logspace(-0.4, 0.4, 30)[:, None] for seed in (0, 1))
    weight = inputs(30, 30, seed=2)

    def value_and_gradients():
        leaves = [part.clone().requires_grad_() for part in (x, x if same else z)]
        w, bias = (tensor(value).requires_grad_() for value in (0.7, 0.1))
        a, b = (leaves[0],) * 2 if same else leaves
        K = general_covariance(a, b, w, activation="erf", block_bias_variance=bias)
        seen = [w, bias, *leaves[: 1 if same else 2]]
        return [K.detach(), *torch.autograd.grad((K * weight).sum(), seen)]

    found = value_and_gradients()
    monkeypatch.setattr("resnet_gp.flow.autograd._numba_module", lambda name: None)
    for one, other in zip(found, value_and_gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11 * other.abs().max().item())


def test_threads_share_the_entries_of_a_symmetric_matrix():
    """Rows begin at the diagonal, so that later ones are shorter; batches start again."""
    with torch_threads(2):
        for batch, symmetric, first in ((1, True, 293), (1, False, 500), (2, True, 1000)):
            (_, end), (start, stop) = _ranges(torch.empty(batch, 1000, 1000), symmetric)
            assert end == start == first
            assert stop == batch * 1000


@pytest.mark.parametrize("path", ["table", "direct"])
def test_gradient_at_coincident_and_opposite_inputs(path):
    x = inputs(3)
    x[1], x[2] = x[0], -x[0]
    for activation in ("erf", "relu") if path == "direct" else ("erf",):
        own = x.clone().requires_grad_()
        general_covariance(
            own, own, tensor(1.0), activation=activation, block_bias_variance=tensor(0.1), path=path
        ).sum().backward()
        assert own.grad.isfinite().all()


@pytest.mark.parametrize("path", ["table", "direct"])
def test_second_order_raises(path):
    x = inputs(2).requires_grad_()
    value = general_covariance(x, x, tensor(1.0), activation="erf", path=path).sum()
    with pytest.raises(RuntimeError, match="second derivatives of the general covariance"):
        torch.autograd.grad(value, x, create_graph=True)[0].sum().backward()


@pytest.mark.parametrize("activation", ["erf", "relu", "gelu", "tanh", "silu", "sin"])
def test_zero_inputs(activation):
    x = torch.stack([torch.zeros(2, dtype=torch.float64), inputs(1)[0]]).requires_grad_()
    found = general_covariance(x, x, tensor(1.0), activation=activation)
    assert found[0].abs().max() < 1e-14
    found.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("activation", ["erf", "gelu", "tanh", "silu", "sin"])
def test_gradient_in_the_block_bias_at_a_zero_input(activation):
    x = torch.stack([torch.zeros(2, dtype=torch.float64), inputs(1)[0]])

    def function(bias):
        return general_covariance(
            x, x, tensor(1.0), activation=activation, block_bias_variance=bias
        )

    assert torch.autograd.gradcheck(function, tensor(0.4).requires_grad_(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("path", ["table", "direct"])
@pytest.mark.parametrize("loops", ["compiled", "torch"])
def test_batches_are_their_elements(path, loops, monkeypatch):
    if loops == "torch":
        monkeypatch.setattr("resnet_gp.flow.autograd._numba_module", lambda name: None)
    x = torch.stack([inputs(4), inputs(4, seed=1), inputs(4)]).requires_grad_()
    w = tensor(0.5, 1.5, 0.5)[:, None, None].requires_grad_()
    options = {"activation": "erf", "path": path, "block_bias_variance": tensor(0.2)}
    found = general_covariance(x, x, w, **options)
    gradients = torch.autograd.grad(found.square().sum(), (x, w))
    for k in range(3):
        own = x[k].detach().requires_grad_(), w[k].detach().requires_grad_()
        alone = general_covariance(own[0], own[0], own[1], **options)
        assert torch.allclose(found[k], alone, rtol=1e-13, atol=1e-13)
        for whole, part in zip(
            gradients, torch.autograd.grad(alone.square().sum(), own), strict=True
        ):
            assert torch.allclose(whole[k], part, rtol=1e-10, atol=1e-12)


def test_float32():
    x = inputs(4)
    found = general_covariance(x, x, tensor(1.2), activation="erf")
    single = general_covariance(x.float(), x.float(), tensor(1.2).float(), activation="erf")
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), found, rtol=1e-5, atol=1e-6)


def test_variances_over_many_decades():
    x = inputs(12) * torch.logspace(-3, 1.4, 12, dtype=torch.float64)[:, None]
    found = general_covariance(x, x, tensor(1.0), activation="gelu")
    direct = general_covariance(x, x, tensor(1.0), activation="gelu", path="direct")
    scale = direct.diagonal().sqrt()
    assert ((found - direct) / (scale[:, None] * scale)).abs().max() <= 1e-9


def test_a_function_of_ones_own():
    own = Activation(torch.sin, name="my sine")
    x = inputs(5)
    found = general_covariance(x, x, tensor(1.0), activation=own)
    closed = general_covariance(x, x, tensor(1.0), activation="sin", path="direct")
    assert torch.allclose(found, closed, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="no closed moments"):
        general_covariance(x, x, tensor(1.0), activation=own, path="direct")


def test_arguments_out_of_range():
    x = inputs(2)
    with pytest.raises(ValueError, match="weight_variance must be finite"):
        general_covariance(x, x, tensor(-1.0), activation="erf")
    with pytest.raises(ValueError, match="path must be one of"):
        general_covariance(x, x, tensor(1.0), activation="erf", path="ode")
    with pytest.raises(ValueError, match="inputs must be finite"):
        general_covariance(x / 0, x, tensor(1.0), activation="erf")
