r"""The covariance ODE of the (leaky) ReLU family with block bias in numba, for ``kinked.py``.

The order of operations in an entry is fixed, whatever else is computed with it. Each call does the
rows from ``start`` to ``stop``. Arrays are C-contiguous, in tuples:

``network``  w, sigma_b^2, (1 + alpha^2) / 2, (1 - alpha)^2 / (2 pi)
``scheme``   the number of steps; stages, ``s x s``; weights, ``s``; a rate for each stage of each
             step; see ``general.Scheme``. There are S = s times steps stages in all
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from resnet_gp.flow.compiled_maps import entry, loops, polynomial
from resnet_gp.flow.vectors import multiply_add, square_root, wide_vectors

BLOCK = 128  # columns at a time: their states at all stages of a step stay in the cache

# arcsin(sqrt(g)) / sqrt(g) for g in [0, 1 / 2], to rounding; highest degree first.
_ARCSINE = (
    Chebyshev.interpolate(lambda g: np.arcsin(np.sqrt(g)) / np.sqrt(g), 20, domain=[0, 0.5])
    .convert(kind=Polynomial)
    .coef[::-1]
    .copy()
)


@entry
def path(network, scheme, variance, out):
    """Fill q_t(a, a) and its derivatives in q_0(a, a), w and sigma_b^2 at all stages, ``S x 4``."""
    weight, bias, linear, _ = network
    steps, stages, weights, rates = scheme
    count, size = len(stages), 1 / steps
    growth, slopes = weight * linear, np.empty((4, count))
    out[0] = 0
    out[0, 0], out[0, 1] = variance, 1
    for index in range(steps * count):
        step, stage = index // count, index % count
        if index > 0:
            row, known = (stages[stage], stage) if stage > 0 else (weights, count)
            first = step * count if stage > 0 else (step - 1) * count
            for f in range(4):
                total = 0.0
                for k in range(known):
                    total += row[k] * slopes[f, k]
                out[index, f] = out[first, f] + size * total
        rate, (q, by_start, by_weight, by_bias) = rates[index], out[index]
        slopes[0, stage] = rate * (growth * q + bias)
        slopes[1, stage] = rate * growth * by_start
        slopes[2, stage] = rate * (growth * by_weight + linear * q)
        slopes[3, stage] = rate * (growth * by_bias + 1)


@loops
def _angles(q, root, inverse, roots, inverses, arcsine, buffers):
    """theta and sqrt(q_aa q_bb) sin(theta) of q_ab = sqrt(q_aa q_bb) cos(theta)."""
    wide_vectors()
    angle, sine, gap, spare = buffers
    zero, half, one = q.dtype.type(0), q.dtype.type(0.5), q.dtype.type(1)
    two, pi = q.dtype.type(2), q.dtype.type(math.pi)
    for j in range(len(q)):
        factor = inverse * inverses[j]
        cosine = abs(q[j]) * factor
        cosine = cosine if factor > zero else one
        rest = half - half * cosine
        gap[j] = rest if rest > zero else zero
    polynomial(arcsine, True, gap, angle, spare)
    for j in range(len(q)):
        chord = two * square_root(gap[j])
        arc = chord * angle[j]
        other = pi - arc
        sine[j] = chord * square_root(one - gap[j]) * (root * roots[j])
        angle[j] = arc if q[j] >= zero else other


@loops
def _advance(size, row, slopes, count, start, state):
    """``start`` + size sum_k row_k slopes_k, of which some are zero."""
    wide_vectors()
    for j in range(len(state)):
        state[j] = start[j]
    for k in range(count):
        if row[k] != 0:
            factor = state.dtype.type(size * row[k])
            for j in range(len(state)):
                state[j] = multiply_add(factor, slopes[k, j], state[j])


@loops
def _speed(network, rate, q, angle, sine, slope):
    """The slope of q_ab, (w E[phi(u) phi(v)] + sigma_b^2) ds/dt."""
    wide_vectors()
    kind = q.dtype.type
    weight, bias = kind(rate * network[0]), kind(rate * network[1])
    linear, kink = kind(network[2]), kind(network[3])
    for j in range(len(q)):
        bend = sine[j] - angle[j] * q[j]
        slope[j] = multiply_add(weight, multiply_add(kink, bend, linear * q[j]), bias)


@loops
def _further_slopes(network, rate, left, right, index, begin, state, angle, sine, slope):
    """The slopes of the derivatives of q_ab in q_0(a,a), q_0(b,b), q_0(a,b), w and sigma_b^2.

    The moment's derivatives are sine kink / (2 q_aa), alike for b, and linear - kink theta.
    """
    wide_vectors()
    kind = sine.dtype.type
    weight, pace = kind(rate * network[0]), kind(rate)
    linear, kink, half = kind(network[2]), kind(network[3]), kind(network[3] / 2)
    left1, left2, left3 = left[index, 2], left[index, 3], left[index, 4]
    for j in range(BLOCK):
        q = state[j]
        moment = multiply_add(kink, sine[j] - angle[j] * q, linear * q)
        inner, outer = weight * (linear - kink * angle[j]), weight * half * sine[j]
        right1, right2 = right[index, 2, begin + j], right[index, 3, begin + j]
        right3 = right[index, 4, begin + j]
        slope[BLOCK + j] = multiply_add(inner, state[BLOCK + j], outer * left1)
        slope[2 * BLOCK + j] = multiply_add(inner, state[2 * BLOCK + j], outer * right1)
        slope[3 * BLOCK + j] = inner * state[3 * BLOCK + j]
        both = multiply_add(outer, left2 + right2, pace * moment)
        slope[4 * BLOCK + j] = multiply_add(inner, state[4 * BLOCK + j], both)
        both = multiply_add(outer, left3 + right3, pace)
        slope[5 * BLOCK + j] = multiply_add(inner, state[5 * BLOCK + j], both)


@loops
def _integrate(network, scheme, left, right, begin, work, arcsine):
    """Move a block of pairs to the end; its state is q_ab, and its derivatives if there are any.

    ``left``, ``S x 5``, and ``right``, ``S x 5 x m``, hold roots of variances, their reciprocals
    (or zeros), and the three derivatives of variances, each divided by the variance.
    """
    steps, stages, weights, rates = scheme
    state, start, slopes, buffers = work
    count, size, end = len(stages), 1 / steps, begin + BLOCK
    angle, sine = buffers[0], buffers[1]
    each = (angle, sine, buffers[2], buffers[3])
    q = state[:BLOCK]
    for step in range(steps):
        for j in range(len(state)):
            start[j] = state[j]
        for stage in range(count):
            index = step * count + stage
            _advance(size, stages[stage], slopes, stage, start, state)
            root, inverse, slope = left[index, 0], left[index, 1], slopes[stage]
            roots, inverses = right[index, 0, begin:end], right[index, 1, begin:end]
            _angles(q, root, inverse, roots, inverses, arcsine, each)
            _speed(network, rates[index], q, angle, sine, slope)
            if len(state) > BLOCK:
                _further_slopes(
                    network, rates[index], left, right, index, begin, state, angle, sine, slope
                )
        _advance(size, weights, slopes, count, start, state)


@loops
def _work(fields, stages, kind):
    """State, start and slopes of a block of pairs, field after field, and buffers."""
    width = fields * BLOCK
    state, start = np.zeros(width, kind), np.empty(width, kind)
    return state, start, np.zeros((stages, width), kind), np.empty((4, BLOCK), kind)


@entry
def matrix(network, scheme, left, right, covariance, out, partials, symmetric, start, stop):
    """Fill ``out``, ``n x m``, from q_0(a, b) of that shape; ``right`` is padded to whole blocks.

    ``partials``, ``5 x n x m``, are the derivatives of each entry in q_0(a, a), q_0(b, b),
    q_0(a, b), w and sigma_b^2, or None. With ``symmetric``, the two sets of points are the same: a
    row also fills its column of ``out``, and partials below the diagonal are left as they are.
    """
    count = 1 if partials is None else 6
    arcsine, work = _ARCSINE.astype(out.dtype), _work(count, len(scheme[1]), out.dtype)
    fields = work[0].reshape(count, BLOCK)
    for i in range(start, stop):
        for begin in range(i - i % BLOCK if symmetric else 0, out.shape[1], BLOCK):
            last = min(begin + BLOCK, out.shape[1])
            for j in range(begin, last):
                fields[0, j - begin] = covariance[i, j]
            if partials is not None:
                fields[1:] = 0
                fields[3] = 1
            _integrate(network, scheme, left[i], right, begin, work, arcsine)
            for j in range(max(begin, i) if symmetric else begin, last):
                out[i, j] = fields[0, j - begin]
                if symmetric:
                    out[j, i] = out[i, j]
                if partials is not None:
                    for k in range(5):
                        partials[k, i, j] = fields[k + 1, j - begin]
