"""Against the plain kernel. KeOps compiles each formula once, so shapes are few on purpose."""

from __future__ import annotations

import unittest

import gpytorch
import pytest
import torch
from gpytorch.test.base_kernel_test_case import BaseKernelTestCase
from kernels.properties import points

pytest.importorskip("pykeops", reason="pykeops is an extra")

from resnet_gp import ResNetLimitKernel as PlainKernel
from resnet_gp.kernels.keops import ResNetLimitKernel
from resnet_gp.kernels.keops.operator import UnitCovarianceOperator

DIMENSIONS = 3


@pytest.fixture
def on_keops():
    """KeOps for matrices of every size."""
    with gpytorch.settings.max_cholesky_size(1):
        yield


class TestGPyTorchContract(BaseKernelTestCase, unittest.TestCase):
    seed = 0

    def create_kernel_no_ard(self, **kwargs):
        return ResNetLimitKernel(**kwargs)

    def create_kernel_ard(self, num_dims, **kwargs):
        return ResNetLimitKernel(ard_num_dims=num_dims, **kwargs)


def configured(cls, dtype=torch.float64, horizon=1.3, batch_shape=None, **options):
    options.setdefault("variance", "full" if horizon < 100 else "no_growth")
    kernel = cls(
        input_bias=True,
        ard_num_dims=DIMENSIONS,
        batch_shape=batch_shape,
        **options,
    ).to(dtype)
    kernel.lengthscale = torch.tensor([0.7, 1.1, 1.6])
    kernel.weight_variance, kernel.input_bias_variance = horizon, 0.01
    return kernel


def inputs(dtype=torch.float64, batch=()):
    """Points, among them equal, almost equal, opposite and parallel ones."""
    x = points(*batch, 60, DIMENSIONS, dtype=dtype)
    special = [x[..., :10, :], x[..., :10, :] * (1 + 1e-7), -x[..., :10, :], 3 * x[..., :5, :]]
    z = torch.cat([*special, points(*batch, 10, DIMENSIONS, seed=1, dtype=dtype)], dim=-2)
    return x, z


def product_and_gradients(kernel, x, z, vector, left, dtype=None):
    if dtype is not None:
        kernel = kernel.to(dtype)
        x, z, vector, left = (tensor.to(dtype) for tensor in (x, z, vector, left))
    leaves = [tensor.clone().requires_grad_() for tensor in (x, z, vector)]
    product = kernel(leaves[0], leaves[1]) @ leaves[2]
    gradients = torch.autograd.grad((product * left).sum(), [*leaves, *kernel.parameters()])
    return [product.detach(), *gradients]


