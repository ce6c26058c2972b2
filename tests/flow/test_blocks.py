from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from resnet_gp.flow.angles import flow_angle, reduced_speed
from resnet_gp.flow.blocks import BLOCK, log_slope_blocks, ratio_blocks

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
HORIZONS = [0.0, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0, 5.0, 24.0, 100.0, 1e3, 1e4]


def evaluate(kappa, coefficients, s):
    """The maps at s, by the module's formula; ``maps x points``."""
    x = 2 * s - 1
    double = 2 * x * x - 1
    z = 2 * double * double - 1
    value = np.zeros((coefficients.shape[-1], len(s)), s.dtype)
    for row in coefficients.numpy():
        value = value * z + row[:, None]
    basis = np.stack([np.ones_like(x), x, double, x * double])
    return (value.reshape(-1, BLOCK, len(s)) * basis).sum(1)


def expected(horizon, kappa, s):
    s = s.astype(np.float64)
    start = 4 * np.arctan(s / (1 + kappa - kappa * s))
    end = flow_angle(start, horizon)
    ratio = np.sin(end / 2) / np.sin(start / 2)
    speed = ratio**3 * reduced_speed(end)
    return ratio, speed / reduced_speed(start), ratio**2, speed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("horizon", HORIZONS)
def test_against_the_angles(horizon, dtype):
    s = np.random.default_rng(0).uniform(1e-6, 1, 2000).astype(str(dtype)[6:])
    time = torch.tensor(horizon, dtype=torch.float64)
    kappa, coefficients = ratio_blocks(time, dtype)
    ratio, *slopes = expected(horizon, float(kappa), s)
    assert np.abs(evaluate(kappa, coefficients, s)[0] - ratio).max() <= 20 * EPS[dtype]
    kappa, coefficients = log_slope_blocks(time, dtype)
    found = evaluate(kappa, coefficients, s)
    bound = 40 * EPS[dtype] * (1 + math.log1p(horizon))
    if dtype == torch.float64 and horizon in (1e-6, 1e4):
        bound = 1e-10  # 128 coefficients are not enough there: see log_slope_blocks
    assert np.abs(found - np.log(slopes)).max() <= bound


def test_a_batch_is_its_elements():
    horizons = torch.tensor([[0.5, 1e4], [3.0, 0.0]], dtype=torch.float64)
    kappa, coefficients = ratio_blocks(horizons, torch.float64)
    assert kappa.shape == (2, 2)
    for index in np.ndindex(2, 2):
        one_kappa, one = ratio_blocks(horizons[index], torch.float64)
        assert kappa[index] == one_kappa
        assert torch.equal(coefficients[index][-len(one) :], one)
        assert not coefficients[index][: -len(one)].any()


def test_few_numbers_of_steps():
    lengths = {len(ratio_blocks(torch.tensor(T), torch.float64)[1]) for T in HORIZONS}
    assert lengths <= {8, 16, 32}


def test_horizons_beyond_the_table():
    with pytest.raises(ValueError, match="horizon must lie between"):
        ratio_blocks(torch.tensor(2e4), torch.float64)
