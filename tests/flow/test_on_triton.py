"""Triton's kernels against plain torch, on a CUDA device or in Triton's interpreter.

Without a device, the last test runs this file's others in a process of its own, in which Triton
interprets its kernels on the CPU: it decides that when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import oracle
import pytest
import torch
from gpytorch.kernels import ScaleKernel

pytest.importorskip("triton", reason="triton is an extra")
from one_network import unit_covariance

from resnet_gp.flow import on_torch, on_triton, paths
from resnet_gp.flow.depth import DepthMap
from resnet_gp.flow.unit_covariance import unit_covariance_sum
from resnet_gp.flow.unit_points import flat_points
from resnet_gp.flow.unit_product import unit_covariance_product
from resnet_gp.kernels import resnet_sum_kernel
from resnet_gp.kernels.large_covariance import NetworksOperator
from resnet_gp.kernels.resnet_sum_kernel import ResNetSumKernel

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_CUDA = torch.cuda.is_available()
DEVICE = "cuda" if ON_CUDA and not INTERPRETED else "cpu"
NO_DEVICE = "needs a CUDA device; interpreted by test_in_the_interpreter"
SEEN = 20.0  # in units of eps: sums of rows in another order, products contracted or not

compares = pytest.mark.skipif(not (INTERPRETED or ON_CUDA), reason=NO_DEVICE)

LIMIT, CONTRAST, DEPTH = DepthMap(), DepthMap(contrast=True), DepthMap(depth=7)
TANGENT = DepthMap(layers="blocks", depth=5)


@pytest.fixture(autouse=True)
def on_triton_path(monkeypatch):
    monkeypatch.setattr(paths, "path_of", lambda tensor: on_triton)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_points(
    spec=LIMIT, dtype=torch.float64, n=35, m=None, batch=1, components=1, d=3, times=(2.0, 60.0)
):
    """Points on both sides, among them equal, almost equal and opposite ones; no m: one side."""
    shape = batch, components
    unit1 = torch.nn.functional.normalize(normal(*shape, n, d), dim=-1)
    scale1, time = normal(*shape, n, seed=2).exp(), torch.tensor(times[:components])
    unit2, scale2 = unit1, scale1
    if m is not None:
        near = torch.nn.functional.normalize(unit1[:, :, 2:4] + 1e-5, dim=-1)
        others = torch.nn.functional.normalize(normal(*shape, m, d, seed=1), dim=-1)
        unit2 = torch.cat([unit1[:, :, :2], near, -unit1[:, :, 4:5], others], 2)[:, :, :m]
        scale2 = normal(*shape, m, seed=3).exp()
    time = time.double() * torch.arange(1, batch + 1)[:, None]
    one, two, three, four = (x.to(DEVICE, dtype) for x in (unit1, unit2, scale1, scale2))
    sides = (one, one, three, three) if m is None else (one, two, three, four)
    return flat_points(*sides, time.to(DEVICE, dtype), spec)[0]


def assert_close(found, expected, factor=SEEN):
    eps = torch.finfo(expected.dtype).eps
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found - expected).norm() <= factor * eps * expected.norm() + 1e-30


def assert_gradients_close(points, found, expected):
    if points.is_symmetric:
        found, expected = ((one[0] + one[1], one[2] + one[3], one[4]) for one in (found, expected))
    # Derivatives in the angle are infinite at opposite points, and magnify rounding next to them.
    factor = 50 * SEEN if points.spec.is_tangent else 4 * SEEN
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, factor)


CASES = [
    {"spec": LIMIT, "m": 41, "components": 2},
    {"spec": LIMIT, "dtype": torch.float32, "components": 2, "n": 70},
    {"spec": LIMIT, "m": 9, "dtype": torch.float32, "times": (900.0,)},  # by Clenshaw's rule
    {"spec": CONTRAST, "m": 9, "dtype": torch.float32, "times": (20.0,)},
    {"spec": CONTRAST, "batch": 2, "n": 15},
    {"spec": DEPTH, "m": 9, "n": 12, "batch": 2},
    {"spec": DEPTH, "dtype": torch.float32},
    {"spec": TANGENT, "m": 4, "n": 20, "dtype": torch.float32, "components": 2},
    {"spec": TANGENT, "n": 20},
    {"spec": LIMIT, "n": 1},
    {"spec": LIMIT, "n": 5, "m": 6, "d": 18},
]


@pytest.mark.gpu
@compares
@pytest.mark.parametrize("case", CASES, ids=str)
class TestAgainstTorch:
    def test_covariance(self, case):
        points = some_points(**case)
        found = on_triton.covariance(points)
        assert_close(found, on_torch.covariance(points))
        if points.is_symmetric:
            assert torch.equal(found, found.mT)

    def test_gradient(self, case):
        points = some_points(**case)
        shape = on_torch.covariance(points).shape
        grad = normal(*shape, seed=4).abs().to(DEVICE, points.unit1.dtype)  # nothing cancels
        expected = on_torch.gradient(points, grad, True)
        assert_gradients_close(points, on_triton.gradient(points, grad, True), expected)


@pytest.mark.gpu
@compares
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[8]], ids=str)
def test_products(case, width):
    points = some_points(**case)
    b, n, m = on_torch.covariance(points).shape
    left, right = (
        normal(b, size, width, seed=seed).to(DEVICE, points.unit1.dtype)
        for size, seed in ((n, 5), (m, 6))
    )
    assert_close(on_triton.product(points, right), on_torch.product(points, right))
    found, expected = (
        path.product_gradient(points, left, right, True) for path in (on_triton, on_torch)
    )
    assert_gradients_close(points, found, expected)


@pytest.mark.gpu
@compares
class TestSizes:
    def test_many_columns(self, monkeypatch):
        monkeypatch.setattr(on_triton, "MAX_WIDTH", 2)
        points, right = some_points(n=5), normal(1, 5, 5).to(DEVICE)
        assert_close(on_triton.product(points, right), on_torch.product(points, right))

    def test_features_in_blocks(self):
        """More dimensions than a program has sums for."""
        points = some_points(n=3, d=70)
        grad = normal(1, 3, 3).to(DEVICE)
        expected = on_torch.gradient(points, grad, True)
        assert_gradients_close(points, on_triton.gradient(points, grad, True), expected)

    def test_without_the_gradient_in_units(self):
        points, grad = some_points(n=5), normal(1, 5, 5).to(DEVICE)
        found, expected = (on_triton.gradient(points, grad, units) for units in (False, True))
        assert all(torch.equal(a, b) for a, b in zip(found[2:], expected[2:], strict=True))

    @pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0)])
    def test_empty(self, n, m):
        unit1, unit2, time = normal(1, n, 3), normal(1, m, 3), torch.ones(1).double()
        leaves = [
            x.to(DEVICE).requires_grad_()
            for x in (unit1, unit2, normal(1, n), normal(1, m), time, normal(m, 2))
        ]
        K, product = unit_covariance_sum(*leaves[:5]), unit_covariance_product(*leaves)
        assert K.shape == (n, m)
        assert torch.equal(product, torch.zeros_like(product))
        assert product.shape == (n, 2)
        for one in torch.autograd.grad(K.sum() + product.sum(), leaves, allow_unused=True):
            assert one is None or not one.any()

    def test_bits_do_not_depend_on_the_other_points(self):
        points = some_points(n=37, m=70)
        whole = on_triton.covariance(points)
        part = on_triton.covariance(points.of_rows(slice(3, 30)))
        assert torch.equal(part, whole[:, 3:30])


@pytest.mark.gpu
@compares
def test_against_the_oracle():
    for horizon, solutions in list(oracle.table().items())[::4]:
        angles = torch.tensor([float(one.sine) for one in solutions], dtype=torch.float64)
        cosines = torch.tensor([float(one.c0) for one in solutions], dtype=torch.float64)
        units = torch.stack([cosines, angles], -1).to(DEVICE)
        first = torch.tensor([[1.0, 0.0]], dtype=torch.float64, device=DEVICE)
        time = torch.tensor(horizon, dtype=torch.float64, device=DEVICE)
        one, many = torch.ones_like(first[:, 0]), torch.ones_like(units[:, 0])
        found = unit_covariance(first, units, one, many, time)[0].cpu()
        expected = torch.tensor([float(one.c) for one in solutions], dtype=torch.float64)
        assert (found - expected).abs().max() <= 1e-14


@pytest.mark.gpu
@compares
def test_derivatives_of_products_and_covariances_in_autograd():
    points = some_points(n=4, m=5, components=2)
    right = normal(5, 2, seed=7).to(DEVICE)
    leaves = [x.requires_grad_() for x in (*points[:4], points.time, right[None])]
    product = unit_covariance_product(*leaves)
    dense = unit_covariance_sum(*leaves[:5]) @ leaves[5]
    weights = normal(*product.shape, seed=8).to(DEVICE)
    found, expected = (torch.autograd.grad(one, leaves, weights) for one in (product, dense))
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, 100)


@pytest.mark.gpu
@compares
def test_operator_of_a_kernel(monkeypatch):
    kernel = ScaleKernel(ResNetSumKernel(input_bias=True, variance="no_growth")).double().to(DEVICE)
    x, right = normal(6, 3).to(DEVICE), normal(6, 2, seed=1).to(DEVICE)

    def product_and_gradients():
        product = kernel(x) @ right
        return product.detach(), *torch.autograd.grad(product.sin().sum(), kernel.parameters())

    expected = product_and_gradients()
    monkeypatch.setattr(resnet_sum_kernel, "is_too_large", lambda x1, x2: True)
    assert isinstance(kernel.base_kernel(x).evaluate_kernel(), NetworksOperator)
    for one, other in zip(product_and_gradients(), expected, strict=True):
        assert_close(one, other, 200)


@pytest.mark.skipif(INTERPRETED, reason="runs in the interpreter")
def test_in_the_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ended = subprocess.run(
        [*command, __file__],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed, 1 skipped" in ended.stdout
