r"""Variance of q_1(a, a) over finite ReLU ResNets, to first order in 1/n.

n Var q_L(a, a) -> V(L), by central limit theorems for the change by each block. The contribution of
a neuron at y to q_L is u_l(y); with the variances q so far and v_k of k more blocks,

    u_l(y) = y^2 - q_l + e_{L-l},
    e_{k+1} = (1 + w / 2L) e_k + (w / L) (E[relu(y + sqrt(v_k) Z)^2] - (q_l + v_k) / 2),   e_0 = 0,
    V(L) = Var u_0(Y_0) + sum_l E[Var(u_l(Y_l) | Y_{l-1})].
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.special import ndtr

from resnet_gp.report.fits import Array

_NODES = 60


@functools.cache
def scaled_variance(depth: int, weight_variance: float = 1.0) -> float:
    """V(L) = lim n Var q_L(a, a) for inputs with q_0(a, a) = 1; its square root is C_1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    step = weight_variance / depth
    q = 1.0
    u = _influence(nodes, q, depth, step)
    total = weights @ u**2 - (weights @ u) ** 2
    for level in range(1, depth + 1):
        added = step * q / 2
        after = np.sqrt(q) * nodes[:, None] + np.sqrt(added) * nodes
        q += added
        u = _influence(after, q, depth - level, step)
        total += weights @ (u**2 @ weights - (u @ weights) ** 2)
    return float(total)


def _influence(y: Array, q: float, blocks: int, step: float) -> Array:
    e, v = np.zeros_like(y), 0.0
    for _ in range(blocks):
        e = (1 + step / 2) * e + step * (_relu_square(y, v) - (q + v) / 2)
        v += step * (q + v) / 2
    return y**2 - q + e


def _relu_square(y: Array, v: float) -> Array:
    """E[relu(y + sqrt(v) Z)^2]."""
    if v == 0:
        return np.square(np.maximum(y, 0))
    s = np.sqrt(v)
    density = np.exp(-np.square(y) / (2 * v)) / np.sqrt(2 * np.pi)
    return (np.square(y) + v) * ndtr(y / s) + y * s * density
