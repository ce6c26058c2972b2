"""The evaluation of ``cells.TableGrid`` as loops compiled by numba, over cache-sized blocks.

Arrays are C-contiguous; b is a batch of networks and inputs. Rows of all batch elements are counted
through; each call does those from ``start`` to ``stop``. ``tables`` is a tuple of

``coefficients``     ``(b or 1) x cells1 x cells2 x fields x k x i x j`` with j a multiple of 4
``lengths``          the number of k, ``(b or 1) x cells1 x cells2``
``cell``             the row's cell, ``b x n``
``left``, ``right``  Chebyshev polynomials of the variances, ``b x n x i`` and ``b x j x m``
``root1``, ``root2`` square roots of the variances
``order``            the columns sorted by cell, as those of ``right`` are, ``b x m``
``starts``           where each cell begins there, ``b x (cells2 + 1)``
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_BLOCK = 256  # columns at a time: with their basis they stay in the first-level cache


@njit(nogil=True, cache=True, error_model="numpy")
def _places(covariance, root1, root2, x):
    """2 tan(theta / 4) - 1 of q_ab = sqrt(q_aa q_bb) cos(theta)."""
    zero, one, two = x.dtype.type(0), x.dtype.type(1), x.dtype.type(2)
    root_two = x.dtype.type(math.sqrt(2))
    for j in range(len(x)):
        gap = one - covariance[j] / (root1 * root2[j])
        gap = zero if gap < zero else gap
        gap = two if gap > two else gap
        x[j] = two * math.sqrt(gap) / (math.sqrt(two - gap) + root_two) - one


@njit(nogil=True, cache=True, error_model="numpy")
def _contract(coefficients, length, left, rows):
    """sum_i C_kij T_i: ``rows``, ``fields x k x j``."""
    for f in range(coefficients.shape[0]):
        for k in range(length):
            target = rows[f, k]
            target[:] = 0
            for i in range(coefficients.shape[2]):
                source, factor = coefficients[f, k, i], left[i]
                for j in range(len(target)):
                    target[j] += factor * source[j]


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _series(rows, length, right, begin, x, value, previous, term):
    """sum_k T_k(x) sum_j rows_kj right_j in ``value``, by Clenshaw's rule."""
    end = begin + len(x)
    value[:] = 0
    previous[:] = 0
    for k in range(length - 1, -1, -1):
        row = rows[k]
        term[:] = 0
        for i in range(0, len(row), 4):
            c0, c1, c2, c3 = row[i], row[i + 1], row[i + 2], row[i + 3]
            r0, r1 = right[i, begin:end], right[i + 1, begin:end]
            r2, r3 = right[i + 2, begin:end], right[i + 3, begin:end]
            for j in range(len(x)):
                term[j] += c0 * r0[j] + c1 * r1[j] + c2 * r2[j] + c3 * r3[j]
        if k == 0:
            for j in range(len(x)):
                value[j] = x[j] * value[j] + (term[j] - previous[j])
        else:
            for j in range(len(x)):
                following = (x[j] + x[j]) * value[j] + (term[j] - previous[j])
                previous[j] = value[j]
                value[j] = following


@njit(nogil=True, cache=True, error_model="numpy")
def matrix(tables, covariance, out, symmetric, start, stop):
    """Fill ``out``, ``b x n x m``, from a grid with one field.

    With ``symmetric``, the two sets of points are the same, and a row also fills its column.
    """
    coefficients, lengths, cell, left, root1, right, root2, order, starts = tables
    n = out.shape[1]
    rows = np.empty(coefficients.shape[3:5] + coefficients.shape[6:], out.dtype)
    buffers = np.empty((5, _BLOCK), out.dtype)
    for row in range(start, stop):
        b, i = row // n, row % n
        table = b if len(coefficients) > 1 else 0
        for two in range(coefficients.shape[2]):
            first, last = starts[b, two], starts[b, two + 1]
            if symmetric:
                while first < last and order[b, first] < i:
                    first += 1
            if first == last:
                continue
            length = lengths[table, cell[b, i], two]
            _contract(coefficients[table, cell[b, i], two], length, left[b, i], rows)
            for begin in range(first, last, _BLOCK):
                size = min(_BLOCK, last - begin)
                own = order[b, begin : begin + size]
                gathered, x = buffers[0, :size], buffers[1, :size]
                value, spare, term = buffers[2, :size], buffers[3, :size], buffers[4, :size]
                for j in range(size):
                    gathered[j] = covariance[b, i, own[j]]
                _places(gathered, root1[b, i], root2[b, begin : begin + size], x)
                _series(rows[0], length, right[b], begin, x, value, spare, term)
                for j in range(size):
                    out[b, i, own[j]] = value[j]
                if symmetric:
                    for j in range(size):
                        out[b, own[j], i] = value[j]


