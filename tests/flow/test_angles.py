from __future__ import annotations

import math

import mpmath
import numpy as np
import oracle
import pytest

from resnet_gp.flow import angles

EPS = np.finfo(np.float64).eps
ANGLES = np.concatenate(
    [np.geomspace(1e-8, 0.5, 20), np.linspace(0.55, 3.1, 40), [1.4999, 1.5, 1.5001, math.pi]]
)


def relative_error(values, references):
    pairs = zip(values, references, strict=True)
    return max(float(abs(mpmath.mpf(value) / reference - 1)) for value, reference in pairs)


@oracle.in_high_precision
def test_coefficients_of_the_travel_time():
    """Chebyshev coefficients of theta H / (pi - theta)^2, from quadrature at more nodes."""
    nodes = 38
    phases = [mpmath.pi * (k + mpmath.mpf(1) / 2) / nodes for k in range(nodes)]
    thetas = [mpmath.pi * (1 + mpmath.cos(phase)) / 2 for phase in phases]
    values = [theta * oracle.travel_time(theta) / (mpmath.pi - theta) ** 2 for theta in thetas]
    for order, stored in enumerate(angles._TRAVEL_TIME_COEFFICIENTS):
        terms = [v * mpmath.cos(order * phase) for v, phase in zip(values, phases, strict=True)]
        derived = mpmath.fsum(terms) * (1 if order == 0 else 2) / nodes
        assert abs(stored - derived) <= EPS * abs(derived) + 1e-25


@oracle.in_high_precision
def test_speed_has_full_relative_accuracy():
    references = [oracle.speed(theta) for theta in ANGLES]
    assert relative_error(angles.flow_speed(ANGLES), references) <= 4 * EPS
    numerators = [2 * mpmath.pi * reference for reference in references]
    assert relative_error(angles.sine_minus_angle_cosine(ANGLES), numerators) <= 4 * EPS


@oracle.in_high_precision
def test_reduced_speed():
    references = [oracle.speed(theta) / mpmath.sin(mpmath.mpf(theta) / 2) ** 3 for theta in ANGLES]
    values = angles.reduced_speed(ANGLES)
    assert relative_error(values, references) <= 6 * EPS
    assert ((values > 0.42) & (values <= 0.5 + EPS)).all()


@oracle.in_high_precision
def test_travel_time():
    thetas = ANGLES[:-1:3]
    references = [oracle.travel_time(theta) for theta in thetas]
    assert relative_error(angles.travel_time(thetas), references) <= 20 * EPS


def test_travel_time_at_the_ends():
    assert angles.travel_time(np.array([math.pi])) == 0
    with np.errstate(divide="ignore"):
        assert angles.travel_time(np.array([0.0])) == math.inf


@oracle.in_high_precision
def test_angle_at_travel_time_has_full_relative_accuracy():
    times = np.array([1e-6, 1e-3, 0.3, 1.0, 4.0, 30.0, 1e3, 1e6])
    references = [oracle.angle_at(mpmath.mpf(time)) for time in times]
    assert relative_error(angles.angle_at_travel_time(times), references) <= 8 * EPS


def test_angle_at_travel_time_inverts_the_travel_time():
    thetas = np.concatenate([np.geomspace(1e-7, 0.1, 50), np.linspace(0.1, 3.0, 200)])
    inverse = angles.angle_at_travel_time(angles.travel_time(thetas))
    np.testing.assert_allclose(inverse, thetas, rtol=50 * EPS)


@pytest.mark.parametrize("horizon", [1e-6, 1.0, 1e4])
def test_flow_angle(horizon):
    thetas = np.array([1e-6, 0.01, 1.0, 3.0, math.pi])
    references = [mpmath.acos(oracle.solve(theta, horizon).c) for theta in thetas]
    assert relative_error(angles.flow_angle(thetas, horizon), references) <= 50 * EPS


def test_zero_horizon_is_the_identity():
    assert np.array_equal(angles.flow_angle(ANGLES, 0.0), ANGLES)


def test_flow_angle_solves_the_ode():
    """d theta_T / dT = -F / sin(theta_T), by a central difference."""
    thetas, step = np.linspace(0.1, 3.1, 30), 1e-5
    ahead, behind = angles.flow_angle(thetas, 2 + step), angles.flow_angle(thetas, 2 - step)
    here = angles.flow_angle(thetas, 2.0)
    expected = -angles.flow_speed(here) / np.sin(here)
    np.testing.assert_allclose((ahead - behind) / (2 * step), expected, rtol=1e-8)
