"""The start of the units (columns of U and V): independent, or spread evenly over their law.

Units are drawn on the CPU from NumPy's generators, so that every device trains the same networks.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor

Units = tuple[NDArray[np.float32], NDArray[np.float32]]


def independent_units(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """U and V with independent entries N(0, D), each ``L x D x M``."""
    draws = rng.standard_normal((2, L, D, M), dtype=np.float32) * np.float32(math.sqrt(D))
    return draws[0], draws[1]


def even_units(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """U and V of the same law, but spread evenly over it and over depth, each ``L x D x M``.

    Scrambled Sobol points, with (u, -v) beside each (u, v): blocks of a network at its start then
    add exactly nothing, which is their mean. ``LM`` must be twice a power of two.
    """
    U, V = _even_normal(rng, D, M // 2, L)
    return np.concatenate([U, U], -1), np.concatenate([V, -V], -1)


def skewed_units(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """U and V of a law symmetric in neither, spread evenly over it, each ``L x D x M``.

    Entries of U are N(sqrt(D), D). Beside each u stand three times |v| and once -3|v|, over
    sqrt(3), v with entries N(0, D): V has the same mean and variance as in the other laws, and
    blocks at the start add nothing. ``LM`` must be four times a power of two.
    """
    centred, V = _even_normal(rng, D, M // 4, L)
    U, size = centred + np.float32(math.sqrt(D)), np.abs(V) / np.float32(math.sqrt(3))
    return np.concatenate([U] * 4, -1), np.concatenate([size, size, size, -3 * size], -1)


def _even_normal(rng: np.random.Generator, D: int, M: int, L: int) -> Units:
    """Two stacks of N(0, D) entries from scrambled Sobol points, each ``L x D x M``."""
    points = qmc.Sobol(2 * D, rng=rng).random(L * M)
    normal = ndtri(np.clip(points, 1e-12, 1 - 1e-12)) * math.sqrt(D)
    layers = normal.astype(np.float32).reshape(L, M, 2 * D).transpose(0, 2, 1)
    return layers[:, :D], layers[:, D:]


def merge_layers(units: Tensor, count: int) -> Tensor:
    """The same units in fewer, wider layers: ``count`` neighbours become one.

    Args:
        units: ``L x B x D x M``.

    Returns:
        ``L / count x B x D x count M``.
    """
    L, B, D, M = units.shape
    grouped = units.reshape(L // count, count, B, D, M).permute(0, 2, 3, 1, 4)
    return grouped.reshape(L // count, B, D, count * M)
