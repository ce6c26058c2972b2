from __future__ import annotations

import pytest
import torch
from torch.func import grad, jacrev, vmap

from resnet_gp.flow import autograd
from resnet_gp.flow.autograd import widens_half
from resnet_gp.flow.correlation import contrast, flow
from resnet_gp.flow.covariance import resnet_covariance
from resnet_gp.flow.depth import DepthMap, depth_map
from resnet_gp.flow.general_covariance import general_covariance


def points(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def loop(function, in_dims, *inputs):
    """``torch.func.vmap`` by definition."""
    size = next(x.shape[dim] for x, dim in zip(inputs, in_dims, strict=True) if dim is not None)
    return torch.stack(
        [
            function(
                *(
                    x if dim is None else x.select(dim, index)
                    for x, dim in zip(inputs, in_dims, strict=True)
                )
            )
            for index in range(size)
        ]
    )


def of_depth(gap, weight_variance):
    return depth_map(gap, weight_variance, DepthMap(depth=5))


def tangent(gap, weight_variance):
    return depth_map(gap, weight_variance, DepthMap(layers="all"))


class TestEntrywise:
    @pytest.mark.parametrize("function", [flow, contrast, of_depth, tangent])
    @pytest.mark.parametrize(
        ("gap", "horizon", "in_dims"),
        [
            ((3, 4), (), (0, None)),
            ((4, 3), (4,), (1, None)),
            ((4,), (3,), (None, 0)),
            ((2, 4), (3, 1, 4), (None, 0)),
            ((2, 3, 4), (4, 3), (1, 1)),
            ((3,), (3, 4), (0, 0)),
        ],
    )
    def test_vmap(self, function, gap, horizon, in_dims):
        inputs = points(*gap).abs().clamp(max=2), points(*horizon, seed=1).abs()
        expected = loop(function, in_dims, *inputs)
        assert torch.equal(vmap(function, in_dims)(*inputs), expected)

        def slope(*inputs):
            return grad(lambda *own: function(*own).sin().sum(), argnums=1)(*inputs)

        torch.testing.assert_close(vmap(slope, in_dims)(*inputs), loop(slope, in_dims, *inputs))

    def test_vmap_of_the_second_derivative(self):
        second = grad(grad(lambda gap: flow(gap, torch.tensor(1.5, dtype=torch.float64))))
        gap = torch.tensor([0.1, 0.9, 1.7], dtype=torch.float64)
        torch.testing.assert_close(vmap(second)(gap), loop(second, (0,), gap))


OPTIONS = [{}, {"contrast": True, "variance": "unit"}, {"depth": 4}, {"layers": "all"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("compiled", [True, False])
class TestCovariance:
    def of_rows(self, compiled, monkeypatch, options, **more):
        if not compiled:
            monkeypatch.setattr(autograd, "_numba_module", lambda name: None)
        z, w = points(4, 3, seed=1), torch.tensor(1.2, dtype=torch.float64)

        def matrix(x, weight_variance=w):
            return resnet_covariance(x, z, weight_variance, **options, **more)

        return matrix

    @pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0)])
    def test_vmap(self, compiled, monkeypatch, options, in_dims):
        options = {"variance": "no_growth"} | options  # growth is checked for overflow
        matrix = self.of_rows(compiled, monkeypatch, options)
        x = points(2, 5, 3) if in_dims[0] == 0 else points(5, 3)
        w = torch.tensor([0.4, 2.0] if in_dims[1] == 0 else 0.7, dtype=torch.float64)
        expected = loop(matrix, in_dims, x, w)
        torch.testing.assert_close(vmap(matrix, in_dims)(x, w), expected, rtol=1e-14, atol=1e-14)

    def test_vmap_of_the_gradient(self, compiled, monkeypatch, options):
        matrix, x = self.of_rows(compiled, monkeypatch, options), points(6, 3)
        slope = grad(lambda a: matrix(a[None]).sin().sum())
        torch.testing.assert_close(vmap(slope)(x), loop(slope, (0,), x))

    def test_vmap_of_the_gradient_of_the_diagonal(self, compiled, monkeypatch, options):
        matrix, x = self.of_rows(compiled, monkeypatch, options, diag=True), points(6, 4, 3)
        slope = grad(lambda a: matrix(a).sin().sum())
        torch.testing.assert_close(vmap(slope)(x), loop(slope, (0,), x))

    @pytest.mark.parametrize("no_grad", [False, True])
    def test_jacobian(self, compiled, monkeypatch, options, no_grad):
        matrix, x = self.of_rows(compiled, monkeypatch, options), points(2, 3)
        expected = torch.autograd.functional.jacobian(matrix, x)
        with torch.set_grad_enabled(not no_grad):
            torch.testing.assert_close(jacrev(matrix)(x), expected)

    def test_hessian(self, compiled, monkeypatch, options):
        matrix, x = self.of_rows(compiled, monkeypatch, options), points(2, 3)
        hessian = jacrev(jacrev(lambda x: matrix(x).sin().sum()))
        if options.keys() & {"depth", "layers"}:
            with pytest.raises(RuntimeError, match="second derivatives"):
                hessian(x)
            return
        expected = torch.autograd.functional.hessian(lambda x: matrix(x).sin().sum(), x)
        torch.testing.assert_close(hessian(x), expected)


@pytest.mark.parametrize("path", ["table", "direct"])
def test_jacobian_of_the_general_covariance(path):
    z, w = points(4, 3, seed=1), torch.tensor(0.8, dtype=torch.float64)

    def matrix(x):
        return general_covariance(x, z, w, activation="erf", path=path)

    x = points(2, 3)
    expected = torch.autograd.functional.jacobian(matrix, x)
    torch.testing.assert_close(jacrev(matrix)(x), expected)


class TestWidensHalf:
    @staticmethod
    @widens_half
    def product(a, b, factor=None):
        assert a.dtype in (torch.float32, torch.float64)
        return a * b if factor is None else a * b * factor

    @pytest.mark.parametrize(
        ("first", "second", "result"),
        [
            (torch.float16, torch.float16, torch.float16),
            (torch.bfloat16, torch.bfloat16, torch.bfloat16),
            (torch.float16, torch.bfloat16, torch.float32),
            (torch.bfloat16, torch.float64, torch.float64),
            (torch.float32, torch.float32, torch.float32),
        ],
    )
    def test_dtype(self, first, second, result):
        a, b = torch.tensor([1.5], dtype=first), torch.tensor([2.5], dtype=second)
        for product in (self.product(a, b), self.product(a, b=b)):
            assert product.dtype == result
            assert product.item() == 3.75

    def test_products_are_not_rounded_on_the_way(self):
        a = torch.tensor([1 + 2.0**-10], dtype=torch.float16)
        assert self.product(a, a, factor=a).item() == torch.tensor((1 + 2.0**-10) ** 3).half()

    def test_gradient_has_the_dtype_of_the_input(self):
        gap = torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True)
        value = flow(gap, torch.tensor(1.0, dtype=torch.bfloat16))
        (gradient,) = torch.autograd.grad(value, gap)
        assert value.dtype == gradient.dtype == torch.bfloat16
