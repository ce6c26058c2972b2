"""Tables of known functions, on the compiled path and on the plain one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.flow.cells import (
    TINY,
    TableGrid,
    fit_tables,
    present_cells,
    present_pairs,
    single_pairs,
)
from resnet_gp.flow.domain import DomainError

CELLS = (-1, 0, 2)


def function(variance1, variance2, angle):
    """Two fields, smooth in all three arguments and not symmetric."""
    mean = np.log1p(variance1) + 0.5 * np.log1p(2 * variance2)
    decay = np.exp(-0.3 * angle) / (1 + variance2)
    return np.stack([mean * np.cos(angle / 2), decay + 0 * mean])


def values(nodes1, nodes2, angle):
    found = function(nodes1[:, :, None, None], nodes2[:, None, :, None], angle)
    return found, np.abs(found).max((2, 3, 4))


@pytest.fixture(scope="module")
def tables():
    pairs = [(one, two) for one in CELLS for two in CELLS]
    return fit_tables(pairs, values, 1e-13, "a function")


@pytest.fixture(scope="module")
def grid(tables):
    return TableGrid.of(CELLS, CELLS, tables, torch.float64)


def inputs(n, m, k=None):
    generator = np.random.default_rng(0)

    def variances(count):
        cell = generator.choice(CELLS, count)
        return 4.0 ** (cell + generator.uniform(0, 1, count))

    variance1, variance2 = variances(n), variances(m)
    angle = generator.uniform(0, math.pi, (n, m) if k is None else (n, m, k))
    angle.flat[:2] = 0, math.pi
    return variance1, variance2, angle


def covariance_of(variance1, variance2, angle):
    return np.sqrt(variance1 * variance2) * np.cos(angle)


def test_matrix(grid):
    variance1, variance2, angle = inputs(7, 5)
    covariance = covariance_of(variance1[:, None], variance2, angle)
    found = grid.matrix(*map(torch.from_numpy, (variance1, variance2, covariance)))
    exact = function(variance1[:, None], variance2, angle)
    assert np.abs(found.numpy() - exact).max() < 1e-11


def test_single_pairs_take_their_own_tables_only(tables):
    variance1, variance2, angle = inputs(6, 6)
    angle = angle.diagonal().copy()
    covariance = covariance_of(variance1, variance2, angle)
    own = [torch.from_numpy(part) for part in (variance1, variance2, covariance)]
    pairs = present_pairs(*own[:2])
    assert len(pairs) < len(tables)
    found = single_pairs({pair: tables[pair] for pair in pairs}, *own)
    assert np.abs(found.numpy() - function(variance1, variance2, angle)).max() < 1e-11


def test_compiled_nodes_are_those_of_torch(grid):
    loops = compiled_loops("flow.compiled_cells", grid.coefficients)
    if loops is None:
        pytest.skip("numba is not installed")
    variance1, variance2, angle = inputs(4, 3, 5)
    covariance = covariance_of(variance1[:, None, None], variance2[:, None], angle)
    own = [torch.from_numpy(part) for part in (variance1, variance2, covariance)]
    expected, out = grid.matrix(*own), torch.empty(2, 1, 4, 3, 5, dtype=torch.float64)
    bases = grid.bases(own[0][None], own[1][None])
    arguments = (grid.coefficients, grid.lengths, *bases, own[0][None].sqrt(), own[1][None].sqrt())
    loops.nodes(*(part.numpy() for part in (*arguments, own[2][None], out)))
    assert (out[:, 0] - expected).abs().max() < 1e-13


def test_cells_meet_at_powers_of_four():
    variance = torch.tensor([0.0, TINY, 0.25, 1.0, 3.99, 4.01], dtype=torch.float64)
    assert present_cells(variance) == (-50, -1, 0, 1)


def test_a_function_with_a_jump_does_not_converge():
    def step(nodes1, nodes2, angle):
        found = np.sign(function(nodes1[:, :, None, None], nodes2[:, None, :, None], angle) - 0.4)
        return found, np.ones((2, len(nodes1)))

    with pytest.raises(DomainError, match=r"a step in variance cells \(0, 0\) did not conv"):
        fit_tables([(0, 0)], step, 1e-10, "a step")


def test_stack_of_one_grid_is_one_table(grid):
    assert len(TableGrid.stack([grid, grid]).coefficients) == 1
    other = TableGrid(grid.cells1, grid.cells2, 2 * grid.coefficients, grid.lengths)
    stacked = TableGrid.stack([grid, other])
    assert torch.equal(stacked.coefficients[1], 2 * stacked.coefficients[0])
    assert stacked.fields == 2
