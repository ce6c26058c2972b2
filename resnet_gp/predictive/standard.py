"""Laws of location 0 and scale 1, from which the members of mixtures come by location and scale.

Arrays in and out, element by element, unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

_FAR = 1e100  # its square is still a number


class Standard(ABC):
    """A symmetric law of location 0 and scale 1."""

    @property
    @abstractmethod
    def variance(self) -> float:
        """Its variance."""

    @property
    @abstractmethod
    def self_difference(self) -> float:
        """E|Z - Z'| for independent Z, Z'."""

    @abstractmethod
    def cdf_and_density(self, z: Array) -> tuple[Array, Array]:
        """P(Z <= z), with its relative precision in the lower tail, and the density at z."""

    @abstractmethod
    def log_density(self, z: Array) -> Array:
        """Log density in nats."""

    @abstractmethod
    def quantile(self, p: Array) -> Array:
        """The inverse of the cumulative distribution function."""

    @abstractmethod
    def excess(self, z: Array) -> Array:
        """E|z + Z| - z, for z from 0 to 1e100."""

    @abstractmethod
    def mean_difference(self, shift: Array, first: Array, second: Array) -> Array:
        """E|shift + first Z - second Z'| for Z, Z' independent, and scales from 0 on.

        All three arrays have one shape.
        """

    @abstractmethod
    def draw(self, random: np.random.Generator, size: tuple[int, ...]) -> Array:
        """Independent draws."""

    def cdf(self, z: Array) -> Array:
        """P(Z <= z)."""
        return self.cdf_and_density(z)[0]

    def mean_distance(self, shift: Array, scale: Array) -> Array:
        """E|shift + scale Z|, for scales from 0 on."""
        size = np.abs(shift)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(scale > 0, size / scale, _FAR)
        return size + scale * self.excess(np.minimum(z, _FAR))


class Normal(Standard):
    """The standard normal law."""

    @property
    def variance(self) -> float:
        return 1.0

    @property
    def self_difference(self) -> float:
        return 2 / math.sqrt(math.pi)

    def cdf_and_density(self, z: Array) -> tuple[Array, Array]:
        return special.ndtr(z), np.exp(self.log_density(z))

    def log_density(self, z: Array) -> Array:
        return -0.5 * (z * z + math.log(2 * math.pi))

    def quantile(self, p: Array) -> Array:
        return np.asarray(special.ndtri(p))

    def excess(self, z: Array) -> Array:
        """Jordan, Krueger & Lerch 2019, and Grimit et al. 2006."""
        return 2 * (np.exp(self.log_density(z)) - z * special.ndtr(-z))

    def mean_difference(self, shift: Array, first: Array, second: Array) -> Array:
        return self.mean_distance(shift, np.hypot(first, second))

    def draw(self, random: np.random.Generator, size: tuple[int, ...]) -> Array:
        return random.standard_normal(size)
