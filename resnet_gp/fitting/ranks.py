"""Ranks of skewed features, as further inputs of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from resnet_gp.fitting.standardise import Standardiser

Array = NDArray[np.float64]

# A feature is skewed, or has long tails, if its correlation with its ranks is smaller. It is 1 for
# two different values and for uniform ones, .98 for normal ones, .87 for exponential ones, and .69
# for the exponential of normal ones.
_LEAST_CORRELATION = 0.9
_KNOTS = 200  # of the piecewise linear map from a feature to its rank
_KEYS = ("rank_columns", "rank_quantiles", "rank_mean", "rank_scale")  # in files


@dataclass(frozen=True)
class RankingStandardiser(Standardiser):
    """Standardised features, and after them the standardised ranks of some.

    A rank is the share of the training rows with a smaller value, with ties in the middle,
    interpolated linearly between quantiles; beyond all training values it is 0 or 1.

    Attributes:
        mean, scale: of the features, without their ranks.
        columns: indices of the r features that have ranks.
        quantiles: ``k x r``, of the training rows at k equidistant probabilities.
        ranks: standardises the ranks.
    """

    columns: NDArray[np.int64]
    quantiles: Array
    ranks: Standardiser

    @classmethod
    def add_to(
        cls, plain: Standardiser, values: Array, columns: Sequence[int]
    ) -> RankingStandardiser:
        """Add the ranks of some columns of the ``n x d`` training rows to their standardiser."""
        chosen = np.asarray(columns, dtype=np.int64)
        probabilities = np.linspace(0, 1, min(len(values), _KNOTS))
        quantiles = np.quantile(values[:, chosen], probabilities, axis=0)
        ranks = Standardiser.of(_ranks(values[:, chosen], quantiles))
        return cls(plain.mean, plain.scale, chosen, quantiles, ranks)

    def __call__(self, values: Array) -> Tensor:
        """``n x (d + r)`` inputs, in float64; raises as ``Standardiser``."""
        ranks = self.ranks(_ranks(values[:, self.columns], self.quantiles))
        return torch.cat([super().__call__(values), ranks], dim=1)

    def pull_back(self, gradient: Array, values: Array) -> Array:
        """Gradients in the features, from those in the inputs at ``n x d`` features.

        Args:
            gradient: ``n x (d + r)`` or ``n x (d + r) x p``.
            values: where; at a quantile, the slope of the ranks is that of one side.
        """
        d, extra = len(self.scale), (1,) * (gradient.ndim - 2)
        found = super().pull_back(gradient[:, :d], values)
        slopes = _slopes(values[:, self.columns], self.quantiles) / self.ranks.scale
        found[:, self.columns] += gradient[:, d:] * slopes.reshape(*slopes.shape, *extra)
        return found

    def lengthscale(self, lengthscale: Array) -> Array:
        """Lengthscales of the features in their units, ``d``, from those of the ``d + r`` inputs.

        The inverse squares of a feature's own and its ranks' add up, as in the kernel of features
        that are proportional to their ranks.
        """
        d = len(self.scale)
        inverse = lengthscale[:d] ** -2.0
        inverse[self.columns] += lengthscale[d:] ** -2.0
        return np.asarray(self.scale / np.sqrt(inverse))

    def tensors(self) -> dict[str, Tensor]:
        parts = (self.columns, self.quantiles, self.ranks.mean, self.ranks.scale)
        return {
            name: torch.from_numpy(part.copy()) for name, part in zip(_KEYS, parts, strict=True)
        }

    @staticmethod
    def from_tensors(plain: Standardiser, tensors: dict[str, Tensor]) -> Standardiser:
        """The inverse of ``tensors``; ``plain`` itself if they hold no ranks."""
        if _KEYS[0] not in tensors:
            return plain
        columns, quantiles, mean, scale = (tensors[name].numpy() for name in _KEYS)
        ranks = Standardiser(mean, scale)
        return RankingStandardiser(plain.mean, plain.scale, columns, quantiles, ranks)


def skewed_columns(values: Array) -> list[int]:
    """Indices of the columns of ``n x d`` values that are skewed or have long tails."""
    chosen = []
    for i, column in enumerate(Standardiser.of(values)(values).numpy().T):
        ranks = rankdata(column)
        if ranks.std() > 0 and np.corrcoef(column, ranks)[0, 1] < _LEAST_CORRELATION:
            chosen.append(i)
    return chosen


def _ranks(values: Array, quantiles: Array) -> Array:
    """Ranks between 0 and 1, ``n x r``; the middle of the probabilities that share a quantile."""
    p = np.linspace(0, 1, len(quantiles))
    found = [
        0.5 * (np.interp(x, q, p) - np.interp(-x, -q[::-1], -p[::-1]))
        for x, q in zip(values.T, quantiles.T, strict=True)
    ]
    return np.stack(found, axis=1)


def _slopes(values: Array, quantiles: Array) -> Array:
    """Derivatives of the ranks, ``n x r``, to the right of the values; 0 beyond all quantiles."""
    p, found = np.linspace(0, 1, len(quantiles)), []
    for x, q in zip(values.T, quantiles.T, strict=True):
        right = np.searchsorted(q, x, side="right")
        inside = (right > 0) & (right < len(q))
        last = np.clip(right, 1, len(q) - 1)
        gap = np.where(inside, q[last] - q[last - 1], np.inf)
        found.append((p[1] - p[0]) / gap)
    return np.stack(found, axis=1)
