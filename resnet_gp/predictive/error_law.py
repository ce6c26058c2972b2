"""The law of a target around its mean: a scale that its neighbours tell, and the tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from resnet_gp.predictive.law import Law

Array = NDArray[np.float64]

LEAST_ROWS = 10
LEAST_RESIDUAL = 0.03  # standard deviations, in the density that is maximised

# Priors: median and logarithmic deviation of nu0 and c; shape and rate of the gamma law of df;
# mean and deviation of the log odds of share, of log ratio and of shift.
NU0 = 50.0, 1.5
C = 1.0, 0.2
DF = 2.0, 0.1
SHARE = -2.0, 1.5
RATIO = 0.0, 1.0
SHIFT = 0.0, 1.0

# Of nu0, c, df; log odds of share, ratio and shift.
_BOUNDS = [*np.log([(0.01, 1e5), (0.05, 20.0), (2.5, 1000.0)])]
_PART_BOUNDS = [(-6.0, 6.0), (math.log(0.02), math.log(50.0)), (-5.0, 5.0)]
_START = np.log([50.0, 1.0, 20.0])
# From equal parts, (0, 0, 0), no gradient leads away. These starts found what a dozen do in 126 of
# 130 simulated sets of eleven kinds; three with small shifts, in 104.
_PART_STARTS = [(-1.0, -1.0, 0.0), (0.0, -1.0, 2.0), (0.0, -1.0, -2.0)]


class Errors(NamedTuple):
    """Errors of left-out targets, and sums over their neighbours.

    Attributes:
        z: errors in the deviations of each member of a mixture, ``S x ...``.
        log_density: log of each member's weight over its deviation, broadcasts with ``z``.
        near: sum of the neighbours' squared errors, ``...``.
        weight: sum of the neighbours' weights, broadcasts with ``near``.
    """

    z: Array
    log_density: Array
    near: Array
    weight: Array


@dataclass(frozen=True)
class ErrorLaw:
    """The law of a target that a model predicts with mean m and deviation s.

        y ~ m + c s lambda e,    lambda^2 = (nu0 + Q) / (nu0 + k)

    Q is a sum of k squared errors of neighbours, each in units of its own deviation: lambda^2
    estimates a variance that they and the target share, relative to the model's, under a prior of
    weight nu0 for the value 1. The law of e is t_df, or, where one does not describe the errors, a
    mixture with mean 0:

        e ~ (1 - share) t_df(-share shift, 1) + share t_df((1 - share) shift, ratio)

    with t_df(a, r) the Student-t law of location a and scale r. Two parts make laws that are
    skewed, flat, or have a peak or two: many targets of a table may be zero, or repeat.

    The parameters maximise the density of left-out targets times weak priors: nu0 log-normal
    (median 50, logarithmic deviation 1.5), c log-normal (1, 0.2), df gamma (shape 2, rate 0.1;
    Juarez & Steel 2010), all as densities of the logarithm; the log odds of share normal (-2, 1.5),
    log ratio normal (0, 1), shift normal (0, 1). df >= 2.5, so that variances are finite. Two parts
    are taken if they raise the maximum, without the constants of the priors, by more than 3/2 log n
    for n targets (Schwarz 1978).

    Targets that repeat exactly would have infinite density at scale 0. So the squared distance of a
    target from the location of a part counts as if 0.03^2 larger, and there are bounds:
    nu0 >= 0.01, 0.05 <= c <= 20, 0.02 <= ratio <= 50, |shift| <= 5, log odds of share within 6.

    Attributes:
        nu0: weight of the prior value 1 of lambda^2, in neighbours; infinite without a fit.
        c: factor of all scales.
        df: degrees of freedom; infinite without a fit, when the law is normal.
        share: probability of the second part; 0 if there is none.
        shift: location of the second part relative to the first, in scales of the first.
        ratio: scale of the second part over that of the first.
    """

    nu0: float = math.inf
    c: float = 1.0
    df: float = math.inf
    share: float = 0.0
    shift: float = 0.0
    ratio: float = 1.0

    @property
    def is_normal(self) -> bool:
        """Whether the law is that of the model itself."""
        return math.isinf(self.df)

    @property
    def parameters(self) -> tuple[float, float, float, float, float, float]:
        """nu0, c, df, share, shift and ratio."""
        return self.nu0, self.c, self.df, self.share, self.shift, self.ratio

    def local_factors(self, near: Array, weight: Array | int) -> Array:
        """Lambda from Q and k, in one shape or such as broadcast."""
        return np.asarray(np.sqrt((self.nu0 + near) / (self.nu0 + weight)))

    def law(self, normal: Law, factors: Array) -> Law:
        """The laws of targets from the model's own, and c lambda at each."""
        scales = factors * normal.scales
        if self.share == 0:
            return Law(normal.means, scales, normal.weights, self.df)
        first = normal.means - self.share * self.shift * scales
        parts = (
            Law(first, scales, normal.weights, self.df),
            Law(first + self.shift * scales, self.ratio * scales, normal.weights, self.df),
        )
        return Law.mixture(parts, [1 - self.share, self.share])


