"""The evaluation of ``cells.TableGrid`` as loops compiled by numba, over cache-sized blocks.

Arrays are C-contiguous; b is a batch of networks and inputs. Rows and columns are sorted by cell.
Rows of all batch elements are counted through; each call does those from ``start`` to ``stop``.
``tables`` is a tuple of

``coefficients``     ``(b or 1) x cells1 x cells2 x fields x i x k x j``, the last three multiples
                     of 4
``lengths``          the number of k, a multiple of 4, ``(b or 1) x cells1 x cells2``
``rows``             the numbers of the sorted rows, their cells, the square roots of their
                     variances, ``b x n``, and Chebyshev polynomials of these, ``b x n x i``
``columns``          the numbers of the sorted columns, ``b x m``; where each cell begins there,
                     ``b x (cells2 + 1)``; square roots, ``b x (m + 8)``, and polynomials,
                     ``b x j x (m + 8)``
"""

from __future__ import annotations

import math

import numpy as np

from resnet_gp.flow.cells import LANES
from resnet_gp.flow.compiled_maps import entry, loops
from resnet_gp.flow.vectors import multiply_add, wide_vectors

_BLOCK = 256  # columns at a time: with their basis they stay in the first-level cache


@loops
def _places(covariance, root1, root2, x):
    """2 tan(theta / 4) - 1 of q_ab = sqrt(q_aa q_bb) cos(theta)."""
    wide_vectors()
    zero, one, two = x.dtype.type(0), x.dtype.type(1), x.dtype.type(2)
    root_two = x.dtype.type(math.sqrt(2))
    for j in range(len(x)):
        gap = one - covariance[j] / (root1 * root2[j])
        gap = zero if gap < zero else gap
        gap = two if gap > two else gap
        x[j] = two * math.sqrt(gap) / (math.sqrt(two - gap) + root_two) - one


@loops
def _contract(coefficients, length, left, first, count, rows):
    """sum_i C_ikj T_i of four rows of a cell: ``rows``, ``4 x fields x k x j``.

    The last of ``count`` rows stands in for those that are missing.
    """
    wide_vectors()
    size, last = length * rows.shape[3], first + count - 1
    one, two = left[first], left[min(first + 1, last)]
    three, four = left[min(first + 2, last)], left[last]
    for f in range(len(coefficients)):
        a, b = rows[0, f].ravel()[:size], rows[1, f].ravel()[:size]
        c, d = rows[2, f].ravel()[:size], rows[3, f].ravel()[:size]
        a[:] = 0
        b[:] = 0
        c[:] = 0
        d[:] = 0
        for i in range(0, len(one), 4):
            p, q = coefficients[f, i].ravel()[:size], coefficients[f, i + 1].ravel()[:size]
            r, s = coefficients[f, i + 2].ravel()[:size], coefficients[f, i + 3].ravel()[:size]
            a0, a1, a2, a3 = one[i], one[i + 1], one[i + 2], one[i + 3]
            b0, b1, b2, b3 = two[i], two[i + 1], two[i + 2], two[i + 3]
            c0, c1, c2, c3 = three[i], three[i + 1], three[i + 2], three[i + 3]
            d0, d1, d2, d3 = four[i], four[i + 1], four[i + 2], four[i + 3]
            for j in range(size):
                u, v, w, x = p[j], q[j], r[j], s[j]
                sum_a, sum_b = multiply_add(a0, u, a[j]), multiply_add(b0, u, b[j])
                sum_c, sum_d = multiply_add(c0, u, c[j]), multiply_add(d0, u, d[j])
                sum_a, sum_b = multiply_add(a1, v, sum_a), multiply_add(b1, v, sum_b)
                sum_c, sum_d = multiply_add(c1, v, sum_c), multiply_add(d1, v, sum_d)
                sum_a, sum_b = multiply_add(a2, w, sum_a), multiply_add(b2, w, sum_b)
                sum_c, sum_d = multiply_add(c2, w, sum_c), multiply_add(d2, w, sum_d)
                a[j], b[j] = multiply_add(a3, x, sum_a), multiply_add(b3, x, sum_b)
                c[j], d[j] = multiply_add(c3, x, sum_c), multiply_add(d3, x, sum_d)


