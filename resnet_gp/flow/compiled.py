r"""The loops of ``unit_covariance.py`` in numba, over cache-sized blocks.

The order of operations in an entry is fixed, whatever else is computed with it: a block of a matrix
has the bits of the same block computed alone, and a matrix of one set of points is symmetric to the
bit. Rows of all batch elements are counted through; each call does those from ``start`` to
``stop``. Each entry is the sum over c components. Arrays are C-contiguous, in three tuples:

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

from resnet_gp.flow.vectors import multiply_add, quotient, square_root, wide_vectors

_BLOCK = 512  # columns at a time: a dozen buffers of this length stay in the first-level cache
_STRIDE = _BLOCK + 24  # between buffers: a page would make their addresses look the same

_MIRROR = 32  # rows whose columns are read and written together


_options = {"nogil": True, "cache": True, "error_model": "numpy"}
_entry = njit(**_options)
# For compiled code alone: what Python needs to call a function takes as long to compile as it.
_loops = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_options)


@_loops
def _subtract_products(u, v, first, last, gap):
    """Subtract the inner products with some columns of ``v``, ``d x m``."""
    wide_vectors()
    for k in range(0, len(u), 4):
        u0, u1, u2, u3 = -u[k], -u[k + 1], -u[k + 2], -u[k + 3]
        v0, v1 = v[k, first:last], v[k + 1, first:last]
        v2, v3 = v[k + 2, first:last], v[k + 3, first:last]
        for j in range(len(gap)):
            g = multiply_add(u1, v1[j], multiply_add(u0, v0[j], gap[j]))
            gap[j] = multiply_add(u3, v3[j], multiply_add(u2, v2[j], g))


@njit(nogil=True, cache=True, fastmath=True)
def _count_below(values, bound):
    """How many values are below a bound, as a float: this is vectorised."""
    wide_vectors()
    zero, one = values.dtype.type(0), values.dtype.type(1)
    count = zero
    for j in range(len(values)):
        count += one if values[j] < bound else zero
    return count


@_loops
def _gaps(u, v, first, last, near, gap):
    """1 - <u, v_j>, from the difference where small; ``_table_variable`` clips it at 2."""
    zero, one, two = gap.dtype.type(0), gap.dtype.type(1), gap.dtype.type(2)
    gap[:] = one
    _subtract_products(u, v, first, last, gap)
    left = _count_below(gap, near)  # anything where gaps are not numbers
    for j in range(len(gap)):
        if left <= zero:
            break
        if gap[j] < near:
            total = zero
            for k in range(len(u)):
                difference = u[k] - v[k, first + j]
                total += difference * difference
            gap[j] = total / two
            left -= one


@_loops
def _table_variable(gap, kappa, x):
    """x of the table at each gap; a gap above 2 is set to 2."""
    wide_vectors()
    two, root_two = gap.dtype.type(2), gap.dtype.type(math.sqrt(2))
    stretch, one = two + two * kappa, gap.dtype.type(1)
    for j in range(len(gap)):
        g = gap[j]
        g = two if g > two else g
        gap[j] = g
        root = square_root(g)
        below = multiply_add(kappa, root, square_root(two - g) + root_two)
        x[j] = quotient(stretch * root, below) - one


@_loops
def _horner(coefficients, x, value):
    """A polynomial with 1 + 4 k coefficients, highest degree first; of those, 8 in one pass."""
    wide_vectors()
    value[:] = coefficients[0]
    first = 1
    if len(coefficients) % 8 == 5:
        c0, c1, c2, c3 = coefficients[1], coefficients[2], coefficients[3], coefficients[4]
        for j in range(len(x)):
            t = x[j]
            p = multiply_add(multiply_add(value[j], t, c0), t, c1)
            value[j] = multiply_add(multiply_add(p, t, c2), t, c3)
        first = 5
    for k in range(first, len(coefficients), 8):
        c0, c1, c2, c3 = (
            coefficients[k],
            coefficients[k + 1],
            coefficients[k + 2],
            coefficients[k + 3],
        )
        c4, c5, c6, c7 = (
            coefficients[k + 4],
            coefficients[k + 5],
            coefficients[k + 6],
            coefficients[k + 7],
        )
        for j in range(len(x)):
            t = x[j]
            p = multiply_add(multiply_add(value[j], t, c0), t, c1)
            p = multiply_add(multiply_add(p, t, c2), t, c3)
            p = multiply_add(multiply_add(p, t, c4), t, c5)
            value[j] = multiply_add(multiply_add(p, t, c6), t, c7)


@_loops
def _clenshaw(coefficients, x, value, previous):
    """A Chebyshev series with 1 + 4 k coefficients, highest degree first."""
    wide_vectors()
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
            q = multiply_add(t, p, c0 - q)
            p = multiply_add(t, q, c1 - p)
            q = multiply_add(t, p, c2 - q)
            p = multiply_add(t, q, c3 - p)
            value[j], previous[j] = p, q
    last = coefficients[-1]
    for j in range(len(x)):
        value[j] = multiply_add(x[j], value[j], last - previous[j])


@_loops
def _polynomial(coefficients, power_basis, x, value, previous):
    zero = x.dtype.type(0)
    lead = 0  # zeros in front pad a short series to the length of others
    while lead + 4 < len(coefficients) and (
        coefficients[lead] == zero
        and coefficients[lead + 1] == zero
        and coefficients[lead + 2] == zero
        and coefficients[lead + 3] == zero
    ):
        lead += 4
    if power_basis:
        _horner(coefficients[lead:], x, value)
    else:
        _clenshaw(coefficients[lead:], x, value, previous)


@_loops
def _group_start(row, n, start):
    """The first row of this one's group, within its batch element."""
    i = row % n
    return max(i - i % _MIRROR, start - (row - i))


