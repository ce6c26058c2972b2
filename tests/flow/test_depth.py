from __future__ import annotations

import time

import mpmath
import numpy as np
import oracle
import pytest
import torch
from torch.autograd import gradcheck

from resnet_gp.flow import depth
from resnet_gp.flow.correlation import flow, flow_and_slopes
from resnet_gp.flow.depth import DepthMap, depth_map, depth_table

GAPS = [2.0, 2 - 1e-10, 1.999, 1.4, 0.7, 0.01, 1e-9, 0.0]


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def recursion(gap, weight, blocks, slope):
    """c_L, M_L = dc_L/dc_0 and J_L of one correlation, block by block at 30 digits."""
    with mpmath.workdps(30):
        c, w, alpha = 1 - mpmath.mpf(gap), mpmath.mpf(weight), mpmath.mpf(slope)
        length = blocks + w * (1 + alpha**2) / 2
        M, J = mpmath.mpf(1), mpmath.mpf(0)
        for _ in range(blocks):
            theta = mpmath.acos(c)
            F = (mpmath.sin(theta) - theta * c) / (2 * mpmath.pi)
            shrink = 1 - w * (1 - alpha) ** 2 / length * theta / (2 * mpmath.pi)
            J = shrink * J + w / length * (c * (1 + alpha**2) / 2 + (1 - alpha) ** 2 * F)
            M, c = shrink * M, c + w * (1 - alpha) ** 2 / length * F
        return c, M, J


def values(layers, gaps, weight, blocks, slope=0.0):
    spec = DepthMap(slope, blocks, layers)
    return depth_table(spec, tensor(weight), torch.float64).derivatives(tensor(*gaps))


@pytest.mark.parametrize(
    ("blocks", "weight", "slope"),
    [(1, 1, 0), (1, 300, -1), (2, 1, -1), (3, 0.3, 0.1), (50, 1, 0), (100, 40, 0), (333, 2, -1)],
)
def test_is_the_recursion(blocks, weight, slope):
    c, M, J = zip(*(recursion(gap, weight, blocks, slope) for gap in GAPS), strict=True)
    end, end_slope, _ = values("readout", GAPS, weight, blocks, slope)
    np.testing.assert_allclose(end, np.array(c, float), atol=5e-15)
    np.testing.assert_allclose(end_slope, np.array(M, float), atol=2e-14)
    np.testing.assert_allclose(
        values("blocks", GAPS, weight, blocks, slope)[0], np.array(J, float), rtol=0, atol=5e-14
    )
    whole = [a + (1 - gap) * b + d for gap, a, b, d in zip(GAPS, c, M, J, strict=True)]
    np.testing.assert_allclose(
        values("all", GAPS, weight, blocks, slope)[0], np.array(whole, float), rtol=0, atol=5e-14
    )


@pytest.mark.parametrize("weight", [1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-15])
@pytest.mark.parametrize("blocks", [2, 7, 100])
def test_tangent_kernels_that_are_nearly_linear(blocks, weight):
    def whole(w):
        ends = (recursion(gap, w, blocks, 0) for gap in GAPS)
        return [c + (1 - gap) * M + J for gap, (c, M, J) in zip(GAPS, ends, strict=True)]

    found, _, speed = values("all", GAPS, weight, blocks)
    np.testing.assert_allclose(found, np.array(whole(weight), float), rtol=0, atol=5e-14)
    with mpmath.workdps(30):
        above, below = (
            whole(mpmath.mpf(weight) * f)
            for f in (1 + mpmath.mpf(10) ** -6, 1 - mpmath.mpf(10) ** -6)
        )
        slopes = [float((a - b) / (2e-6 * weight)) for a, b in zip(above, below, strict=True)]
    np.testing.assert_allclose(speed, slopes, rtol=0, atol=1e-6)


def test_keeps_the_digits_of_small_gaps():
    table = depth_table(DepthMap(0.0, 1000), tensor(1.0), torch.float64)
    assert table.value(tensor(-1.0)).item() == pytest.approx(1, abs=4e-16)
    assert table.values(tensor(0.0)).item() == 1


