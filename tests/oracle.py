"""High-precision solutions of the ReLU correlation flow: the stored ones, and mpmath for others.

``fixtures/relu_flow.csv`` has 25 digits. ``solve`` inverts the travel time H of ``flow/angles.py``
by code that shares nothing with it: quadrature at 40 digits, and Newton's method on that.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import mpmath
from mpmath import mpf

DIGITS = 40
_FIXTURE = Path(__file__).parent / "fixtures" / "relu_flow.csv"


def in_high_precision(function):
    @functools.wraps(function)
    def wrapped(*args):
        with mpmath.workdps(DIGITS):
            return function(*args)

    return wrapped


@dataclass(frozen=True)
class Solution:
    """One pair at one horizon; ``slope`` is dc_T/dc_0, ``speed`` is dc_T/dT.

    ``blocks``, of stored solutions, is the residual blocks' part of the tangent kernel.
    """

    c0: mpf
    sine: mpf
    c: mpf
    slope: mpf
    speed: mpf
    blocks: mpf | None = None


@in_high_precision
def speed(angle):
    """F(cos(angle)), the right-hand side of the flow."""
    return (mpmath.sin(angle) - angle * mpmath.cos(angle)) / (2 * mpmath.pi)


@in_high_precision
def travel_time(angle):
    """H(angle) = int_angle^pi sin / F; the 6 pi / angle^2 of its integrand by hand."""

    def rest(phi):
        return mpmath.sin(phi) / speed(phi) - 6 * mpmath.pi / phi**2

    smooth = mpmath.quad(rest, [angle, mpmath.pi], method="gauss-legendre")
    return smooth + 6 * mpmath.pi * (1 / mpf(angle) - 1 / mpmath.pi)


@in_high_precision
def angle_at(time):
    """H^{-1}(time) by Newton's method from below: H is convex and H(angle) > 6 pi / angle - 11."""
    angle = 6 * mpmath.pi / (time + 11)
    for _ in range(100):
        step = (travel_time(angle) - time) * speed(angle) / mpmath.sin(angle)
        angle += step
        if abs(step) < angle * mpf(10) ** (-14):  # the error left is the square of that
            return angle
    raise ArithmeticError(f"no convergence at time {time}")


@functools.cache
@in_high_precision
def solve(angle, horizon) -> Solution:
    """The flow from ``angle`` > 0 for the time ``horizon`` > 0, both taken as exact numbers."""
    angle = mpf(angle)
    end = angle_at(travel_time(angle) + mpf(horizon))
    slope = speed(end) / speed(angle)
    return Solution(mpmath.cos(angle), mpmath.sin(angle), mpmath.cos(end), slope, speed(end))


@functools.cache
@in_high_precision
def table() -> dict[float, list[Solution]]:
    """The stored solutions of each horizon."""
    solutions: dict[float, list[Solution]] = {}
    with _FIXTURE.open() as lines:
        for row in csv.DictReader(lines):
            c0, c = mpf(row["c0"]), mpf(row["c_T"])
            solutions.setdefault(float(row["T"]), []).append(
                Solution(
                    c0,
                    mpmath.sqrt(1 - c0**2),
                    c,
                    mpf(row["dcT_dc0"]),
                    speed(mpmath.acos(c)),
                    mpf(row["ntk_hidden"]) / mpmath.exp(mpf(row["T"]) / 2),
                )
            )
    return solutions