@_loops
def _is_last_of_group(row, n, stop):
    i = row % n
    return i % _MIRROR == _MIRROR - 1 or row == stop - 1 or i == n - 1


@_loops
def _add_component(scale, scales, gap, ratio, plain, target):
    """Add scale scales_j f(c_0), with the map f, to each target."""
    wide_vectors()
    one = target.dtype.type(1)
    if plain:
        for j in range(len(target)):
            target[j] = multiply_add(scale * scales[j], ratio[j], target[j])
    else:
        for j in range(len(target)):
            end = multiply_add(-gap[j] * ratio[j], ratio[j], one)
            target[j] = multiply_add(scale * scales[j], end, target[j])


@_loops
def _mirror(matrix, above, below, first, last):
    """Copy the rows from ``above`` to ``below``, right of the diagonal, to their columns."""
    for tile in range(max(first, above + 1), last, 8):
        for j in range(tile, min(tile + 8, last)):
            row, end = matrix[j], min(below, j)
            for k in range(above, end):
                row[k] = matrix[k, j]


@_entry
def covariance(points, table, plain, out, symmetric, start, stop):
    """out = sum_c scale_u scale_v c_T, ``b x n x m``; ``plain`` tables hold the map itself.

    With ``symmetric``, the two sets of points are the same: a row is computed from the diagonal
    on, and also fills its column.
    """
    wide_vectors()
    u, v, scale_u, scale_v, near = points
    kappa, coefficients, power_basis = table
    n, m = out.shape[1], out.shape[2]
    zero = out.dtype.type(0)
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
            gap, x = buffers[0, :size], buffers[1, :size]
            ratio, spare = buffers[2, :size], buffers[3, :size]
            target = out[b, i, begin:last]
            target[:] = zero
            for c in range(u.shape[1]):
                _gaps(u[b, c, i], v[b, c], begin, last, near, gap)
                _table_variable(gap, kappa[t, c], x)
                _polynomial(coefficients[t, c], power_basis[t, c], x, ratio, spare)
                scales = scale_v[b, c, begin:last]
                _add_component(scale_u[b, c, i], scales, gap, ratio, plain, target)
            if symmetric and _is_last_of_group(row, n, stop):
                _mirror(out[b], _group_start(row, n, start), i + 1, first, last)


@njit(nogil=True, cache=True, fastmath=True)
def _dot(values, others):
    wide_vectors()
    total = values.dtype.type(0)
    for j in range(len(values)):
        total += values[j] * others[j]
    return total


@_loops
def _add_scaled(target, factor, values):
    wide_vectors()
    for j in range(len(target)):
        target[j] = multiply_add(factor, values[j], target[j])


