r"""The loops of ``covariance.py`` compiled by numba, over cache-sized blocks; bits as ``table.py``.

Nothing here may be reassociated or contracted, and the order of inner products is fixed: a block of
a matrix has the bits of the same block computed alone. Rows of all batch elements are counted
through; each call does those from ``start`` to ``stop``. Arrays are C-contiguous, in three tuples:

``points``   ``u``, ``b x n x d``, and ``v``, ``b x d x m``, with d a multiple of GROUP; their
             scales, ``b x n`` and ``b x m``; the gap below which it is computed from differences
``table``    kappa, ``b``; coefficients and power basis of the map or maps
``adjoint``  the gradient of a scalar in the covariance, ``b x n x m``; its gradients in the inner
             products, to be written, and in both scales and the time, ``b``, to be added to
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_BLOCK = 512  # columns at a time: a dozen buffers of this length stay in the first-level cache

_MIRROR = 8  # rows whose columns are read and written together, a cache line


@njit(nogil=True, cache=True, fastmath=True)
def _smallest(values):  # a reduction is vectorised only if it may be reassociated
    smallest = values[0]
    for value in values:
        smallest = min(smallest, value)
    return smallest


@njit(nogil=True, cache=True, error_model="numpy")
def _gaps(u, v, first, last, near, gap):
    """1 - <u, v_j>, from the difference where small; ``_table_variable`` clips it at 2."""
    zero, one, two = gap.dtype.type(0), gap.dtype.type(1), gap.dtype.type(2)
    gap[:] = one
    for k in range(0, len(u), 4):
        u0, u1, u2, u3 = u[k], u[k + 1], u[k + 2], u[k + 3]
        v0, v1 = v[k, first:last], v[k + 1, first:last]
        v2, v3 = v[k + 2, first:last], v[k + 3, first:last]
        for j in range(len(gap)):
            gap[j] -= u0 * v0[j] + u1 * v1[j] + u2 * v2[j] + u3 * v3[j]
    if _smallest(gap) < near:
        for j in range(len(gap)):
            if gap[j] < near:
                total = zero
                for k in range(len(u)):
                    difference = u[k] - v[k, first + j]
                    total += difference * difference
                gap[j] = total / two


@njit(nogil=True, cache=True, error_model="numpy")
def _table_variable(gap, kappa, x):
    """x of the table at each gap; a gap above 2 is set to 2."""
    two, root_two = gap.dtype.type(2), gap.dtype.type(math.sqrt(2))
    stretch, one = two + two * kappa, gap.dtype.type(1)
    for j in range(len(gap)):
        g = gap[j]
        g = two if g > two else g
        gap[j] = g
        root = math.sqrt(g)
        x[j] = stretch * root / (math.sqrt(two - g) + root_two + kappa * root) - one


@njit(nogil=True, cache=True, error_model="numpy")
def _half_tangent_variable(gap, x):
    """2 tan(theta / 4) - 1."""
    one, two, root_two = gap.dtype.type(1), gap.dtype.type(2), gap.dtype.type(math.sqrt(2))
    for j in range(len(gap)):
        x[j] = two * (math.sqrt(gap[j]) / (math.sqrt(two - gap[j]) + root_two)) - one


@njit(nogil=True, cache=True, error_model="numpy")
def _polynomial(coefficients, power_basis, x, value, previous):
    if power_basis:
        value[:] = coefficients[0]
        for k in range(1, len(coefficients), 4):
            c0, c1, c2, c3 = (
                coefficients[k],
                coefficients[k + 1],
                coefficients[k + 2],
                coefficients[k + 3],
            )
            for j in range(len(x)):
                t = x[j]
                value[j] = (((value[j] * t + c0) * t + c1) * t + c2) * t + c3
        return
    zero, two = x.dtype.type(0), x.dtype.type(2)
    value[:] = zero
    previous[:] = zero
    for k in range(0, len(coefficients) - 1, 4):
        c0, c1, c2, c3 = (
            coefficients[k],
            coefficients[k + 1],
            coefficients[k + 2],
            coefficients[k + 3],
        )
        for j in range(len(x)):
            t = two * x[j]
            p, q = value[j], previous[j]
            q = t * p + (c0 - q)
            p = t * q + (c1 - p)
            q = t * p + (c2 - q)
            p = t * q + (c3 - p)
            value[j], previous[j] = p, q
    last = coefficients[-1]
    for j in range(len(x)):
        value[j] = x[j] * value[j] + (last - previous[j])


@njit(nogil=True, cache=True)
def _group_start(row, n, start):
    """The first row of this one's group, within its batch element."""
    i = row % n
    return max(i - i % _MIRROR, start - (row - i))


