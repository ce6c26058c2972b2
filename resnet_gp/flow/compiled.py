r"""The loops of ``unit_covariance.py`` in numba, over tiles that stay in the first-level cache.

The order of operations in an entry is fixed, whatever else is computed with it: a block of a matrix
has the bits of the same block computed alone, and a matrix of one set of points is symmetric to the
bit. Rows of all batch elements are counted through; each call does those from ``start`` to
``stop``. Each entry is the sum over c components. Arrays are C-contiguous, in tuples:

``points``   ``u``, ``b x c x n x d``, and ``v``, ``b x c x d x w``, with d a multiple of GROUP;
             their scales, ``b x c x n`` and ``b x c x w``; the gap below which it is computed from
             differences. Zeros pad the m columns of ``v`` to a multiple of ``COLUMNS``
``table``    kappa, ``(b or 1) x c``; coefficients and power basis of the map or maps
``adjoint``  the gradient of a scalar in the covariance, ``b x n x m``; its gradients in ``u``, its
             scales, ``v``, its scales and the time, ``b x c``, to be added to

A tile is four rows and some columns, row by row in buffers that begin where a cache line does: at
other addresses, wide vectors take nearly twice the time. ``workspace`` holds ``BUFFERS`` of them.
"""

from __future__ import annotations

import numpy as np

from resnet_gp.flow.compiled_maps import (
    count_below,
    depth_maps,
    entry,
    limit_maps,
    loops,
    polynomial,
    polynomials,
    sums,
    table_variable,
)
from resnet_gp.flow.vectors import multiply_add, separate_arrays, wide_vectors

COLUMNS = 16  # of a cache line, in float32
_ROWS, _WIDTH = 4, 256  # of a tile
_MIRROR = 64  # rows whose columns are written together, in lines that are whole
BUFFERS = 7
#: Entries from one buffer to the next: at multiples of a page, addresses look the same.
STRIDE = _ROWS * _WIDTH + 2 * COLUMNS


@loops
def _place(row, n, start, stop):
    """Batch element, first row and number of rows of a tile, within its batch element."""
    b, i = row // n, row % n
    return b, i, min(_ROWS - i % _ROWS, n - i, stop - row)


@loops
def _columns(i, first, m, symmetric):
    """Where the columns of a tile begin and end, and how many are computed."""
    last = min(first + _WIDTH, m)
    begin = max(first, i - i % COLUMNS) if symmetric else first
    return begin, last, (last - begin + COLUMNS - 1) // COLUMNS * COLUMNS


@loops
def _subtract_products(u, v, rows, begin, width, gap):
    """Subtract the inner products of four rows with some columns of ``v``, ``d x w``."""
    wide_vectors()
    separate_arrays()
    g0, g1, g2, g3 = (
        gap[:width],
        gap[width : 2 * width],
        gap[2 * width : 3 * width],
        gap[3 * width :],
    )
    for k in range(0, u.shape[1], 4):
        a, b = u[rows[0], k : k + 4], u[rows[1], k : k + 4]
        c, d = u[rows[2], k : k + 4], u[rows[3], k : k + 4]
        a0, a1, a2, a3 = -a[0], -a[1], -a[2], -a[3]
        b0, b1, b2, b3 = -b[0], -b[1], -b[2], -b[3]
        c0, c1, c2, c3 = -c[0], -c[1], -c[2], -c[3]
        d0, d1, d2, d3 = -d[0], -d[1], -d[2], -d[3]
        v0, v1 = v[k, begin : begin + width], v[k + 1, begin : begin + width]
        v2, v3 = v[k + 2, begin : begin + width], v[k + 3, begin : begin + width]
        for j in range(width):
            p, q, r, s = v0[j], v1[j], v2[j], v3[j]
            g = multiply_add(a1, q, multiply_add(a0, p, g0[j]))
            g0[j] = multiply_add(a3, s, multiply_add(a2, r, g))
            g = multiply_add(b1, q, multiply_add(b0, p, g1[j]))
            g1[j] = multiply_add(b3, s, multiply_add(b2, r, g))
            g = multiply_add(c1, q, multiply_add(c0, p, g2[j]))
            g2[j] = multiply_add(c3, s, multiply_add(c2, r, g))
            g = multiply_add(d1, q, multiply_add(d0, p, g3[j]))
            g3[j] = multiply_add(d3, s, multiply_add(d2, r, g))


@loops
def _rows_of(i, count):
    """The rows of a tile; the last one stands in for those that are missing."""
    return i, i + min(1, count - 1), i + min(2, count - 1), i + count - 1


@loops
def _half_square_distance(u, v, i, j):
    total = u.dtype.type(0)
    for k in range(u.shape[1]):
        difference = u[i, k] - v[k, j]
        total += difference * difference
    return total / u.dtype.type(2)