@_loops
def _weigh(seen, scale, scales, weight):
    wide_vectors()
    for j in range(len(seen)):
        weight[j] = seen[j] * scale * scales[j]


@_loops
def _multiply(values, others, products):
    wide_vectors()
    for j in range(len(values)):
        products[j] = values[j] * others[j]


@_loops
def _chain(points, adjoint, seen, maps, b, c, i, begin, last, units, weight, spare):
    """Apply the chain rule to a row of one component, given the gradient in its entries."""
    u, v, scale_u, scale_v, _ = points
    _, by_u, by_scale_u, by_v, by_scale_v, by_time = adjoint
    value, slope, speed = maps
    scale, scales, sums = scale_u[b, c, i], scale_v[b, c, begin:last], by_scale_v[b, c, begin:last]
    _weigh(seen, scale, scales, weight)
    by_time[b, c] += _dot(weight, speed)
    _multiply(weight, slope, weight)
    _multiply(seen, value, spare)
    _add_scaled(sums, scale, spare)
    by_scale_u[b, c, i] += _dot(spare, scales)
    if units:
        for k in range(u.shape[3]):
            by_u[b, c, i, k] += _dot(weight, v[b, c, k, begin:last])
            _add_scaled(by_v[b, c, k, begin:last], u[b, c, i, k], weight)


@_loops
def _polynomials(table, x, maps, spare):
    coefficients, power_basis = table
    value, slope, speed = maps
    _polynomial(coefficients[0], power_basis[0], x, value, spare)
    _polynomial(coefficients[1], power_basis[1], x, slope, spare)
    _polynomial(coefficients[2], power_basis[2], x, speed, spare)


@_loops
def _limit_maps(gap, largest, decrease, maps):
    """From the maps of a ``HorizonTable``, 1 - (1 - c_T) / largest and its derivatives."""
    wide_vectors()
    one, two = gap.dtype.type(1), gap.dtype.type(2)
    value, slope, speed = maps
    inverse = one / largest
    falling = decrease * inverse
    for j in range(len(gap)):
        half, square = gap[j] / two, value[j] * value[j] * inverse
        cube, relative = square * value[j], gap[j] * square
        slope[j] = cube * slope[j]
        speed[j] = half * square_root(half) * cube * speed[j] - relative * falling
        value[j] = one - relative


@_loops
def _depth_maps(gap, tangent, maps):
    """From the maps of a ``DepthTable``, its value and derivatives."""
    wide_vectors()
    zero, one, two = gap.dtype.type(0), gap.dtype.type(1), gap.dtype.type(2)
    value, slope, speed = maps
    if tangent:
        for j in range(len(gap)):
            sine = math.sqrt(gap[j] * (two - gap[j]))
            slope[j] = slope[j] / sine if sine > zero else zero
    else:
        for j in range(len(gap)):
            value[j] = one - gap[j] * value[j] * value[j]
            speed[j] = gap[j] * square_root(gap[j]) * speed[j]


@_entry
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


@_loops
def _turn(matrix, above, below, first, last, turned):
    """Copy the columns of some rows' mirror, below the diagonal, into rows."""
    for tile in range(max(first, above + 1), last, 8):
        for j in range(tile, min(tile + 8, last)):
            row, end = matrix[j], min(below, j)
            for k in range(above, end):
                turned[k - above, j - first] = row[k]


@_loops
def _add_mirror(grad, row, first, begin, last, start, stop, turned, seen):
    """The gradient in the entries of a row and of its mirror, through ``turned`` columns."""
    n = grad.shape[1]
    b, i = row // n, row % n
    group = _group_start(row, n, start)
    if i == group:
        end = min(group - group % _MIRROR + _MIRROR, n, stop - b * n)
        _turn(grad[b], group, end, first, last, turned)
    _add(grad[b, i], turned[i - group], i, first, begin, seen)


@_loops
def _add(own, mirrored, diagonal, first, begin, seen):
    """The sum of both from ``begin`` on; ``mirrored`` begins at ``first``."""
    wide_vectors()
    for j in range(len(seen)):
        seen[j] = own[begin + j]
    for j in range(max(0, diagonal + 1 - begin), len(seen)):
        seen[j] += mirrored[begin - first + j]
