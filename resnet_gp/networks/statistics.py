"""Statistics of the values ``N x k`` of independent networks, which can be merged.

They are kept on the CPU in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[np.float64]


@dataclass
class SampleMoments:
    """Count, mean and sum of squared deviations of each observed number (Chan et al. 1979)."""

    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(()))
    squares: Array = field(default_factory=lambda: np.zeros(()))

    @classmethod
    def of(cls, values: Tensor) -> SampleMoments:
        array = values.detach().double().cpu().numpy()
        mean = array.mean(0)
        return cls(len(array), mean, np.square(array - mean).sum(0))

    def merge(self, other: SampleMoments) -> SampleMoments:
        count = self.count + other.count
        if count == 0:
            return self
        shift = other.mean - self.mean
        weight = self.count * other.count / count
        mean = self.mean + shift * (other.count / count)
        return SampleMoments(count, mean, self.squares + other.squares + shift * shift * weight)

    @property
    def variance(self) -> Array:
        """Variance over networks; NaN for a single network."""
        return self.squares / (self.count - 1) if self.count > 1 else np.nan * self.squares

    @property
    def standard_error(self) -> Array:
        """Standard error of the mean."""
        return np.sqrt(self.variance / max(self.count, 1))

    def state(self) -> dict[str, Array]:
        return {"count": np.array(self.count), "mean": self.mean, "squares": self.squares}

    @classmethod
    def from_state(cls, state: Mapping[str, Array]) -> SampleMoments:
        return cls(int(state["count"]), state["mean"], state["squares"])


@dataclass
class Samples:
    """All observed numbers of all networks; memory grows with their count."""

    parts: list[Array] = field(default_factory=list)

    @classmethod
    def of(cls, values: Tensor) -> Samples:
        return cls([values.detach().double().cpu().numpy()])

    def merge(self, other: Samples) -> Samples:
        return Samples(self.parts + other.parts)

    @property
    def values(self) -> Array:
        """``N x k``."""
        return np.concatenate(self.parts) if self.parts else np.zeros((0, 0))

    @property
    def count(self) -> int:
        return sum(len(part) for part in self.parts)

    def state(self) -> dict[str, Array]:
        return {"values": self.values}

    @classmethod
    def from_state(cls, state: Mapping[str, Array]) -> Samples:
        return cls([state["values"]])


Statistic: TypeAlias = SampleMoments | Samples