@njit(nogil=True, cache=True, error_model="numpy")
def matrix_gradient(tables, covariance, grad, sums, start, stop):
    """Apply the chain rule to ``grad``, the gradient in the covariance, with its five derivatives.

    ``sums`` are the gradients in the covariance, ``b x n x m``, which is written, and in both
    variances, ``b x n`` and ``b x m``, the weight and the bias, ``b``, to which it adds.
    """
    coefficients, lengths, cell, left, root1, right, root2, order, starts = tables
    by_covariance, by_variance1, by_variance2, by_weight, by_bias = sums
    n = grad.shape[1]
    rows = np.empty(coefficients.shape[3:5] + coefficients.shape[6:], grad.dtype)
    buffers = np.empty((6, _BLOCK), grad.dtype)
    for row in range(start, stop):
        b, i = row // n, row % n
        table = b if len(coefficients) > 1 else 0
        for two in range(coefficients.shape[2]):
            first, last = starts[b, two], starts[b, two + 1]
            if first == last:
                continue
            length = lengths[table, cell[b, i], two]
            _contract(coefficients[table, cell[b, i], two], length, left[b, i], rows)
            for begin in range(first, last, _BLOCK):
                size = min(_BLOCK, last - begin)
                own = order[b, begin : begin + size]
                gathered, x, seen = buffers[0, :size], buffers[1, :size], buffers[5, :size]
                value, spare, term = buffers[2, :size], buffers[3, :size], buffers[4, :size]
                for j in range(size):
                    gathered[j] = covariance[b, i, own[j]]
                    seen[j] = grad[b, i, own[j]]
                _places(gathered, root1[b, i], root2[b, begin : begin + size], x)
                for field in range(5):
                    _series(rows[field], length, right[b], begin, x, value, spare, term)
                    total = grad.dtype.type(0)
                    for j in range(size):
                        value[j] *= seen[j]
                        total += value[j]
                    if field == 0:
                        by_variance1[b, i] += total
                    elif field == 1:
                        for j in range(size):
                            by_variance2[b, own[j]] += value[j]
                    elif field == 2:
                        for j in range(size):
                            by_covariance[b, i, own[j]] = value[j]
                    elif field == 3:
                        by_weight[b] += total
                    else:
                        by_bias[b] += total


@njit(nogil=True, cache=True, error_model="numpy")
def nodes(coefficients, lengths, cell1, cell2, left, right, root1, root2, covariance, out):
    """Fill ``out``, ``fields x p x i x j x k``, at all combinations of variances and angles.

    ``left`` is ``p x i x ...``, ``right`` is ``p x j x ...``, ``covariance`` is ``p x i x j x k``,
    and ``coefficients`` and ``lengths`` have no batch.
    """
    fields, count = out.shape[0], covariance.shape[3]
    rows = np.empty(coefficients.shape[2:4] + coefficients.shape[5:], out.dtype)
    buffers = np.empty((4, count), out.dtype)
    x, value, spare, roots = buffers[0], buffers[1], buffers[2], buffers[3]
    for p in range(covariance.shape[0]):
        for i in range(covariance.shape[1]):
            known = -1
            for j in range(covariance.shape[2]):
                length = lengths[cell1[p, i], cell2[p, j]]
                if cell2[p, j] != known:
                    known = cell2[p, j]
                    _contract(coefficients[cell1[p, i], known], length, left[p, i], rows)
                roots[:] = root2[p, j]
                _places(covariance[p, i, j], root1[p, i], roots, x)
                for f in range(fields):
                    value[:] = 0
                    spare[:] = 0
                    for k in range(length - 1, -1, -1):
                        c = out.dtype.type(0)
                        for a in range(rows.shape[2]):
                            c += rows[f, k, a] * right[p, j, a]
                        if k > 0:
                            for a in range(count):
                                spare[a] = (x[a] + x[a]) * value[a] + (c - spare[a])
                            for a in range(count):
                                value[a], spare[a] = spare[a], value[a]
                        else:
                            for a in range(count):
                                out[f, p, i, j, a] = x[a] * value[a] + (c - spare[a])