@loops
def _series(rows, length, right, begin, x, value, previous, terms):
    """sum_k T_k(x) sum_j rows_kj right_j in ``value``, by Clenshaw's rule, four k in a pass.

    The sums of four k over four j at a time go to ``terms``, ``4 x ...``.
    """
    wide_vectors()
    two, end = x.dtype.type(2), begin + len(x)
    value[:] = 0
    previous[:] = 0
    t0, t1, t2, t3 = terms
    for k in range(length - 4, -1, -4):
        t0[:] = 0
        t1[:] = 0
        t2[:] = 0
        t3[:] = 0
        for i in range(0, rows.shape[1], 4):
            p, q, r, s = right[i], right[i + 1], right[i + 2], right[i + 3]
            p, q, r, s = p[begin:end], q[begin:end], r[begin:end], s[begin:end]
            a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
            a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
            b0, b1, b2, b3 = b[i], b[i + 1], b[i + 2], b[i + 3]
            c0, c1, c2, c3 = c[i], c[i + 1], c[i + 2], c[i + 3]
            d0, d1, d2, d3 = d[i], d[i + 1], d[i + 2], d[i + 3]
            for j in range(len(x)):
                u, v, w, z = p[j], q[j], r[j], s[j]
                sum0, sum1 = multiply_add(a0, u, t0[j]), multiply_add(b0, u, t1[j])
                sum2, sum3 = multiply_add(c0, u, t2[j]), multiply_add(d0, u, t3[j])
                sum0, sum1 = multiply_add(a1, v, sum0), multiply_add(b1, v, sum1)
                sum2, sum3 = multiply_add(c1, v, sum2), multiply_add(d1, v, sum3)
                sum0, sum1 = multiply_add(a2, w, sum0), multiply_add(b2, w, sum1)
                sum2, sum3 = multiply_add(c2, w, sum2), multiply_add(d2, w, sum3)
                t0[j], t1[j] = multiply_add(a3, z, sum0), multiply_add(b3, z, sum1)
                t2[j], t3[j] = multiply_add(c3, z, sum2), multiply_add(d3, z, sum3)
        for j in range(len(x)):
            t = two * x[j]
            g, h = value[j], previous[j]
            h = multiply_add(t, g, t3[j] - h)
            g = multiply_add(t, h, t2[j] - g)
            h = multiply_add(t, g, t1[j] - h)
            g = multiply_add(t, h, t0[j] - g)
            value[j], previous[j] = g, h
    for j in range(len(x)):  # where the last step's 2 x is x
        value[j] = multiply_add(-x[j], previous[j], value[j])


@loops
def _gather(values, own, out):
    for j in range(len(own)):
        out[j] = values[own[j]]


@loops
def _rows_together(cell, place, most):
    """How many rows from a place on, at most four, have one cell."""
    count = 1
    while count < min(4, most) and cell[place + count] == cell[place]:
        count += 1
    return count


@loops
def _store(value, b, i, own, symmetric, out):
    for j in range(len(own)):
        out[b, i, own[j]] = value[j]
    if symmetric:
        for j in range(len(own)):
            out[b, own[j], i] = value[j]


@loops
def _see(grad, b, i, own, symmetric, seen):
    """The gradient in the entries of a block; with ``symmetric``, and in their mirrors."""
    _gather(grad[b, i], own, seen)
    if symmetric:
        for j in range(len(own)):
            if own[j] != i:
                seen[j] += grad[b, own[j], i]


@loops
def _weigh(value, seen, field, b, i, own, sums):
    """Add one derivative of the entries of a block, times the gradient in them."""
    by_covariance, by_variance1, by_variance2, by_weight, by_bias = sums
    total = seen.dtype.type(0)
    for j in range(len(own)):
        value[j] *= seen[j]
        total += value[j]
    if field == 0:
        by_variance1[b, i] += total
    elif field == 1:
        for j in range(len(own)):
            by_variance2[b, own[j]] += value[j]
    elif field == 2:
        for j in range(len(own)):
            by_covariance[b, i, own[j]] = value[j]
    elif field == 3:
        by_weight[b] += total
    else:
        by_bias[b] += total


