"""The correlation flow in the angle, and the pair of functions that solves it, in float64.

With c = cos(theta) and T = w(1 - alpha)^2, Theorem 3 of Hayou & Yang (2023) reads, for the
(leaky) ReLU family without block bias,

    dc/dt     =  F(c),                F(c) = (sin(theta) - theta cos(theta)) / (2 pi)
    dtheta/dt = -F(c) / sin(theta)

It is autonomous, so one function, the time H(theta) that the flow takes from pi down to theta,
solves it for every horizon: theta_T = H^{-1}(H(theta_0) + T).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial.chebyshev import cheb2poly
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SERIES_BELOW = 1.5
_SERIES_TERMS = 11

# Chebyshev coefficients on [0, pi] of W(theta) = theta H(theta) / (pi - theta)^2, from 40-digit
# quadrature of H (tests/flow/test_angles.py derives them again).
_TRAVEL_TIME_COEFFICIENTS = np.array(
    [
        2.3863739899688582776,
        0.58389423116639464626,
        0.13144313165237391913,
        0.029979412214521480743,
        0.0073944481445584840469,
        0.0018585421545750207189,
        0.00047883401131341755862,
        0.00012498631362761007293,
        0.000033027826432442896895,
        8.8053977753960369517e-6,
        2.3657691852957098356e-6,
        6.396267320533851278e-7,
        1.738784847411654928e-7,
        4.7488738783603465631e-8,
        1.3022994204221991462e-8,
        3.5841950436897042419e-9,
        9.8959960096378442867e-10,
        2.7401027044574417106e-10,
        7.6065798646701261504e-11,
        2.1165114752410810879e-11,
        5.9015850852107010565e-12,
        1.6487461229700871079e-12,
        4.6143047240295272069e-13,
        1.2934951898230657104e-13,
        3.6314095502701348614e-14,
        1.0209144568175441262e-14,
        2.8738506899797104227e-15,
        8.0995565316833374605e-16,
        2.285313577607327117e-16,
        6.4548560197781788527e-17,
        1.8249675097740466942e-17,
    ]
)
# The same polynomial in powers: as well conditioned, and much cheaper.
_TRAVEL_TIME_POWERS = cheb2poly(_TRAVEL_TIME_COEFFICIENTS)
# H(theta) > 6 pi / theta - _TAIL: the constant of the expansion of H at theta = 0.
_TAIL = 10.4706951566


def sine_minus_angle_cosine(theta: Array) -> Array:
    """sin(theta) - theta cos(theta), without the cancellation at small angles."""
    square = theta * theta
    series = np.ones_like(theta)
    for k in range(_SERIES_TERMS, 0, -1):
        series = 1 - square / (2 * k * (2 * k + 3)) * series
    series = series * (theta * square / 3)
    direct = np.sin(theta) - theta * np.cos(theta)
    return np.where(theta < _SERIES_BELOW, series, direct)


def flow_speed(theta: Array) -> Array:
    """F(c) = (sin(theta) - theta cos(theta)) / (2 pi), the right-hand side of Theorem 3."""
    return sine_minus_angle_cosine(theta) / (2 * math.pi)


def reduced_speed(theta: Array) -> Array:
    """F(c) / sin(theta / 2)^3, in [0.42, 0.5]: F without its zero at theta = 0."""
    return flow_speed(theta) / np.sin(theta / 2) ** 3


def power_series(coefficients: Array, x: Array) -> Array:
    """sum_k coefficients_k x^k, with three calls of NumPy."""
    powers = np.empty((len(coefficients), x.size))
    powers[0] = 1
    powers[1:] = x.ravel()
    np.multiply.accumulate(powers, out=powers)
    return (coefficients @ powers).reshape(x.shape)


def travel_time(theta: Array) -> Array:
    """H(theta), the time that the flow takes from the angle pi to theta; inf at 0, 0 at pi."""
    smooth = power_series(_TRAVEL_TIME_POWERS, theta * (2 / math.pi) - 1)
    return smooth * (math.pi - theta) ** 2 / theta


def angle_at_travel_time(time: Array) -> Array:
    """H^{-1}: the angle that the flow reaches from pi after ``time`` > 0.

    Halley's method from below, where H(theta) >= (pi - theta)^2 and H(theta) >= 6 pi / theta -
    10.47. H is convex and decreasing, with derivative -1 / r and r = F(c) / sin(theta); r' is
    theta / 2 pi - r cot(theta).
    """
    theta = np.maximum(math.pi - np.sqrt(time), 6 * math.pi / (time + _TAIL))
    for _ in range(60):
        sine, cosine = np.sin(theta), np.cos(theta)
        square = theta * theta
        series = square / (6 * math.pi) * (1 + square / 15 + square * square / 157.5)
        rate = np.where(theta < 0.02, series, (sine - theta * cosine) / (2 * math.pi * sine))
        excess = travel_time(theta) - time
        bend = theta / (2 * math.pi) - rate * cosine / sine
        step = excess * rate / (1 - excess * bend / 2)
        theta = np.minimum(theta + step, math.pi)
        if (np.abs(step) <= 1e-6 * theta).all():  # convergence is cubic
            break
    return theta


def flow_angle(theta: Array, horizon: float | Array) -> Array:
    """theta_T = H^{-1}(H(theta_0) + T) for angles in (0, pi] and horizons T >= 0."""
    theta, horizon = np.broadcast_arrays(theta, horizon)
    if not horizon.all():
        return np.where(horizon > 0, flow_angle(theta, np.maximum(horizon, 1.0)), theta)
    return angle_at_travel_time(travel_time(theta) + horizon)
