"""(Leaky) ReLU with block bias: compiled loops against the schemes in torch and differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_gp.activations import LeakyReLU
from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.flow.general import direct_covariance
from resnet_gp.flow.general_covariance import general_covariance
from resnet_gp.flow.kinked import kinked_covariance

pytestmark = pytest.mark.skipif(
    compiled_loops("flow.compiled_steps", torch.zeros(1)) is None, reason="needs numba"
)


def arguments(n, m, batch=1, dtype=torch.float64, seed=0):
    """w, sigma_b^2, both variances and the covariance, some pairs equal, opposite or zero."""
    generator = torch.Generator().manual_seed(seed)
    x, z = (torch.randn(batch, k, 5, generator=generator, dtype=dtype) for k in (n, m))
    z[:, 0], z[:, 1], x[:, 2] = x[:, 0], -x[:, 0], 0.0
    hyper = torch.rand(2, batch, generator=generator, dtype=dtype) + 0.2
    return [*hyper, x.square().sum(-1), z.square().sum(-1), x @ z.mT]


def same_values(x, y, tolerance):
    return (x - y).abs().max() <= tolerance * y.abs().max()


@pytest.mark.parametrize(
    ("slope", "depth"), [*((slope, d) for slope in (0.0, 0.3, -1.0) for d in (None, 5)), (0.3, 700)]
)
def test_equals_the_schemes_in_torch(slope, depth):
    phi = LeakyReLU(slope)
    tensors = arguments(7, 140, batch=2)
    grad = torch.randn(2, 7, 140, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, gradients = [], []
    for function in (kinked_covariance, direct_covariance):
        own = [tensor.clone().requires_grad_() for tensor in tensors]
        found.append(function(phi, *own[:2], depth, *own[2:], False))
        gradients.append(torch.autograd.grad(found[-1], own, grad))
    assert same_values(*found, 1e-13)
    for one, other in zip(*gradients, strict=True):
        assert same_values(one, other, 1e-6)  # rounding moves angles near 0 by its square root


def test_symmetric_matrix():
    x = torch.randn(150, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    grad = torch.randn(150, 150, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = []
    for other in (x, x.clone() + 0.0):
        leaves = [t.clone().requires_grad_() for t in (x, torch.tensor(1.5), torch.tensor(0.3))]
        right = leaves[0] if other is x else torch.cat([leaves[0], leaves[0][:1]])
        out = general_covariance(
            leaves[0],
            right,
            leaves[1],
            activation="relu",
            block_bias_variance=leaves[2],
            path="direct",
        )
        out = out[:, :150]
        found.append((out, *torch.autograd.grad(out, leaves, grad)))
    (square, *_), (rectangle, *_) = found
    assert torch.equal(square, square.T)
    assert same_values(square, rectangle, 1e-14)
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert same_values(one, other, 1e-5)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(3, 200))
def test_an_entry_does_not_depend_on_the_others(seed, row, column):
    w, bias, va, vb, q = arguments(7, 203, seed=seed)
    phi = LeakyReLU(0.1)
    whole = kinked_covariance(phi, w, bias, None, va, vb, q, False)
    one = (va[:, row : row + 1], vb[:, column : column + 2])
    part = q[:, row : row + 1, column : column + 2]
    assert torch.equal(
        kinked_covariance(phi, w, bias, None, *one, part, False)[0, 0],
        whole[0, row, column : column + 2],
    )


def test_gradcheck():
    w, bias, va, vb, q = (t.requires_grad_() for t in arguments(3, 4))
    with torch.no_grad():
        q[:, :, :2] *= 0.8  # away from the kinks
        va[:, 2] = 1.0
    assert torch.autograd.gradcheck(
        lambda *own: kinked_covariance(LeakyReLU(0.0), *own[:2], None, *own[2:], False),
        (w, bias, va, vb, q),
    )


def test_float32():
    tensors = arguments(20, 30)
    exact = kinked_covariance(LeakyReLU(0.0), *tensors[:2], None, *tensors[2:], False)
    tensors = [tensor.float() for tensor in tensors]
    found = kinked_covariance(LeakyReLU(0.0), *tensors[:2], None, *tensors[2:], False)
    assert found.dtype == torch.float32
    assert same_values(found.double(), exact, 3e-6)


def test_bits_do_not_depend_on_whether_a_gradient_is_wanted():
    tensors = arguments(20, 200)
    phi = LeakyReLU(0.2)
    plain = kinked_covariance(phi, *tensors[:2], None, *tensors[2:], False)
    wanted = [tensor.clone().requires_grad_() for tensor in tensors]
    assert torch.equal(kinked_covariance(phi, *wanted[:2], None, *wanted[2:], False), plain)


def test_gradients_by_torch_func():
    tensors = arguments(4, 6)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]

    def total(*own):
        return kinked_covariance(LeakyReLU(0.0), *own[:2], None, *own[2:], False).sin().sum()

    found = torch.func.grad(total, argnums=tuple(range(5)))(*tensors)
    for one, other in zip(found, torch.autograd.grad(total(*leaves), leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)