def assert_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.isfinite(one).all()
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.usefixtures("on_keops")
class TestOnKeOps:
    @pytest.mark.parametrize(
        ("horizon", "dtype", "tolerance"),
        [(1.3, torch.float64, 2e-14), (20.0, torch.float64, 1e-13), (1.3, torch.float32, 4e-6)],
    )
    def test_products_and_gradients(self, horizon, dtype, tolerance):
        """To inputs, vector and hyperparameters, with coincident and opposite points."""
        x, z = inputs(dtype)
        vector, left = points(len(z), 2, dtype=dtype), points(len(x), 2, seed=3, dtype=dtype)
        keops, plain = (configured(c, dtype, horizon) for c in (ResNetLimitKernel, PlainKernel))
        assert isinstance(keops(x, z).evaluate_kernel(), UnitCovarianceOperator)
        found = product_and_gradients(keops, x, z, vector, left)
        expected = product_and_gradients(plain, x, z, vector, left, torch.float64)
        assert_close([value.double() for value in found], expected, tolerance)

    def test_unit_variance(self):
        x, z = inputs()
        vector, left = points(len(z), 2), points(len(x), 2, seed=3)
        found, expected = (
            product_and_gradients(configured(c, variance="unit"), x, z, vector, left)
            for c in (ResNetLimitKernel, PlainKernel)
        )
        assert_close(found, expected, 2e-14)

    def test_gradient_of_the_same_points_twice(self):
        """All of the diagonal at c_0 = 1, where sqrt(g) has an infinite derivative."""
        x, vector = inputs()[0], points(60, 2)
        results = []
        for cls in (ResNetLimitKernel, PlainKernel):
            kernel, leaf = configured(cls), x.clone().requires_grad_()
            product = kernel(leaf) @ vector
            product.square().sum().backward()
            results.append([leaf.grad, *(parameter.grad for parameter in kernel.parameters())])
        assert_close(*results, 2e-14)

    def test_one_coincident_pair(self):
        """c_T = 1, dc_T/dc_0 = 1, and F = 0."""
        kernel = configured(ResNetLimitKernel)
        a = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64).requires_grad_()
        b = a.detach().clone().requires_grad_()
        one = torch.ones(1, 2, dtype=torch.float64)
        value = (kernel(a, b) @ one)[0, 0]
        gradients = torch.autograd.grad(value, (a, b, kernel.raw_weight_variance))
        growth, scale = torch.exp(torch.tensor(0.65)), kernel.lengthscale.detach()
        expected = growth * a.detach() / 3 / scale**2
        assert value.item() == pytest.approx(plain_variance(a), rel=1e-14)
        for gradient in gradients[:2]:
            torch.testing.assert_close(gradient, expected.double(), rtol=1e-6, atol=0)
        assert gradients[2].item() == pytest.approx(0.65 * value.item(), rel=1e-12)

    def test_zero_inputs_without_bias(self):
        x = torch.cat([torch.zeros(1, 4), points(59, 4)]).requires_grad_()
        kernel = ResNetLimitKernel().double()  # as long as a bias and 3 dimensions: one formula
        product = kernel(x) @ points(60, 2)
        assert not product[0].any()
        product.sum().backward()
        assert torch.isfinite(x.grad).all()

    def test_batches(self):
        """Of inputs and of hyperparameters, each with its table."""
        x, z = inputs(batch=(2,))
        vector, left = points(2, z.shape[-2], 2), points(2, 60, 2, seed=3)
        results = []
        for cls in (ResNetLimitKernel, PlainKernel):
            kernel = configured(cls, batch_shape=torch.Size([2]))
            kernel.weight_variance = torch.tensor([[[0.8]], [[4.0]]])
            results.append(product_and_gradients(kernel, x, z, vector, left))
        assert_close(*results, 2e-14)

    def test_inside_other_kernels(self):
        x, vector = inputs()[0], points(60, 2)
        results = []
        for cls in (ResNetLimitKernel, PlainKernel):
            scaled = gpytorch.kernels.ScaleKernel(configured(cls)).double()
            scaled.outputscale = 2.5
            product = scaled(x) @ vector
            product.square().sum().backward()
            results.append([product.detach(), *(p.grad for p in scaled.parameters())])
        assert_close(*results, 2e-14)

    def test_conjugate_gradients(self):
        x, targets = inputs()[0], points(60, 2)
        noisy = configured(ResNetLimitKernel)(x).add_jitter(5.0)
        expected = torch.linalg.solve(
            configured(PlainKernel)(x).add_jitter(5.0).to_dense(), targets
        )
        with (
            torch.no_grad(),
            gpytorch.settings.cg_tolerance(1e-4),
            gpytorch.settings.max_preconditioner_size(0),
        ):
            solution = noisy.solve(targets)
        torch.testing.assert_close(solution, expected.detach(), rtol=1e-3, atol=1e-3)

    def test_what_is_dense_in_any_case(self):
        x, z = inputs()
        keops, plain = configured(ResNetLimitKernel), configured(PlainKernel)
        with torch.no_grad():
            assert torch.equal(keops(x, z).to_dense(), plain(x, z).to_dense())
            assert torch.equal(keops(x, diag=True), plain(x, diag=True))
            rows = keops(x, z)[3:9, 10:].to_dense()
        torch.testing.assert_close(rows, plain(x, z).to_dense()[3:9, 10:].detach())


def plain_variance(a):
    with torch.no_grad():
        return configured(PlainKernel)(a, diag=True).item()


def test_small_matrices_are_dense():
    x, z = inputs()
    keops, plain = configured(ResNetLimitKernel), configured(PlainKernel)
    lazy = keops(x, z).evaluate_kernel()
    assert isinstance(lazy.covar_mat, torch.Tensor)
    assert torch.equal(lazy.covar_mat, plain(x, z).to_dense())
    vector, left = points(len(z), 2), points(len(x), 2, seed=3)
    results = [product_and_gradients(k, x, z, vector, left) for k in (keops, plain)]
    assert_close(*results, 1e-14)


def test_last_dim_is_batch_is_refused():
    with (
        pytest.warns(DeprecationWarning, match="last_dim_is_batch"),
        pytest.raises(RuntimeError, match="last_dim_is_batch"),
    ):
        configured(ResNetLimitKernel)(inputs()[0], last_dim_is_batch=True).to_dense()


def test_refuses_finite_depth():
    with pytest.raises(ValueError, match="depth"):
        ResNetLimitKernel(depth=10)