def fit_errors(errors: Errors, most_parts: int = 2) -> ErrorLaw:
    """The law of these errors, with one part or at most two."""
    data = _Tensors(*(torch.from_numpy(np.ascontiguousarray(part)) for part in errors))
    one, height = _maximum(data, _START, _BOUNDS)
    nu0, c, df = np.exp(one).tolist()
    law = ErrorLaw(nu0, c, df)
    if most_parts == 1:
        return law
    starts = (np.concatenate([one, start]) for start in _PART_STARTS)
    tried = [_maximum(data, start, _BOUNDS + _PART_BOUNDS) for start in starts]
    two, best = max(tried, key=lambda found: found[1])
    if not best - height > 1.5 * math.log(errors.z[0].size):
        return law
    nu0, c, df = np.exp(two[:3]).tolist()
    odds, log_ratio, shift = two[3:].tolist()
    return ErrorLaw(nu0, c, df, 1 / (1 + math.exp(-odds)), shift, math.exp(log_ratio))


class _Tensors(NamedTuple):
    """``Errors``, as tensors."""

    z: Tensor
    log_density: Tensor
    near: Tensor
    weight: Tensor


def _maximum(
    data: _Tensors, start: Array, bounds: Sequence[tuple[float, float]]
) -> tuple[Array, float]:
    """The most probable parameters, see ``_log_posterior``, and its value there."""

    def loss(values: Array) -> tuple[float, Array]:
        with torch.inference_mode(False), torch.enable_grad():
            parameters = torch.from_numpy(values).requires_grad_()
            height = _log_posterior(data, parameters)
            (slope,) = torch.autograd.grad(-height, parameters)
        return -height.item(), slope.numpy()

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x, -float(found.fun)


def _log_posterior(data: _Tensors, parameters: Tensor) -> Tensor:
    """Log density of the targets and of the parameters, but for constants.

    Args:
        data: the targets' errors.
        parameters: logarithms of nu0, c and df; for two parts, also log odds of share, log ratio
            and shift.
    """
    z, log_density, near, weight = data
    nu0, c, df = parameters[:3].exp()
    scale = c * ((nu0 + near) / (nu0 + weight)).sqrt()
    prior = -_square(parameters[0], math.log(NU0[0]), NU0[1])
    prior = prior - _square(parameters[1], math.log(C[0]), C[1])
    prior = prior + DF[0] * parameters[2] - DF[1] * df
    parts: list[tuple[Tensor | float, ...]] = [(0.0, 0.0, 1.0)]  # log share, location, scale
    if len(parameters) > 3:
        odds, log_ratio, shift = parameters[3:]
        share = odds.sigmoid()
        logs = torch.nn.functional.logsigmoid(torch.stack([-odds, odds]))
        parts = [
            (logs[0], -share * shift, 1.0),
            (logs[1], (1 - share) * shift, log_ratio.exp()),
        ]
        for value, (mean, deviation) in zip(parameters[3:], (SHARE, RATIO, SHIFT), strict=True):
            prior = prior - _square(value, mean, deviation)
    heights = []
    for log_share, location, ratio in parts:
        width = ratio * scale
        squares = (z - location * scale).square() + LEAST_RESIDUAL**2
        tails = (df + 1) / 2 * (squares / (df * width.square())).log1p()
        heights.append((log_density - tails - width.log()).logsumexp(0) + log_share)
    density = heights[0] if len(heights) == 1 else torch.logaddexp(*heights)
    peak = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - (math.pi * df).log() / 2
    return density.sum() + density.numel() * peak + prior


def _square(value: Tensor, mean: float, deviation: float) -> Tensor:
    return ((value - mean) / deviation).square() / 2