@pytest.mark.parametrize("horizon", oracle.table())
def test_the_tangent_kernel_is_the_oracle(horizon):
    rows = oracle.table()[horizon]
    gaps = [float(1 - row.c0) for row in rows]
    found = values("blocks", gaps, horizon, None)[0]
    expected = np.array([row.blocks for row in rows], float)  # without the growth factor
    assert np.abs(found.numpy() - expected).max() <= 1e-13 * max(1, horizon)
    whole = values("all", gaps, horizon, None)[0].numpy()
    expected = np.array([row.blocks + row.c + row.c0 * row.slope for row in rows], float)
    assert (np.abs(whole - expected) <= 1e-11 * np.abs(expected)).all()


@pytest.mark.parametrize("horizon", [1e-6, 0.01, 1.0, 30.0, 1e4])
def test_the_limit_of_the_composition_is_the_flow(horizon):
    gap = torch.linspace(0, 2, 201, dtype=torch.float64)
    end, slope, speed = depth_table(DepthMap(), tensor(horizon), torch.float64).derivatives(gap)
    _, flow_slope, flow_speed = flow_and_slopes(gap, tensor(horizon))
    torch.testing.assert_close(end, flow(gap, tensor(horizon)), rtol=0, atol=2e-14)
    torch.testing.assert_close(slope, flow_slope, rtol=0, atol=1e-12 + 2e-14 * horizon)
    torch.testing.assert_close(speed, flow_speed, rtol=1e-9, atol=1e-14)


def test_the_tangent_kernel_of_a_linear_network():
    """Readout, input layer and w / L (1 + w / L)^{L - 1} for each block, times c_0."""
    gap = torch.linspace(0, 2, 21, dtype=torch.float64)
    found = depth_map(gap, tensor(1.7), DepthMap(1.0, None, "all"))
    torch.testing.assert_close(found, (2 + 1.7) * (1 - gap), rtol=0, atol=1e-13)


@pytest.mark.parametrize("layers", ["readout", "blocks", "all"])
@pytest.mark.parametrize("blocks", [1, 4, 1000, None])
@pytest.mark.parametrize("slope", [0.0, -1.0, 0.3])
def test_gradients(layers, blocks, slope):
    gap = tensor(1e-3, 0.2, 1.0, 1.8, 1.999).requires_grad_()
    weight = tensor(1.4).requires_grad_()
    spec = DepthMap(slope, blocks, layers)
    assert gradcheck(lambda g, w: depth_map(g, w, spec), (gap, weight), eps=1e-7, atol=1e-6)


def test_second_derivatives_raise():
    gap = tensor(0.5).requires_grad_()
    end = depth_map(gap, tensor(1.0), DepthMap(0.0, 5))
    [slope] = torch.autograd.grad(end, gap, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(slope, gap)


def test_batches_of_weight_variances():
    gap, weights = torch.linspace(0, 2, 9, dtype=torch.float64), tensor(0.1, 2.0, 50.0)
    together = depth_map(gap, weights[:, None], DepthMap(0.0, 20, "all"))
    for row, weight in zip(together, weights, strict=True):
        expected = depth_map(gap, weight[None], DepthMap(0.0, 20, "all"))
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-14)


def test_tables_are_quick_at_any_depth():
    seconds = []
    for blocks in [10, 999, 10**4, 10**6 - 1, 10**6] * 3:
        depth._table.cache_clear()
        depth._cell.cache_clear()
        start = time.process_time()  # whatever else the machine does
        depth_table(DepthMap(0.0, blocks, "all"), tensor(1.0), torch.float64)
        seconds.append(time.process_time() - start)
    assert np.median(seconds) < 0.05


def test_weight_variances_of_one_cell_share_its_series():
    depth._cell.cache_clear()
    for weight in np.linspace(4, 5.6, 20):
        depth_table(DepthMap(0.0, None, "all"), tensor(weight), torch.float64)
    assert depth._cell.cache_info().misses == 1


@pytest.mark.parametrize("layers", ["readout", "all"])
def test_neighbouring_cells_agree_where_they_meet(layers):
    gap, edge = torch.linspace(0, 2, 101, dtype=torch.float64), 2**2.5
    spec, near = DepthMap(0.0, 30, layers), tensor(edge * (1 - 1e-14), edge * (1 + 1e-14))
    for part in depth_table(spec, near[:, None], torch.float64).derivatives(gap):
        assert (part[0] - part[1]).abs().max() <= 2e-13 * part.abs().max()


def test_refuses_horizons_beyond_the_tables():
    with pytest.raises(ValueError, match="horizon"):
        depth_map(tensor(1.0), tensor(3e4), DepthMap(0.0, 10))