@njit(nogil=True, cache=True)
def _is_last_of_group(row, n, stop):
    i = row % n
    return i % _MIRROR == _MIRROR - 1 or row == stop - 1 or i == n - 1


@njit(nogil=True, cache=True, error_model="numpy")
def _places(points, kappa, row, first, last, gap, x):
    """The gaps of a row's pairs and x of the table there; return which table."""
    u, v, _, _, near = points
    b, i = row // u.shape[1], row % u.shape[1]
    table = b if len(kappa) > 1 else 0
    _gaps(u[b, i], v[b], first, last, near, gap)
    _table_variable(gap, kappa[table], x)
    return table


@njit(nogil=True, cache=True, error_model="numpy")
def covariance(points, table, plain, out, symmetric, start, stop):
    """out = scale_u scale_v c_T, ``b x n x m``; ``plain`` tables hold the map itself.

    With ``symmetric``, the two sets of points are the same, and a row also fills its column: blocks
    below the diagonal are not computed. (Where a block crosses it, two threads may write an entry,
    with the same bits.)
    """
    scale_u, scale_v = points[2], points[3]
    kappa, coefficients, power_basis = table
    n, m = out.shape[1], out.shape[2]
    one = out.dtype.type(1)
    buffers = np.empty((4, _BLOCK), out.dtype)
    for first in range(0, m, _BLOCK):
        last = min(first + _BLOCK, m)
        gap, x = buffers[0, : last - first], buffers[1, : last - first]
        ratio, spare = buffers[2, : last - first], buffers[3, : last - first]
        for row in range(start, stop):
            b, i = row // n, row % n
            if symmetric and last <= i:
                continue
            t = _places(points, kappa, row, first, last, gap, x)
            _polynomial(coefficients[t], power_basis[t], x, ratio, spare)
            target, scales, scale = out[b, i, first:last], scale_v[b, first:last], scale_u[b, i]
            if plain:
                for j in range(len(gap)):
                    target[j] = scale * scales[j] * ratio[j]
            else:
                for j in range(len(gap)):
                    target[j] = scale * scales[j] * (one - gap[j] * ratio[j] * ratio[j])
            if symmetric and _is_last_of_group(row, n, stop):
                begin = _group_start(row, n, start)
                for j in range(max(first, begin + 1), last):
                    for k in range(begin, min(i + 1, j)):
                        out[b, j, k] = out[b, k, j]


@njit(nogil=True, cache=True, fastmath=True)
def _total(values):
    total = values.dtype.type(0)
    for value in values:
        total += value
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _chain(source, scale, scales, maps, target, sums, x, spare):
    """Apply the chain rule in one row; return the gradients in its scale and in the time."""
    value, slope, speed = maps
    for j in range(len(source)):
        x[j] = source[j] * scale * scales[j]
    for j in range(len(source)):
        target[j] = x[j] * slope[j]
    for j in range(len(source)):
        spare[j] = x[j] * speed[j]
    for j in range(len(source)):
        x[j] = source[j] * value[j]
    for j in range(len(source)):
        sums[j] += x[j] * scale
    for j in range(len(source)):
        x[j] = x[j] * scales[j]
    return _total(x[: len(source)]), _total(spare[: len(source)])


@njit(nogil=True, cache=True, error_model="numpy")
def _spread(points, adjoint, maps, row, begin, last, symmetric, start, stop, x, spare, turned):
    """Apply the chain rule in a row; its mirror passes through ``turned``, transposed columns."""
    scale_u, scale_v = points[2], points[3]
    grad, weight, grad_scale_u, grad_scale_v, grad_time = adjoint
    n = grad.shape[1]
    b, i = row // n, row % n
    scales, sums = scale_v[b, begin:last], grad_scale_v[b, begin:last]
    source, target = grad[b, i, begin:last], weight[b, i, begin:last]
    total, speeds = _chain(source, scale_u[b, i], scales, maps, target, sums, x, spare)
    grad_scale_u[b, i] += total
    grad_time[b] += speeds
    if not symmetric:
        return
    first = last - (last - 1) % _BLOCK - 1
    group = _group_start(row, n, start)
    if i == group:
        end = min(group - group % _MIRROR + _MIRROR, n, stop - b * n)
        for j in range(max(first, group + 1), last):
            for k in range(group, min(end, j)):
                turned[0, k - group, j - first] = grad[b, j, k]
    below = max(begin, i + 1)
    skip = below - begin
    maps = (maps[0][skip:], maps[1][skip:], maps[2][skip:])
    scales, sums = scale_u[b, below:last], grad_scale_u[b, below:last]
    source = turned[0, i - group, below - first : last - first]
    target = turned[1, i - group, below - first : last - first]
    total, speeds = _chain(source, scale_v[b, i], scales, maps, target, sums, x, spare)
    grad_scale_v[b, i] += total
    grad_time[b] += speeds
    if _is_last_of_group(row, n, stop):
        for j in range(max(first, group + 1), last):
            for k in range(group, min(i + 1, j)):
                weight[b, j, k] = turned[1, k - group, j - first]