@loops
def _gaps(u, v, i, count, begin, width, near, gap):
    """1 - <u, v_j>, from the difference where small; ``table_variable`` clips it at 2.

    The small ones are looked for where both sides have the same index first: a search through the
    tile takes as long as all its products.
    """
    zero, one = gap.dtype.type(0), gap.dtype.type(1)
    rows = _rows_of(i, count)
    gap[:] = one
    _subtract_products(u, v, rows, begin, width, gap)
    few = count_below(gap, near)  # anything where gaps are not numbers
    left = few
    for r in range(_ROWS):
        place = rows[r] - begin
        if left > zero and 0 <= place < width and gap[r * width + place] < near:
            gap[r * width + place] = _half_square_distance(u, v, rows[r], rows[r])
            left -= one
    if left > zero:
        left = few
        for j in range(len(gap)):
            if left <= zero:
                break
            if gap[j] < near:
                gap[j] = _half_square_distance(u, v, rows[j // width], begin + j % width)
                left -= one


@loops
def _add_component(scale, rows, scales, gap, ratio, plain, total):
    """Add scale_i scales_j f(c_0), with the map f, to each entry of a tile."""
    wide_vectors()
    separate_arrays()
    one, width = total.dtype.type(1), len(scales)
    for r in range(_ROWS):
        own, place = scale[rows[r]], slice(r * width, (r + 1) * width)
        sums_, gaps, ratios = total[place], gap[place], ratio[place]
        if plain:
            for j in range(width):
                sums_[j] = multiply_add(own * scales[j], ratios[j], sums_[j])
        else:
            for j in range(width):
                end = multiply_add(-gaps[j] * ratios[j], ratios[j], one)
                sums_[j] = multiply_add(own * scales[j], end, sums_[j])


@loops
def _store(total, width, i, count, begin, last, matrix):
    for r in range(count):
        row = matrix[i + r, begin:last]
        for j in range(last - begin):
            row[j] = total[r * width + j]


@loops
def _mirror(matrix, above, below, first, last):
    """Copy the rows from ``above`` to ``below``, right of the diagonal, to their columns."""
    for tile in range(max(first, above + 1), last, 8):
        for column in range(tile, min(tile + 8, last)):
            j = np.uint64(column)  # without tests for negative indices
            for row in range(above, min(below, column)):
                k = np.uint64(row)
                matrix[j, k] = matrix[k, j]


@entry
def covariance(points, table, plain, out, symmetric, start, stop, workspace):
    """out = sum_c scale_u scale_v c_T, ``b x n x m``; ``plain`` tables hold the map itself.

    With ``symmetric``, the two sets of points are the same: a tile begins near the diagonal, and
    also fills its columns.
    """
    u, v, scale_u, scale_v, near = points
    kappa, coefficients, power_basis = table
    n, m = out.shape[1], out.shape[2]
    zero = out.dtype.type(0)
    for first in range(0, m, _WIDTH):
        row = start
        while row < stop:
            b, i, count = _place(row, n, start, stop)
            begin, last, width = _columns(i, first, m, symmetric)
            t = b if len(kappa) > 1 else 0
            row += count
            if symmetric and last <= i:
                continue
            size = _ROWS * width
            gap, x, total = workspace[0, :size], workspace[1, :size], workspace[4, :size]
            ratio, spare = workspace[2, :size], workspace[3, :size]
            total[:] = zero
            for c in range(u.shape[1]):
                _gaps(u[b, c], v[b, c], i, count, begin, width, near, gap)
                table_variable(gap, kappa[t, c], x)
                polynomial(coefficients[t, c], power_basis[t, c], x, ratio, spare)
                scales = scale_v[b, c, begin : begin + width]
                _add_component(scale_u[b, c], _rows_of(i, count), scales, gap, ratio, plain, total)
            _store(total, width, i, count, begin, last, out[b])
            end = i + count
            if symmetric and (end % _MIRROR == 0 or end == n or row == stop):
                above = max((end - 1) // _MIRROR * _MIRROR, start - b * n)
                _mirror(out[b], above, end, first, last)


@loops
def _see(grad, i, count, begin, last, width, symmetric, mirrored, seen):
    """The gradient in the entries of a tile; 0 where there is none.

    With ``symmetric``, each pair of points counts once: 0 below the diagonal, and beyond it twice
    the gradient if it is ``mirrored``; else the mirror is yet to be added.
    """
    seen[:] = seen.dtype.type(0)
    factor = seen.dtype.type(2 if mirrored else 1)
    for r in range(count):
        row, own = grad[i + r], seen[r * width : (r + 1) * width]
        if not symmetric:
            for j in range(begin, last):
                own[j - begin] = row[j]
        else:
            for j in range(max(begin, i + r + 1), last):
                own[j - begin] = factor * row[j]
            if begin <= i + r < last:
                own[i + r - begin] = row[i + r]


@loops
def _add_mirror(grad, i, count, begin, last, width, seen):
    """Add the gradient in the mirror of the entries."""
    for j in range(max(begin, i + 1), last):
        row, place = grad[j], j - begin
        if count == _ROWS and j >= i + _ROWS:
            seen[place] += row[i]
            seen[width + place] += row[i + 1]
            seen[2 * width + place] += row[i + 2]
            seen[3 * width + place] += row[i + 3]
        else:
            for r in range(min(count, j - i)):
                seen[r * width + place] += row[i + r]


@sums
def _weigh(seen, scale, rows, scales, maps, weight, by_scale_u, by_scale_v):
    """Gradients in the inner products, ``weight``, and in the scales; returns that in the time."""
    wide_vectors()
    separate_arrays()
    zero, width = seen.dtype.type(0), len(scales)
    by_time = zero
    for r in range(_ROWS):
        own, place, by_own = scale[rows[r]], slice(r * width, (r + 1) * width), zero
        seen_, weight_ = seen[place], weight[place]
        value, slope, speed = maps[0][place], maps[1][place], maps[2][place]
        for j in range(width):
            scaled, end = seen_[j] * own * scales[j], seen_[j] * value[j]
            by_time += scaled * speed[j]
            by_own += end * scales[j]
            by_scale_v[j] += end * own
            weight_[j] = scaled * slope[j]
        by_scale_u[rows[r]] += by_own
    return by_time


@sums
def _to_units(u, v, rows, begin, width, weight, by_u, by_v):
    """Add the gradients in the unit vectors of a tile."""
    wide_vectors()
    separate_arrays()
    zero = weight.dtype.type(0)
    w0, w1, w2, w3 = (
        weight[:width],
        weight[width : 2 * width],
        weight[2 * width : 3 * width],
        weight[3 * width :],
    )
    for k in range(0, u.shape[1], 2):
        x, y = v[k, begin : begin + width], v[k + 1, begin : begin + width]
        by_x, by_y = by_v[k, begin : begin + width], by_v[k + 1, begin : begin + width]
        a0, a1, a2, a3 = u[rows[0], k], u[rows[1], k], u[rows[2], k], u[rows[3], k]
        b0, b1, b2, b3 = u[rows[0], k + 1], u[rows[1], k + 1], u[rows[2], k + 1], u[rows[3], k + 1]
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = zero
        for j in range(width):
            p, q, r, s = w0[j], w1[j], w2[j], w3[j]
            xj, yj = x[j], y[j]
            by_x[j] += a0 * p + a1 * q + a2 * r + a3 * s
            by_y[j] += b0 * p + b1 * q + b2 * r + b3 * s
            s0 += p * xj
            s1 += q * xj
            s2 += r * xj
            s3 += s * xj
            t0 += p * yj
            t1 += q * yj
            t2 += r * yj
            t3 += s * yj
        by_u[rows[0], k] += s0
        by_u[rows[1], k] += s1
        by_u[rows[2], k] += s2
        by_u[rows[3], k] += s3
        by_u[rows[0], k + 1] += t0
        by_u[rows[1], k + 1] += t1
        by_u[rows[2], k + 1] += t2
        by_u[rows[3], k + 1] += t3


@entry
def gradient(
    points, table, limit, tangent, adjoint, mirror, units, symmetric, start, stop, workspace
):
    """Apply the chain rule to a gradient in the covariance.

    ``table`` holds three maps. ``limit`` is the largest gap and its decrease, as kappa, of a
    ``HorizonTable``, and ``tangent`` whether a ``DepthTable`` is of the tangent kernel: one of the
    two is None. Without ``units``, the gradients in u and v are left out. With ``symmetric``, the
    two sets of points are the same: a pair's slopes serve both its entries, and the gradient in the
    points is the sum of those in u and in v. ``mirror`` is the gradient in the covariance once
    more, or None where it is symmetric as well, or not ``symmetric``. What an argument that is None
    would need is not compiled.
    """
    u, v, scale_u, scale_v, near = points
    kappa, coefficients, power_basis = table
    grad, by_u, by_scale_u, by_v, by_scale_v, by_time = adjoint
    n, m = grad.shape[1], grad.shape[2]
    for first in range(0, m, _WIDTH):
        row = start
        while row < stop:
            b, i, count = _place(row, n, start, stop)
            begin, last, width = _columns(i, first, m, symmetric)
            t = b if len(kappa) > 1 else 0
            row += count
            if symmetric and last <= i:
                continue
            size = _ROWS * width
            gap, x, spare = workspace[0, :size], workspace[1, :size], workspace[2, :size]
            maps = workspace[3, :size], workspace[4, :size], workspace[5, :size]
            seen = workspace[6, :size]
            _see(grad[b], i, count, begin, last, width, symmetric, mirror is None, seen)
            if mirror is not None:
                _add_mirror(mirror[b], i, count, begin, last, width, seen)
            for c in range(u.shape[1]):
                _gaps(u[b, c], v[b, c], i, count, begin, width, near, gap)
                table_variable(gap, kappa[t, c], x)
                polynomials((coefficients[t, c], power_basis[t, c]), x, maps, spare)
                if limit is not None:
                    limit_maps(gap, limit[0][t, c], limit[1][t, c], maps)
                if tangent is not None:
                    depth_maps(gap, tangent, maps)
                rows, scales = _rows_of(i, count), scale_v[b, c, begin : begin + width]
                by_time[b, c] += _weigh(
                    seen, scale_u[b, c], rows, scales, maps, x, by_scale_u[b, c],
                    by_scale_v[b, c, begin : begin + width],
                )  # fmt: skip
                if units:
                    _to_units(u[b, c], v[b, c], rows, begin, width, x, by_u[b, c], by_v[b, c])
