from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from resnet_gp.flow import row_blocks
from resnet_gp.flow.depth import DepthMap
from resnet_gp.flow.unit_covariance import unit_covariance_sum
from resnet_gp.flow.unit_product import unit_covariance_product

SPECS = [DepthMap(), DepthMap(contrast=True), DepthMap(depth=7), DepthMap(layers="all")]


def arguments(n, m, batch=(), d=3, seed=0):
    """Of a product of two components, each of which may be differentiated."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    units = (torch.nn.functional.normalize(normal(*batch, 2, size, d), dim=-1) for size in (n, m))
    scales = (normal(*batch, 2, size).exp() for size in (n, m))
    time = torch.tensor([2.0, 0.4], dtype=torch.float64).expand(*batch, 2)
    return [x.clone().requires_grad_() for x in (*units, *scales, time, normal(*batch, m, 2))]


def product(unit1, unit2, scale1, scale2, time, right, spec):
    return unit_covariance_sum(unit1, unit2, scale1, scale2, time, spec) @ right


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(row_blocks, "_FEWEST", 1)
    monkeypatch.setattr(row_blocks, "_ENTRIES", {"cpu": 40, "cuda": 40})


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("n", "m", "batch"), [(7, 9, ()), (1, 50, ()), (5, 4, (2, 3))])
def test_is_the_product_with_the_matrix(spec, n, m, batch):
    leaves = arguments(n, m, batch)
    results = []
    for function in (unit_covariance_product, product):
        out = function(*leaves, spec)
        results.append((out.detach(), *torch.autograd.grad(out.sin().sum(), leaves)))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-13 * other.norm()


@pytest.mark.usefixtures("path")
def test_one_set_of_points():
    unit, _, scale, _, time, right = arguments(6, 6)
    results = []
    for function in (unit_covariance_product, product):
        out = function(unit, unit, scale, scale, time, right, DepthMap())
        gradient = torch.autograd.grad(out.sin().sum(), (unit, scale, time, right))
        results.append((out.detach(), *gradient))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-13 * other.norm()


def test_derivatives():
    leaves = arguments(3, 4)
    assert gradcheck(unit_covariance_product, leaves)
    found = torch.autograd.grad(
        unit_covariance_product(*leaves).sin().sum(), leaves[4], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found[0].sum().backward()


def test_right_hand_sides_of_a_batch():
    *points, right = arguments(5, 4)
    rights = torch.stack([right, 2 * right, -right])
    found = unit_covariance_product(*points, rights)
    assert found.shape == (3, 5, 2)
    torch.testing.assert_close(found[1], 2 * unit_covariance_product(*points, right))


def test_empty():
    *points, right = arguments(0, 4)
    assert unit_covariance_product(*points, right).shape == (0, 2)
    *points, right = arguments(4, 0)
    assert not unit_covariance_product(*points, right).any()