@njit(nogil=True, cache=True, error_model="numpy")
def _limit_maps(gap, x, table, limit, maps, gap_end, spare):
    """Value and derivatives of 1 - (1 - c_T) / largest; ``decrease`` is the rate of largest."""
    one, two = gap.dtype.type(1), gap.dtype.type(2)
    coefficients, power_basis = table
    phi, largest, decrease = limit
    value, slope, speed = maps
    _polynomial(coefficients[0], power_basis[0], x, value, spare)
    for j in range(len(gap)):
        gap_end[j] = gap[j] * value[j] * value[j]
    _half_tangent_variable(gap, x)
    _polynomial(phi, True, x, slope, spare)
    _half_tangent_variable(gap_end, x)
    _polynomial(phi, True, x, speed, spare)
    inverse = one / largest
    for j in range(len(gap)):
        cube = value[j] * value[j] * value[j] * speed[j] * inverse
        half, relative = gap[j] / two, gap_end[j] * inverse
        slope[j] = cube / slope[j]
        speed[j] = half * math.sqrt(half) * cube - relative * decrease * inverse
        value[j] = one - relative


@njit(nogil=True, cache=True, error_model="numpy")
def _depth_maps(gap, x, table, tangent, maps, spare):
    """Value and derivatives of a ``DepthTable``."""
    zero, one, two = gap.dtype.type(0), gap.dtype.type(1), gap.dtype.type(2)
    coefficients, power_basis = table
    value, slope, speed = maps
    _polynomial(coefficients[0], power_basis[0], x, value, spare)
    _polynomial(coefficients[1], power_basis[1], x, slope, spare)
    _polynomial(coefficients[2], power_basis[2], x, speed, spare)
    if tangent:
        for j in range(len(gap)):
            sine = math.sqrt(gap[j] * (two - gap[j]))
            slope[j] = slope[j] / sine if sine > zero else zero
    else:
        for j in range(len(gap)):
            value[j] = one - gap[j] * value[j] * value[j]
            speed[j] = gap[j] * math.sqrt(gap[j]) * speed[j]


@njit(nogil=True, cache=True, error_model="numpy")
def gradient(points, table, speeds, tangent, adjoint, symmetric, start, stop):
    """Apply the chain rule to a gradient in the covariance.

    ``table`` holds one map for the limit, and ``speeds`` phi, largest and its decrease, ``b``; for
    a ``DepthTable`` it holds three, and ``speeds`` are empty. With ``symmetric``, the two sets of
    points are the same: a row's slopes serve its column, too.
    """
    kappa, coefficients, power_basis = table
    phi, largest, decrease = speeds
    grad = adjoint[0]
    n, m = grad.shape[1], grad.shape[2]
    buffers = np.empty((7, _BLOCK), grad.dtype)
    turned = np.empty((2, _MIRROR, _BLOCK), grad.dtype)
    for first in range(0, m, _BLOCK):
        last = min(first + _BLOCK, m)
        for row in range(start, stop):
            i = row % n
            if symmetric and last <= i:
                continue
            begin = max(first, i) if symmetric else first
            gap, x = buffers[0, : last - begin], buffers[1, : last - begin]
            value, slope = buffers[2, : last - begin], buffers[3, : last - begin]
            speed, spare = buffers[4, : last - begin], buffers[5, : last - begin]
            gap_end, maps = buffers[6, : last - begin], (value, slope, speed)
            t = _places(points, kappa, row, begin, last, gap, x)
            own = coefficients[t], power_basis[t]
            if len(phi) > 0:
                limit = phi, largest[t], decrease[t]
                _limit_maps(gap, x, own, limit, maps, gap_end, spare)
            else:
                _depth_maps(gap, x, own, tangent, maps, spare)
            _spread(
                points, adjoint, maps, row, begin, last, symmetric, start, stop, x, spare, turned
            )
