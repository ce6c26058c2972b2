"""Initial units (columns of U and V), drawn by NumPy: all devices train the same networks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor

Units = tuple[NDArray[np.float32], NDArray[np.float32]]


def independent_units(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """Draw U and V with independent entries N(0, D), each ``L x D x M``."""
    draws = rng.standard_normal((2, L, D, M), dtype=np.float32) * np.float32(math.sqrt(D))
    return draws[0], draws[1]


def even_units(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """Draw U and V of the same law, spread evenly over it and over depth, each ``L x D x M``.

    The units are scrambled Sobol points (u, v), each with (u, -v): the blocks then add exactly
    their mean, 0, at initialisation. ``LM`` must be twice a power of two.
    """
    U, V = _even_normal(rng, D, M // 2, L)
    return np.concatenate([U, U], -1), np.concatenate([V, -V], -1)


def skewed_units(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """Draw U and V of a law symmetric in neither, spread evenly over it, each ``L x D x M``.

    Entries of U are N(sqrt(D), D). Each u has three units with |v| / sqrt(3) and one with
    -3|v| / sqrt(3), entries of v being N(0, D): V has the same mean and variance as in the other
    laws, and the blocks add nothing at initialisation. ``LM`` must be four times a power of two.
    """
    centred, V = _even_normal(rng, D, M // 4, L)
    U, size = centred + np.float32(math.sqrt(D)), np.abs(V) / np.float32(math.sqrt(3))
    return np.concatenate([U] * 4, -1), np.concatenate([size, size, size, -3 * size], -1)


def _even_normal(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """Draw two stacks of N(0, D) entries from scrambled Sobol points, each ``L x D x M``."""
    points = qmc.Sobol(2 * D, rng=rng).random(L * M)
    normal = ndtri(np.clip(points, 1e-12, 1 - 1e-12)) * math.sqrt(D)
    layers = normal.astype(np.float32).reshape(L, M, 2 * D).transpose(0, 2, 1)
    return layers[:, :D], layers[:, D:]


def merge_layers(units: Tensor, count: int) -> Tensor:
    """Merge neighbouring layers of ``L x B x D x M`` units: ``L / count x B x D x count M``."""
    L, B, D, M = units.shape
    grouped = units.reshape(L // count, count, B, D, M).permute(0, 2, 3, 1, 4)
    return grouped.reshape(L // count, B, D, count * M)
