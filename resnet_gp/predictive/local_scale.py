"""The local scale of a target in closed form, from the errors of its neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln
from torch import Tensor

from resnet_gp.predictive.law import Law
from resnet_gp.predictive.residual_law import (
    BOUNDS,
    LARGEST_SQUARE,
    LEAST_RESIDUAL,
    LEAST_ROWS,
    NEIGHBOURS,
    START,
    log_prior,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LocalScale:
    """The law m + c lambda s t_df of a target that its neighbours predict with mean m, deviation s.

    Targets of a neighbourhood are seen one by one, from the farthest to the nearest and, last, the
    one that is predicted. z holds the error of each given all before it, standardised. With Q the
    sum of min(z^2, 25) over the k nearest neighbours,

        lambda^2 = (nu0 + Q) / (nu0 + k)

    is the estimate of a variance that they and the target share, relative to the model's, under a
    prior of weight nu0 for the value 1. The nearest neighbours are predicted nearly as well as the
    target itself, so that their errors tell its scale. nu0, c and df are those of ``ResidualLaw``,
    with its priors; without a fit, nu0 and df are infinite and the law is normal.

    Attributes:
        nu0: weight of the prior value 1 of lambda^2, in neighbours.
        c: factor of all scales.
        df: degrees of freedom.
    """

    nu0: float = math.inf
    c: float = 1.0
    df: float = math.inf

    @property
    def is_normal(self) -> bool:
        """Whether the law is that of the model itself."""
        return math.isinf(self.df)

    @classmethod
    def fit(cls, z: Array) -> LocalScale:
        """Maximise the density of left-out targets times the priors.

        Args:
            z: errors of neighbourhoods, ``... x m``, of which the last are those of the targets.
                Fewer than ten give the normal law.
        """
        errors, (near, count) = np.square(z[..., -1]) + LEAST_RESIDUAL**2, _sums(z)
        if errors.size < LEAST_ROWS or count == 0:
            return cls()

        def loss(logarithms: Array) -> float:
            nu0, c, df = np.exp(logarithms)
            variance = c**2 * (nu0 + near) / (nu0 + count)
            height = gammaln((df + 1) / 2) - gammaln(df / 2) - math.log(math.pi * df) / 2
            each = np.log(variance) / 2 + (df + 1) / 2 * np.log1p(errors / (df * variance))
            return float(each.sum() - errors.size * height - log_prior(nu0, c, df))

        found = minimize(loss, np.log(START), method="L-BFGS-B", bounds=np.log(BOUNDS))
        values = np.clip(np.exp(found.x), *np.transpose(BOUNDS))
        return cls(*values.astype(np.float32).tolist())  # which files in single precision keep

    def factors(self, z: Array) -> Array:
        """c lambda, ``...``, from errors as in ``fit``."""
        if self.is_normal:
            return np.ones(z.shape[:-1])
        near, count = _sums(z)
        return np.asarray(self.c * np.sqrt((self.nu0 + near) / (self.nu0 + count)))

    def law(self, normal: Law, factors: Array) -> Law:
        """The laws of targets from the model's own and ``factors``."""
        return Law(normal.means, factors * normal.scales, normal.weights, self.df)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file must hold."""
        values = [self.nu0, self.c, self.df]
        return {"local_scale": torch.tensor(values, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> LocalScale:
        """The inverse of ``tensors``; other keys are ignored."""
        return cls(*tensors["local_scale"].tolist())


def _sums(z: Array) -> tuple[Array, int]:
    """Q and k."""
    nearest = z[..., max(0, z.shape[-1] - 1 - NEIGHBOURS) : -1]
    return np.minimum(np.square(nearest), LARGEST_SQUARE).sum(-1), nearest.shape[-1]
