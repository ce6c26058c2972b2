"""Estimates from replicates, and fits with standard errors. No networks here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Parameters with their covariance, and chi^2 of the residuals."""

    parameters: Array
    covariance: Array
    chi2: float
    degrees_of_freedom: int

    @property
    def standard_errors(self) -> Array:
        return np.sqrt(np.diag(self.covariance))


def jackknife(rows: Array, statistic: Callable[[Array], Array]) -> tuple[Array, Array]:
    """A function of the mean of the rows, and its standard error.

    Args:
        rows: ``B x k``, independent and alike.
        statistic: from the mean row, ``k``, to numbers.
    """
    total = rows.sum(0)
    left_out = np.array([statistic((total - row) / (len(rows) - 1)) for row in rows])
    spread = np.square(left_out - left_out.mean(0)).sum(0)
    return statistic(total / len(rows)), np.sqrt(spread * (len(rows) - 1) / len(rows))


def linear_fit(design: Array, values: Array, errors: Array) -> Fit:
    """Weighted least squares, values = design @ parameters, with known standard errors."""
    scaled = design / errors[:, None]
    covariance = np.linalg.inv(scaled.T @ scaled)
    parameters = covariance @ (scaled.T @ (values / errors))
    residuals = (values - design @ parameters) / errors
    freedom = len(values) - design.shape[1]
    return Fit(parameters, np.asarray(covariance, float), float(residuals @ residuals), freedom)


def curve_fit(
    model: Callable[[Array], Array], start: Sequence[float], values: Array, errors: Array
) -> Fit:
    """Nonlinear weighted least squares; ``model`` maps parameters to predicted values."""

    def residuals(parameters: Array) -> Array:
        return (model(parameters) - values) / errors

    found = least_squares(residuals, start, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    try:
        covariance = np.linalg.inv(found.jac.T @ found.jac)
    except np.linalg.LinAlgError:  # a parameter makes no difference where the fit ends
        covariance = np.full((len(start), len(start)), np.nan)
    return Fit(found.x, covariance, 2 * float(found.cost), len(values) - len(found.x))


def extrapolate(x: Array, values: Array, errors: Array, order: int = 1) -> tuple[float, float]:
    """Value at x = 0 of a polynomial fit, with its standard error."""
    fit = linear_fit(np.vander(x, order + 1, increasing=True), values, errors)
    return float(fit.parameters[0]), float(fit.standard_errors[0])


def power_law(x: Array, values: Array, errors: Array) -> Fit:
    """values = a x^p: parameters (log a, p), by weighted least squares of the logarithms."""
    design = np.stack([np.ones_like(x), np.log(x)], 1)
    return linear_fit(design, np.log(values), errors / values)


def corrected_power_law(n: Array, values: Array, errors: Array) -> Fit:
    """values = a n^p (1 + b / n), a power law with its first correction: parameters (a, p, b)."""
    start = power_law(n, values, errors).parameters

    def model(parameters: Array) -> Array:
        a, p, b = parameters
        return a * n**p * (1 + b / n)

    return curve_fit(model, (np.exp(start[0]), start[1], 0.0), values, errors)