@loops
def _blocks(tables, covariance, out, grad, sums, symmetric, start, stop):
    """Go through blocks of rows: fill ``out``, or add to ``sums``; None stands for the others.

    What an argument that is None would need is not compiled.
    """
    coefficients, lengths, rows, columns = tables
    order1, cell, root1, left = rows
    order2, starts, root2, right = columns
    n, fields = covariance.shape[1], coefficients.shape[3]
    series = np.empty((4, fields, *coefficients.shape[5:]), covariance.dtype)
    buffers = np.ones((9, _BLOCK), covariance.dtype)
    row = start
    while row < stop:
        b, place = row // n, row % n
        table, one = b if len(coefficients) > 1 else 0, cell[b, place]
        count = _rows_together(cell[b], place, min(stop - row, n - place))
        row += count
        for two in range(coefficients.shape[2]):
            first, last = starts[b, two], starts[b, two + 1]
            if symmetric:
                first = max(first, place)
            if first >= last:
                continue
            length = lengths[table, one, two]
            _contract(coefficients[table, one, two], length, left[b], place, count, series)
            for r in range(count):
                i = order1[b, place + r]
                for begin in range(max(first, place + r) if symmetric else first, last, _BLOCK):
                    size = min(_BLOCK, last - begin)
                    full = (size + LANES - 1) // LANES * LANES
                    own = order2[b, begin : begin + size]
                    gathered, x, seen = buffers[0, :full], buffers[1, :full], buffers[8, :size]
                    value, spare = buffers[2, :full], buffers[3, :full]
                    t0, t1 = buffers[4, :full], buffers[5, :full]
                    terms = t0, t1, buffers[6, :full], buffers[7, :full]
                    _gather(covariance[b, i], own, gathered)
                    _places(gathered, root1[b, place + r], root2[b, begin : begin + full], x)
                    if grad is not None:
                        _see(grad, b, i, own, symmetric, seen)
                    for field in range(fields):
                        _series(series[r, field], length, right[b], begin, x, value, spare, terms)
                        if out is not None:
                            _store(value, b, i, own, symmetric, out)
                        if sums is not None:
                            _weigh(value, seen, field, b, i, own, sums)


@entry
def matrix(tables, covariance, out, symmetric, start, stop):
    """Fill ``out``, ``b x n x m``, from a grid with one field.

    With ``symmetric``, the two sets of points are the same, and a row also fills its column.
    """
    _blocks(tables, covariance, out, None, None, symmetric, start, stop)


@entry
def matrix_gradient(tables, covariance, grad, symmetric, sums, start, stop):
    """Apply the chain rule to ``grad``, the gradient in the covariance, with its five derivatives.

    ``sums`` are the gradients in the covariance, ``b x n x m``, and in both variances, ``b x n``
    and ``b x m``, the weight and the bias, ``b``: zeros, to which this adds. With ``symmetric``,
    the two sets of points are the same, and a pair's derivatives serve both its entries: the
    gradient in one of them is the sum, and that in the other 0.
    """
    _blocks(tables, covariance, None, grad, sums, symmetric, start, stop)


@entry
def nodes(coefficients, lengths, cell1, cell2, left, right, root1, root2, covariance, out):
    """Fill ``out``, ``fields x p x i x j x k``, at all combinations of variances and angles.

    ``left`` is ``p x i x ...``, ``right`` is ``p x j x ...``, ``covariance`` is ``p x i x j x k``,
    and ``coefficients`` and ``lengths`` have no batch.
    """
    fields, count = out.shape[0], covariance.shape[3]
    rows = np.empty((4, fields, *coefficients.shape[4:]), out.dtype)
    buffers = np.empty((4, count), out.dtype)
    x, value, spare, roots = buffers[0], buffers[1], buffers[2], buffers[3]
    for p in range(covariance.shape[0]):
        for i in range(covariance.shape[1]):
            known = -1
            for j in range(covariance.shape[2]):
                length = lengths[cell1[p, i], cell2[p, j]]
                if cell2[p, j] != known:
                    known = cell2[p, j]
                    _contract(coefficients[cell1[p, i], known], length, left[p], i, 1, rows)
                roots[:] = root2[p, j]
                _places(covariance[p, i, j], root1[p, i], roots, x)
                for f in range(fields):
                    value[:] = 0
                    spare[:] = 0
                    for k in range(length - 1, -1, -1):
                        c = out.dtype.type(0)
                        for a in range(rows.shape[3]):
                            c += rows[0, f, k, a] * right[p, j, a]
                        if k > 0:
                            for a in range(count):
                                spare[a] = (x[a] + x[a]) * value[a] + (c - spare[a])
                            for a in range(count):
                                value[a], spare[a] = spare[a], value[a]
                        else:
                            for a in range(count):
                                out[f, p, i, j, a] = x[a] * value[a] + (c - spare[a])
