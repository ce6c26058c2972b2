from __future__ import annotations

import math

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from resnet_gp.flow.correlation import contrast, flow, flow_and_slopes

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
DTYPES = [torch.float64, torch.float32]
# Short and long horizons have polynomials in the Chebyshev basis, those between in the power basis.
HORIZONS = [1e-3, 1.0, 1e4]


def tensor(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def random_gaps(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    return 2 * torch.rand(*shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("horizon", oracle.table())
def test_against_the_oracle(horizon):
    rows = oracle.table()[horizon]
    gap = torch.tensor([float(1 - row.c0) for row in rows], dtype=torch.float64)
    end = flow(gap, tensor(horizon))
    gap_end, slope, speed = flow_and_slopes(gap, tensor(horizon))
    for index, row in enumerate(rows):
        assert abs(end[index].item() - row.c) <= 1e-14
        assert abs(gap_end[index].item() - (1 - row.c)) <= 1e-14 * (1 - row.c)
        assert abs(slope[index].item() - row.slope) <= 1e-14 * row.slope
        assert abs(speed[index].item() - row.speed) <= 1e-14 * row.speed


@pytest.mark.parametrize("horizon", oracle.table())
def test_contrast_against_the_oracle(horizon):
    rows = oracle.table()[horizon]
    (opposite,) = (row.c for row in rows if row.c0 == -1)
    gap = torch.tensor([float(1 - row.c0) for row in rows], dtype=torch.float64)
    found = contrast(gap, tensor(horizon))
    for index, row in enumerate(rows):
        exact = (row.c - opposite) / (1 - opposite)
        assert abs(found[index].item() - exact) <= 2e-14  # at every horizon


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("horizon", [0.0, 1e-3, 1.0, 100.0, 1e4])
def test_equal_points_stay_equal(horizon, dtype):
    gap_end, slope, speed = flow_and_slopes(tensor(0.0, dtype=dtype), tensor(horizon))
    assert gap_end == 0
    assert speed == 0
    assert (slope - 1).abs() <= 40 * EPS[dtype]
    assert flow(tensor(0.0, dtype=dtype), tensor(horizon)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize(
    "block",
    [slice(0, 1), slice(500, 501), slice(3, 997), slice(None, None, 7), slice(1, None, 2)],
    ids=str,
)
def test_entries_do_not_depend_on_their_neighbours(horizon, dtype, block):
    gap = random_gaps(1003, dtype=dtype)
    whole = flow(gap, tensor(horizon))
    assert torch.equal(whole[block], flow(gap[block], tensor(horizon)))
    assert torch.equal(whole[block], flow(gap[block].contiguous(), tensor(horizon)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layout_does_not_matter(dtype):
    gap = random_gaps(37, 29, dtype=dtype)
    whole = flow(gap, tensor(1.0))
    assert torch.equal(whole, flow(gap.T.contiguous().T, tensor(1.0)))
    assert torch.equal(whole[3:9, ::5], flow(gap[3:9, ::5], tensor(1.0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_horizons_of_a_batch_do_not_depend_on_each_other(dtype):
    gap = random_gaps(203, dtype=dtype)
    together = flow(gap, tensor(*HORIZONS)[:, None])
    for end, horizon in zip(together, HORIZONS, strict=True):
        assert torch.equal(end, flow(gap, tensor(horizon)))
        assert torch.equal(end[5:8], flow(gap[5:8], tensor(horizon)))


def test_slopes_do_not_depend_on_their_neighbours():
    gap = random_gaps(203)
    for whole, block in zip(
        flow_and_slopes(gap, tensor(1.0)), flow_and_slopes(gap[5:8], tensor(1.0)), strict=True
    ):
        torch.testing.assert_close(whole[5:8], block, rtol=4 * EPS[torch.float64], atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_horizon_is_the_identity(dtype):
    gap = random_gaps(501, dtype=dtype)
    torch.testing.assert_close(flow(gap, tensor(0.0)), 1 - gap, rtol=0, atol=2 * EPS[dtype])


@pytest.mark.parametrize(("first", "second"), [(1e-3, 1.0), (0.5, 0.5), (3.0, 40.0), (1e3, 5e3)])
def test_semigroup(first, second):
    gap = torch.linspace(0, 2, 201, dtype=torch.float64)
    halfway = 1 - flow(gap, tensor(first))
    end = flow(gap, tensor(first + second))
    torch.testing.assert_close(flow(halfway, tensor(second)), end, rtol=0, atol=1e-14)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_increases_in_the_initial_correlation(horizon):
    gap = torch.linspace(0, 2, 201, dtype=torch.float64)
    gap_end = flow_and_slopes(gap, tensor(horizon))[0]
    assert (gap_end.diff() > 0).all()


def test_increases_with_the_horizon():
    horizons = torch.tensor([0, 1e-4, 1e-2, 0.3, 1, 4, 30, 500, 1e4], dtype=torch.float64)
    gap_end = flow_and_slopes(tensor(0.01, 0.5, 1.0, 1.7, 2.0)[:, None], horizons)[0]
    assert (gap_end.diff(dim=-1) < 0).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    gap=st.one_of(st.floats(0, 2), st.floats(0, 1e-10), st.floats(0, 2**-50).map(lambda g: 2 - g)),
    horizon=st.one_of(st.floats(0, 1e4), st.floats(0, 2), st.floats(0, 1e-10)),
    dtype=st.sampled_from(DTYPES),
)
def test_is_a_correlation_that_never_decreases(gap, horizon, dtype):
    start = tensor(gap, dtype=dtype)
    end = flow(start, tensor(horizon))
    assert -1 <= end.item() <= 1
    assert end.item() >= 1 - start.item() - 2 * EPS[dtype]


def test_gradients():
    gap = tensor(0.02, 0.4, 1.0, 1.6, 1.97).requires_grad_()
    horizon = tensor(0.3, 2.0, 25.0)[:, None].requires_grad_()
    assert gradcheck(flow, (gap, horizon))


def test_second_derivatives():
    gap = tensor(0.02, 0.4, 1.0, 1.6, 1.97).requires_grad_()
    horizon = tensor(0.3, 2.0, 25.0)[:, None].requires_grad_()
    assert gradgradcheck(flow, (gap, horizon))


def test_derivatives_of_the_contrast():
    gap = tensor(0.3, 1.0, 1.7).requires_grad_()
    horizon = tensor(2.0).requires_grad_()
    assert gradcheck(contrast, (gap, horizon))
    assert gradgradcheck(contrast, (gap, horizon))


def test_second_derivatives_at_equal_points_are_dropped():
    gap, horizon = tensor(0.0, 1e-12).requires_grad_(), tensor(2.0).requires_grad_()
    slopes = torch.autograd.grad(flow(gap, horizon).sum(), (gap, horizon), create_graph=True)
    curvature = torch.autograd.grad(slopes[0].sum(), (gap, horizon), retain_graph=True)
    assert curvature[0][0] == 0
    assert curvature[0][1] > 1e4
    assert torch.isfinite(curvature[1]).all()
    mixed = torch.autograd.grad(slopes[1].sum(), gap)[0]
    assert mixed[0] == 0


def test_third_derivatives_are_refused():
    gap = tensor(0.5).requires_grad_()
    first = torch.autograd.grad(flow(gap, tensor(1.0)).sum(), gap, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), gap, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="third derivatives"):
        torch.autograd.grad(second.sum(), gap)


@pytest.mark.parametrize("horizon", [-1e-9, math.nan, 2e4, math.inf])
def test_horizons_out_of_range_are_refused(horizon):
    with pytest.raises(ValueError, match="horizon"):
        flow(tensor(0.5), tensor(horizon))


def test_no_gradient_is_computed_for_what_needs_none():
    gap, horizon = tensor(0.5), tensor(1.0).requires_grad_()
    flow(gap, horizon).backward()
    assert gap.grad is None
    assert horizon.grad > 0


def test_empty():
    assert flow(torch.empty(0, 3, dtype=torch.float64), tensor(1.0)).shape == (0, 3)
