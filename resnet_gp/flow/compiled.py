r"""The loops of ``unit_covariance.py`` in numba, over cache-sized blocks; bits as ``table.py``.

Nothing in a value may be reassociated or contracted, and the order of inner products is fixed: a
block of a matrix has the bits of the same block computed alone. Rows of all batch elements are
counted through; each call does those from ``start`` to ``stop``. Each entry is the sum over c
components. Arrays are C-contiguous, in three tuples:

``points``   ``u``, ``b x c x n x d``, and ``v``, ``b x c x d x m``, with d a multiple of GROUP;
             their scales, ``b x c x n`` and ``b x c x m``; the gap below which it is computed from
             differences
``table``    kappa, ``(b or 1) x c``; coefficients and power basis of the map or maps
``adjoint``  the gradient of a scalar in the covariance, ``b x n x m``; its gradients in ``u``, its
             scales, ``v``, its scales and the time, ``b x c``, to be added to
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_BLOCK = 512  # columns at a time: a dozen buffers of this length stay in the first-level cache
_STRIDE = _BLOCK + 24  # between buffers: a page would make their addresses look the same

_MIRROR = 8  # rows whose columns are read and written together, a cache line


@njit(nogil=True, cache=True, fastmath=True)
def _count_below(values, bound):
    """How many values are below a bound, in a form that is vectorised; that of min() is not."""
    zero, one = values.dtype.type(0), values.dtype.type(1)
    count = zero
    for j in range(len(values)):
        count += one if values[j] < bound else zero
    return count


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
    if _count_below(gap, near) > zero:
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


def _evaluate(coefficients, power_basis, x, value, previous):
    zero, two = x.dtype.type(0), x.dtype.type(2)
    lead = 0  # zeros in front pad a short series to the length of others
    while lead + 4 < len(coefficients) and (
        coefficients[lead] == zero
        and coefficients[lead + 1] == zero
        and coefficients[lead + 2] == zero
        and coefficients[lead + 3] == zero
    ):
        lead += 4
    if power_basis:
        value[:] = coefficients[lead]
        for k in range(lead + 1, len(coefficients), 4):
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
    value[:] = zero
    previous[:] = zero
    for k in range(lead, len(coefficients) - 1, 4):
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


_polynomial = njit(nogil=True, cache=True, error_model="numpy")(_evaluate)
_contracted = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(_evaluate)


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
def covariance(points, table, plain, out, symmetric, start, stop):
    """out = sum_c scale_u scale_v c_T, ``b x n x m``; ``plain`` tables hold the map itself.

    With ``symmetric``, the two sets of points are the same: a row is computed from the diagonal
    on, and also fills its column.
    """
    u, v, scale_u, scale_v, near = points
    kappa, coefficients, power_basis = table
    n, m = out.shape[1], out.shape[2]
    zero, one = out.dtype.type(0), out.dtype.type(1)
    buffers = np.empty((4, _STRIDE), out.dtype)
    for first in range(0, m, _BLOCK):
        last = min(first + _BLOCK, m)
        for row in range(start, stop):
            b, i = row // n, row % n
            t = b if len(kappa) > 1 else 0
            if symmetric and last <= i:
                continue
            begin = max(first, i) if symmetric else first
            size = last - begin
            gap, x, ratio, spare = (
                buffers[0, :size],
                buffers[1, :size],
                buffers[2, :size],
                buffers[3, :size],
            )
            target = out[b, i, begin:last]
            target[:] = zero
            for c in range(u.shape[1]):
                _gaps(u[b, c, i], v[b, c], begin, last, near, gap)
                _table_variable(gap, kappa[t, c], x)
                _polynomial(coefficients[t, c], power_basis[t, c], x, ratio, spare)
                scale, scales = scale_u[b, c, i], scale_v[b, c, begin:last]
                if plain:
                    for j in range(size):
                        target[j] += scale * scales[j] * ratio[j]
                else:
                    for j in range(size):
                        target[j] += scale * scales[j] * (one - gap[j] * ratio[j] * ratio[j])
            if symmetric and _is_last_of_group(row, n, stop):
                above = _group_start(row, n, start)
                for j in range(max(first, above + 1), last):
                    for k in range(above, min(i + 1, j)):
                        out[b, j, k] = out[b, k, j]


@njit(nogil=True, cache=True, fastmath=True)
def _dot(values, others):
    total = values.dtype.type(0)
    for j in range(len(values)):
        total += values[j] * others[j]
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _add_scaled(target, factor, values):
    for j in range(len(target)):
        target[j] += factor * values[j]


@njit(nogil=True, cache=True, error_model="numpy")
def _chain(points, adjoint, seen, maps, b, c, i, begin, last, units, weight, spare):
    """Apply the chain rule to a row of one component, given the gradient in its entries."""
    u, v, scale_u, scale_v, _ = points
    _, by_u, by_scale_u, by_v, by_scale_v, by_time = adjoint
    value, slope, speed = maps
    scale, scales, sums = scale_u[b, c, i], scale_v[b, c, begin:last], by_scale_v[b, c, begin:last]
    for j in range(len(seen)):
        weight[j] = seen[j] * scale * scales[j]
    by_time[b, c] += _dot(weight, speed)
    for j in range(len(seen)):
        weight[j] *= slope[j]
    for j in range(len(seen)):
        spare[j] = seen[j] * value[j]
    _add_scaled(sums, scale, spare)
    by_scale_u[b, c, i] += _dot(spare, scales)
    if units:
        for k in range(u.shape[3]):
            by_u[b, c, i, k] += _dot(weight, v[b, c, k, begin:last])
            _add_scaled(by_v[b, c, k, begin:last], u[b, c, i, k], weight)


@njit(nogil=True, cache=True, error_model="numpy")
def _polynomials(table, x, maps, spare):
    coefficients, power_basis = table
    value, slope, speed = maps
    _contracted(coefficients[0], power_basis[0], x, value, spare)
    _contracted(coefficients[1], power_basis[1], x, slope, spare)
    _contracted(coefficients[2], power_basis[2], x, speed, spare)


@njit(nogil=True, cache=True, error_model="numpy")
def _limit_maps(gap, largest, decrease, maps):
    """From the maps of a ``HorizonTable``, 1 - (1 - c_T) / largest and its derivatives."""
    one, two = gap.dtype.type(1), gap.dtype.type(2)
    value, slope, speed = maps
    inverse = one / largest
    falling = decrease * inverse
    for j in range(len(gap)):
        half, square = gap[j] / two, value[j] * value[j] * inverse
        cube, relative = square * value[j], gap[j] * square
        slope[j] = cube * slope[j]
        speed[j] = half * math.sqrt(half) * cube * speed[j] - relative * falling
        value[j] = one - relative


@njit(nogil=True, cache=True, error_model="numpy")
def _depth_maps(gap, tangent, maps):
    """From the maps of a ``DepthTable``, its value and derivatives."""
    zero, one, two = gap.dtype.type(0), gap.dtype.type(1), gap.dtype.type(2)
    value, slope, speed = maps
    if tangent:
        for j in range(len(gap)):
            sine = math.sqrt(gap[j] * (two - gap[j]))
            slope[j] = slope[j] / sine if sine > zero else zero
    else:
        for j in range(len(gap)):
            value[j] = one - gap[j] * value[j] * value[j]
            speed[j] = gap[j] * math.sqrt(gap[j]) * speed[j]


@njit(nogil=True, cache=True, error_model="numpy")
def gradient(points, table, limit, tangent, adjoint, units, symmetric, start, stop):
    """Apply the chain rule to a gradient in the covariance.

    ``table`` holds three maps. ``limit`` is the largest gap and its decrease, as kappa, of a
    ``HorizonTable``; both are empty for a ``DepthTable``. Without ``units``, the gradients in u and
    v are left out. With ``symmetric``, the two sets of points are the same: a row's slopes serve
    its column, too, and the gradient in the points is the sum of those in u and in v.
    """
    u, v, _, _, near = points
    kappa, coefficients, power_basis = table
    largest, decrease = limit
    grad = adjoint[0]
    n, m = grad.shape[1], grad.shape[2]
    buffers = np.empty((7, _STRIDE), grad.dtype)
    turned = np.empty((_MIRROR, _STRIDE), grad.dtype)
    for first in range(0, m, _BLOCK):
        last = min(first + _BLOCK, m)
        for row in range(start, stop):
            b, i = row // n, row % n
            t = b if len(kappa) > 1 else 0
            if symmetric and last <= i:
                continue
            begin = max(first, i) if symmetric else first
            size = last - begin
            seen = grad[b, i, begin:last]
            if symmetric:
                seen = buffers[6, :size]
                _add_mirror(grad, row, first, begin, last, start, stop, turned, seen)
            gap, x, spare = buffers[0, :size], buffers[1, :size], buffers[2, :size]
            maps = buffers[3, :size], buffers[4, :size], buffers[5, :size]
            for c in range(u.shape[1]):
                _gaps(u[b, c, i], v[b, c], begin, last, near, gap)
                _table_variable(gap, kappa[t, c], x)
                _polynomials((coefficients[t, c], power_basis[t, c]), x, maps, spare)
                if len(largest) > 0:
                    _limit_maps(gap, largest[t, c], decrease[t, c], maps)
                else:
                    _depth_maps(gap, tangent, maps)
                _chain(points, adjoint, seen, maps, b, c, i, begin, last, units, x, spare)


@njit(nogil=True, cache=True)
def _add_mirror(grad, row, first, begin, last, start, stop, turned, seen):
    """The gradient in the entries of a row and of its mirror, through ``turned`` columns."""
    n = grad.shape[1]
    b, i = row // n, row % n
    group = _group_start(row, n, start)
    if i == group:
        end = min(group - group % _MIRROR + _MIRROR, n, stop - b * n)
        for j in range(max(first, group + 1), last):
            for k in range(group, min(end, j)):
                turned[k - group, j - first] = grad[b, j, k]
    seen[:] = grad[b, i, begin:last]
    for j in range(max(begin, i + 1), last):
        seen[j - begin] += turned[i - group, j - first]
