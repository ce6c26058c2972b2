from __future__ import annotations

import math

import mpmath
import numpy as np
import oracle
import pytest
import torch

from resnet_gp.flow.correlation import flow_and_slopes
from resnet_gp.flow.domain import DomainError
from resnet_gp.flow.table import (
    GROUP,
    MAX_HORIZON,
    Polynomial,
    chebyshev_coefficients,
    horizon_table,
    speed_polynomial,
    table_variable,
)

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
DTYPES = [torch.float64, torch.float32]
ROWS = [np.array([0.3, -1.2, 0.7, 0.05, 0.01, -0.002]), np.cos(np.arange(41.0)) / 3]


def tensor(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize("row", ROWS, ids=len)
def test_polynomial_is_the_chebyshev_sum(row):
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    polynomial = Polynomial.from_chebyshev([row], torch.float64).reshape(torch.Size())
    expected = np.polynomial.chebyshev.chebval(x.numpy(), row)
    np.testing.assert_allclose(polynomial(x), expected, rtol=0, atol=1e-14 * np.abs(row).sum())


def test_ill_conditioned_polynomials_stay_in_the_chebyshev_basis():
    polynomial = Polynomial.from_chebyshev([np.array([1.0, 1e-3]), ROWS[1]], torch.float64)
    assert polynomial.power_basis.tolist() == [True, False]


@pytest.mark.parametrize("count", range(1, 11))
def test_polynomials_are_padded_to_groups(count):
    polynomial = Polynomial.from_chebyshev([np.ones(count)], torch.float64)
    assert polynomial.coefficients.shape[-1] % GROUP == 1
    assert polynomial.coefficients.shape[-1] - count < GROUP


def test_batch_of_polynomials_in_both_bases_equals_each_alone():
    x = torch.linspace(-1, 1, 57, dtype=torch.float64)
    together = Polynomial.from_chebyshev(ROWS, torch.float64)
    for index, row in enumerate(ROWS):
        alone = Polynomial.from_chebyshev([row], torch.float64)
        assert torch.equal(together(x[:, None])[:, index], alone(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("horizon", [1e-6, 3e-4, 0.1, 1.0, 5.3, 100.0, 1e4])
def test_table_against_quadrature(horizon, dtype):
    """p = sin(theta_T / 2) / sin(theta_0 / 2), also where both sines are tiny."""
    gaps = torch.tensor([2.0**-46, 2.0**-20, 0.125, 1.5, 2], dtype=dtype)  # exact in both
    with mpmath.workdps(40):
        angles = [2 * mpmath.asin(mpmath.sqrt(mpmath.mpf(gap) / 2)) for gap in gaps.tolist()]
        ends = [1 - oracle.solve(angle, horizon).c for angle in angles]
        ratios = [mpmath.sqrt(end / gap) for end, gap in zip(ends, gaps.tolist(), strict=True)]
    values = horizon_table(tensor(horizon).squeeze(), dtype)(gaps)
    expected = torch.tensor([float(ratio) for ratio in ratios], dtype=torch.float64)
    assert ((values - expected).abs() <= 12 * EPS[dtype]).all()


@pytest.mark.parametrize("horizon", [0.05, 0.5, 1.0, 5.0, 20.0, 100.0])
def test_degrees_are_low(horizon):
    coefficients = horizon_table(tensor(horizon), torch.float64).polynomial.coefficients
    assert coefficients.shape[-1] <= 41


def test_degree_at_the_longest_horizon():
    coefficients = horizon_table(tensor(MAX_HORIZON), torch.float64).polynomial.coefficients
    assert coefficients.shape[-1] <= 121


@pytest.mark.parametrize("dtype", DTYPES)
def test_speed_polynomial(dtype):
    angle = np.linspace(0.05, math.pi, 50)
    x = torch.tensor(2 * np.tan(angle / 4) - 1, dtype=dtype)
    references = [
        float(oracle.speed(theta) / mpmath.sin(mpmath.mpf(theta) / 2) ** 3) for theta in angle
    ]
    error = speed_polynomial(dtype)(x).double() - torch.tensor(references, dtype=torch.float64)
    assert (error.abs() <= 8 * EPS[dtype]).all()


def test_speed_polynomial_is_in_the_power_basis():
    """The compiled gradient evaluates it by Horner's rule without asking."""
    assert all(bool(speed_polynomial(dtype).power_basis) for dtype in DTYPES)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 1)])
