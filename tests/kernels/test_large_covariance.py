from __future__ import annotations

from types import SimpleNamespace

import gpytorch
import pytest
import torch
from gpytorch.kernels import ScaleKernel
from kernels.properties import points

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.kernels import large_covariance, resnet_kernel, resnet_sum_kernel
from resnet_gp.kernels.large_covariance import NetworksOperator, is_too_large
from resnet_gp.kernels.resnet_sum_kernel import ResNetSumKernel

KERNELS = [
    lambda: ScaleKernel(ResNetLimitKernel(input_bias=True, ard_num_dims=3)),
    lambda: ResNetSumKernel(input_bias=True, variance="no_growth"),
    lambda: ResNetTangentKernel(depth=4),
    lambda: ResNetLimitKernel(batch_shape=torch.Size([2])),
]


@pytest.fixture
def without_matrix(monkeypatch):
    """A way to make operators of all sizes."""

    def change():
        for module in (resnet_kernel, resnet_sum_kernel):
            monkeypatch.setattr(module, "is_too_large", lambda x1, x2: True)

    return change


@pytest.mark.parametrize("new", KERNELS, ids=["scaled", "sum", "tangent", "batch"])
def test_is_the_matrix(new, without_matrix):
    kernel = new().double()
    x, z = points(*kernel.batch_shape, 9, 3), points(*kernel.batch_shape, 7, 3, seed=1)
    right = points(*kernel.batch_shape, 7, 2, seed=2)

    def results():
        leaves = [one.clone().requires_grad_() for one in (x, z, right)]
        K = kernel(leaves[0], leaves[1])
        product = K @ leaves[2]
        gradients = torch.autograd.grad(product.sin().sum(), [*leaves, *kernel.parameters()])
        square = kernel(x)
        parts = square.diagonal(dim1=-1, dim2=-2), square.to_dense(), K[..., 2:5, 1:3].to_dense()
        return product, *gradients, *parts, K.mT @ x, K @ leaves[2][..., 0:1]

    expected = results()
    without_matrix()
    for one, other in zip(results(), expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 1e-13 * other.norm()


def test_conjugate_gradients(without_matrix):
    kernel, x, y = ResNetLimitKernel().double(), points(40, 3), points(40, 1, seed=1)
    expected = torch.linalg.solve(kernel(x).to_dense() + 0.1 * torch.eye(40).double(), y)
    without_matrix()
    K = kernel(x).evaluate_kernel()
    assert isinstance(K, NetworksOperator)
    with gpytorch.settings.max_cholesky_size(1), gpytorch.settings.cg_tolerance(1e-5):
        found = K.add_diagonal(torch.tensor(0.1).double()).solve(y)
    assert (found - expected).norm() <= 1e-4 * expected.norm()


def test_size():
    def inputs(n, device="cuda", dtype=torch.float64, batch=()):
        shape = torch.Size((*batch, n, 3))
        return SimpleNamespace(device=torch.device(device), dtype=dtype, shape=shape)

    side = int(large_covariance.LARGEST_MATRIX**0.5)
    assert not is_too_large(inputs(side), inputs(side))
    assert is_too_large(inputs(side), inputs(side + 1))
    assert is_too_large(inputs(side, batch=(2,)), inputs(side))
    assert not is_too_large(inputs(2 * side, "cpu"), inputs(side))
    assert not is_too_large(inputs(2 * side, dtype=torch.float16), inputs(side))
