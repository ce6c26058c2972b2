"""The limit correlation as a mixture of Gaussian kernels, for random features.

For unit vectors with inner product c and w ~ N(0, r I) in any dimension,

    e^{-r} cosh(r c) = E[cos(w.u) cos(w.v)],    e^{-r} sinh(r c) = E[sin(w.u) sin(w.v)].

Nonnegative combinations over the rates r, with a constant and a linear term, reproduce c_T to
better than 1e-6 of its range 1 - c_T(-1), at every horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from resnet_gp.flow.correlation import flow_and_slopes

Array = NDArray[np.float64]

_ANGLES = 120
_RATES = 60
_SMALLEST_RATE = 0.03
_LARGEST_RATE = 1e4  # in units of the rate at which the horizon sets in
_RIDGE = 1e-5  # spreads the weights over many rates, which makes better features
_UNIT_HORIZON = 6 * math.pi  # theta_T is about 6 pi / T at long horizons


@dataclass(frozen=True)
class GaussianMixture:
    """c_T(c) ~ constant + linear c + sum_j e^{-r_j} (even_j cosh(r_j c) + odd_j sinh(r_j c)).

    ``rates`` are r, ``m``, increasing; all other coefficients are nonnegative.
    """

    constant: float
    linear: float
    rates: Tensor
    even: Tensor
    odd: Tensor

    def __call__(self, correlation: Tensor) -> Tensor:
        """The approximation of c_T at any tensor of correlations c_0."""
        near = torch.exp(-self.rates * (1 - correlation[..., None]))
        far = torch.exp(-self.rates * (1 + correlation[..., None]))
        even = (near + far) / 2 @ self.even
        odd = (near - far) / 2 @ self.odd
        return self.constant + self.linear * correlation + even + odd


def gaussian_mixture(horizon: float, contrast: bool = False) -> GaussianMixture:
    """Fit the mixture that approximates c_T at a horizon T, in a few milliseconds.

    Its slope at c = 1, which is the variance of the gradient of a sample path, is that of c_T.

    Args:
        horizon: T.
        contrast: approximate (c_T - c_T(-1)) / (1 - c_T(-1)) instead.

    Raises:
        ValueError: the horizon is outside the range of the flow.
    """
    onset = 1 + (horizon / _UNIT_HORIZON) ** 2
    rates = np.geomspace(_SMALLEST_RATE, _LARGEST_RATE * onset, _RATES)
    angles = np.geomspace(1e-3 / math.sqrt(onset), math.pi / 2, _ANGLES)
    gap = np.concatenate([[0.0], 2 * np.sin(angles / 2) ** 2])
    near, slope_near = _flow(gap, horizon)
    far, slope_far = _flow(2 - gap, horizon)
    kernel_near, kernel_far = np.exp(-np.outer(gap, rates)), np.exp(-np.outer(2 - gap, rates))
    span = far[0]  # 1 - c_T(-1), the unit of the errors
    mean_gap = (near + far) / 2
    even_part = span - mean_gap if contrast else 1 - mean_gap
    unit = 1.0 if contrast else span
    prior = np.minimum(1, onset / rates)  # the decrease of the weights with the rate

    def fit(part: Array, base: Array, base_slope: float, sign: int) -> tuple[float, Array]:
        columns = np.column_stack([base, (kernel_near + sign * kernel_far) / 2 * prior])
        slopes = rates * (1 - sign * np.exp(-2 * rates)) / 2 * prior
        slope = (slope_near[0] - sign * slope_far[0]) / 2
        # The unknowns are in units of the span, the slope in units of 1.
        slope_row = span * np.append(base_slope, slopes)
        ridge = _RIDGE * np.eye(1 + len(rates))[1:]
        weights, _ = nnls(
            np.vstack([columns, slope_row, ridge]),
            np.concatenate([part / span, [slope], np.zeros(len(rates))]),
        )
        weights *= unit
        return float(weights[0]), weights[1:] * prior

    constant, even = fit(even_part, np.ones_like(gap), 0.0, 1)
    linear, odd = fit((far - near) / 2, 1 - gap, 1.0, -1)
    return GaussianMixture(
        constant, linear, *(torch.from_numpy(part) for part in (rates, even, odd))
    )


def _flow(gap: Array, horizon: float) -> tuple[Array, Array]:
    gap_end, slope, _ = flow_and_slopes(
        torch.from_numpy(gap), torch.tensor(horizon, dtype=torch.float64)
    )
    return gap_end.numpy(), slope.numpy()