def test_batch_shapes(shape):
    horizons = torch.linspace(0.1, 7, math.prod(shape), dtype=torch.float64).reshape(shape)
    table = horizon_table(horizons, torch.float64)
    assert table.kappa.shape == shape
    assert table.polynomial.coefficients.shape[:-1] == shape
    assert table.polynomial.power_basis.shape == shape


def test_tables_are_kept():
    first, second = (horizon_table(tensor(0.7531), torch.float64) for _ in range(2))
    assert first.kappa.data_ptr() == second.kappa.data_ptr()


@pytest.mark.parametrize("power", [-12.0, -3.0, 0.5, 7.0, 13.0])
def test_neighbouring_cells_agree_where_they_meet(power):
    """A coefficient is a series in log T within a cell; at the edge, two of them must meet."""
    edge, gap = 2.0**power, tensor(2.0**-20, 0.125, 0.9, 1.5, 2)
    below, above = horizon_table(tensor(edge * (1 - 1e-15), edge), torch.float64)(gap[:, None]).mT
    torch.testing.assert_close(below, above, rtol=0, atol=8 * EPS[torch.float64])


@pytest.mark.parametrize("horizon", [-1e-300, -1.0, math.nan, math.inf, -math.inf, 1.0001e4])
def test_horizons_out_of_range_are_refused(horizon):
    with pytest.raises(ValueError, match="horizon must lie between 0 and 10000"):
        horizon_table(tensor(1.0, horizon), torch.float64)


def test_the_ends_of_the_range_are_accepted():
    ratios = horizon_table(tensor(0.0, MAX_HORIZON), torch.float64)(tensor(2.0))
    assert ratios[0] == pytest.approx(1, abs=1e-15)
    assert ratios[1] < 1e-2


def test_coefficients_of_a_known_series():
    (row,) = chebyshev_coefficients(lambda s: 1 + (2 * s[None] - 1) ** 2, torch.float64)
    np.testing.assert_allclose(row, [1.5, 0, 0.5], atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_series_that_does_not_converge_raises(dtype):
    with pytest.raises(DomainError, match="did not converge"):
        chebyshev_coefficients(lambda s: np.sqrt(s)[None], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("horizon", [0.0, 1e-6, 0.1, 1.0, 100.0, 1e4])
def test_maps_are_those_of_the_derivatives(horizon, dtype):
    """The compiled gradients evaluate them; phi itself is another way to the same numbers."""
    gap = torch.tensor([2.0**-20, 0.125, 0.9, 1.5, 2], dtype=dtype)
    table = horizon_table(tensor(horizon).squeeze(), dtype)
    ratio, quotient, speed = table.maps(table_variable(gap, table.kappa)[:, None]).unbind(-1)
    end, slope, pace = flow_and_slopes(gap, torch.tensor(horizon, dtype=dtype))
    bound = {"rtol": (200 + 2 * horizon) * EPS[dtype], "atol": 0}  # p falls to 6 / T
    torch.testing.assert_close(gap * ratio**2, end, **bound)
    torch.testing.assert_close(ratio**3 * quotient, slope, **bound)
    torch.testing.assert_close((gap / 2) ** 1.5 * ratio**3 * speed, pace, **bound)
    torch.testing.assert_close(table.largest, end[-1], **bound)
    torch.testing.assert_close(table.decrease, pace[-1], **bound)
