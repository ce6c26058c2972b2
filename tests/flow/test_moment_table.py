"""Tabulated moments against closed forms of the same function."""

from __future__ import annotations

import pytest
import torch

from resnet_gp.activations import GELU, Activation, Erf, Sine
from resnet_gp.flow.moment_table import TabulatedMoments

CASES = {
    "erf": (Erf(), torch.erf),
    "gelu": (GELU(), torch.nn.functional.gelu),
    "sin": (Sine(), torch.sin),
}


def state(shape):
    """Variances from 1e-9 to 100 and correlations from -1 to 1."""
    generator = torch.Generator().manual_seed(3)
    p, n, m, k = shape
    variance1 = 10 ** torch.empty(p, n, 1, 1, dtype=torch.float64).uniform_(
        -9, 2, generator=generator
    )
    variance2 = 10 ** torch.empty(p, 1, m, 1, dtype=torch.float64).uniform_(
        -2, 1, generator=generator
    )
    correlation = torch.linspace(-1, 1, k, dtype=torch.float64)
    return variance1, variance2, (variance1 * variance2).sqrt() * correlation


@pytest.mark.parametrize("name", list(CASES))
def test_moments_and_their_slopes(name, path):
    closed, function = CASES[name]
    tabulated = TabulatedMoments(Activation(function, name=name))
    grid = state((2, 3, 2, 5))
    single = [part.expand(2, 3, 2, 5).contiguous() for part in grid]
    exact = closed.moment(*grid)
    scale = (grid[0].clamp(max=1) * grid[1].clamp(max=1)).sqrt()
    for arguments in (grid, single):
        error = (tabulated.moment(*arguments) - exact) / scale
        assert error.abs().max() < 1e-8
        for found, partial in zip(
            tabulated.partials(*arguments), closed.partials(*grid), strict=True
        ):
            assert (found - partial).abs().max() < 1e-6 * max(1, partial.abs().max())
