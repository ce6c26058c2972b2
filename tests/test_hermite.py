"""Hermite coefficients against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from resnet_gp.hermite import checked_steepness, hermite_series


def test_polynomial():
    """(sqrt(q) z)^3 = q^{3/2} (sqrt(6) h_3 + 3 h_1)."""
    q = np.array([0.5, 2.0])
    series = hermite_series(lambda u: u**3, q)
    assert series.coefficients[1] == pytest.approx(3 * q**1.5, rel=1e-13)
    assert series.coefficients[3] == pytest.approx(math.sqrt(6) * q**1.5, rel=1e-13)
    assert series.second_moment == pytest.approx(15 * q**3, rel=1e-13)


@pytest.mark.parametrize("q", [1e-28, 1e-12, 1e-8, 0.01, 1.0, 40.0])
def test_exponential_decay_of_the_cosine(q):
    """E[cos(sqrt(q) z) h_{2k}(z)] = (-q)^k exp(-q / 2) / sqrt((2k)!)."""
    coefficients = hermite_series(torch.cos, np.array([q])).coefficients[:, 0]
    for k in range(3):
        exact = (-q) ** k * math.exp(-q / 2) / math.sqrt(math.factorial(2 * k))
        assert coefficients[2 * k] == pytest.approx(exact, rel=1e-7, abs=3e-16)


def test_steepness_is_the_largest_slope():
    assert checked_steepness(torch.tanh, "tanh") == pytest.approx(1.0, abs=3e-3)


def test_error_of_a_kink_is_seen():
    series = hermite_series(torch.abs, np.array([1.0]))
    assert series.error[0] > 1e-9
