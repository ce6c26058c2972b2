"""Equal mixtures of normal laws: predictions averaged over draws of the hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtr

_BISECTIONS = 60


@dataclass(frozen=True)
class NormalMixture:
    """Equal mixture of S normal laws at each point.

    Attributes:
        means: ``S x n``, or ``S x n x p`` for p outputs.
        variances: the same shape.

    Raises:
        ValueError: means and variances have different shapes.
    """

    means: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        if self.means.shape != self.variances.shape:
            raise ValueError(
                f"means of shape {tuple(self.means.shape)} and variances of shape "
                f"{tuple(self.variances.shape)} do not match"
            )

    @classmethod
    def of(cls, laws: Iterable[tuple[Tensor, Tensor]]) -> NormalMixture:
        """Mix normal laws, each given by its means and variances, ``n`` or ``n x p``."""
        means, variances = zip(*laws, strict=True)
        return cls(torch.stack(means), torch.stack(variances))

    @property
    def mean(self) -> Tensor:
        """Mean, ``n`` or ``n x p``."""
        return self.means.mean(0)

    @property
    def variance(self) -> Tensor:
        """Variance, ``n`` or ``n x p``: mean of the variances plus variance of the means."""
        return self.variances.mean(0) + (self.means - self.mean).square().mean(0)

    def log_density(self, y: Tensor) -> Tensor:
        """Log density of each value, ``n`` or ``n x p``, in nats.

        Raises:
            ValueError: ``y`` is not of the shape of the mean.
        """
        if y.shape != self.means.shape[1:]:
            raise ValueError(
                f"values of shape {tuple(y.shape)} do not match predictions of shape "
                f"{tuple(self.means.shape[1:])}"
            )
        square = (y - self.means).square() / self.variances
        each = -0.5 * (square + self.variances.log() + math.log(2 * math.pi))
        return each.logsumexp(0) - math.log(len(each))

    def cumulative(self, y: Tensor) -> Tensor:
        """Cumulative distribution function at ``y``, ``n`` or ``n x p``."""
        return ndtr((y - self.means) / self.variances.sqrt()).mean(0)

    def quantiles(self, levels: Tensor) -> Tensor:
        """Quantiles at ``q`` levels by bisection, ``n x q`` or ``n x p x q``.

        Raises:
            ValueError: a level is not between 0 and 1.
        """
        columns = []
        for level in levels.tolist():
            if not 0 < level < 1:
                raise ValueError(f"quantiles must lie between 0 and 1, got {level}")
            of_parts = self.means + self.variances.sqrt() * torch.special.ndtri(
                self.means.new_tensor(level)
            )
            low, high = of_parts.amin(0), of_parts.amax(0)  # these enclose the mixture's quantile
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2
                below = self.cumulative(middle) < level
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            columns.append((low + high) / 2)
        return torch.stack(columns, -1)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws at each point, ``num_samples x n`` or ``num_samples x n x p``."""
        picked = torch.randint(len(self.means), (num_samples,), generator=generator)
        white = torch.randn(
            (num_samples, *self.means.shape[1:]), generator=generator, dtype=self.means.dtype
        )
        return self.means[picked] + self.variances[picked].sqrt() * white.to(self.means)
