r"""The covariance of ``covariance.py`` and its gradient as compiled loops over cache-sized blocks.

Needs numba. The arithmetic of the flow is that of ``table.py``, operation by operation, and nothing
here may be reassociated or contracted, so that both give the same bits (where torch rounds square
roots correctly). Only the inner products differ from a library's matrix product: their order is
fixed, so that a block of a matrix has the bits of the same block computed alone, and k(x, x) is
symmetric to the bit.

Arrays are C-contiguous, of one floating dtype: ``u`` is ``b x n x d``, ``v`` is ``b x d x m``
(transposed), with d a multiple of GROUP; scales are ``b x n`` and ``b x m``. Rows of all batch
elements are counted through, and each call does those from ``start`` to ``stop``, without the GIL.
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
    """1 - <u, v_j> for columns of v, from the difference of the vectors where that is small.

    May exceed 2 by rounding; ``_table_variable`` mends that.
    """
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
def covariance(
    u,
    v,
    scale_u,
    scale_v,
    near,
    kappa,
    coefficients,
    power_basis,
    plain,
    out,
    symmetric,
    start,
    stop,
):
    """out = scale_u scale_v c_T, ``b x n x m``; ``plain`` tables hold the map itself.

    With ``symmetric``, the two sets of points are the same, and a row also fills its column: blocks
    below the diagonal are not computed. (Where a block crosses it, two threads may write an entry,
    with the same bits.)
    """
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
            table = b if len(kappa) > 1 else 0
            _gaps(u[b, i], v[b], first, last, near, gap)
            _table_variable(gap, kappa[table], x)
            _polynomial(coefficients[table], power_basis[table], x, ratio, spare)
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
def _chain(source, scale, scales, value, slope, speed, target, sums, x, spare):
    """Apply the chain rule in one row to ``source``, the gradient in scale scales value.

    Writes the gradient in the inner products to ``target``, adds that in ``scales`` to ``sums``,
    and returns those in ``scale`` and in the time.
    """
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
def _spread(
    row,
    start,
    stop,
    begin,
    last,
    symmetric,
    scale_u,
    scale_v,
    value,
    slope,
    speed,
    grad,
    weight,
    grad_scale_u,
    grad_scale_v,
    grad_time,
    x,
    spare,
    turned,
):
    """Apply the chain rule in the columns from ``begin`` to ``last`` of a row.

    With ``symmetric``, also to the mirrored entries below the diagonal, which pass through
    ``turned``, ``2 x _MIRROR x _BLOCK``, a transposed group of columns.
    """
    n = grad.shape[1]
    b, i = row // n, row % n
    total, speeds = _chain(
        grad[b, i, begin:last],
        scale_u[b, i],
        scale_v[b, begin:last],
        value,
        slope,
        speed,
        weight[b, i, begin:last],
        grad_scale_v[b, begin:last],
        x,
        spare,
    )
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
    total, speeds = _chain(
        turned[0, i - group, below - first : last - first],
        scale_v[b, i],
        scale_u[b, below:last],
        value[skip:],
        slope[skip:],
        speed[skip:],
        turned[1, i - group, below - first : last - first],
        grad_scale_u[b, below:last],
        x,
        spare,
    )
    grad_scale_v[b, i] += total
    grad_time[b] += speeds
    if _is_last_of_group(row, n, stop):
        for j in range(max(first, group + 1), last):
            for k in range(group, min(i + 1, j)):
                weight[b, j, k] = turned[1, k - group, j - first]


@njit(nogil=True, cache=True, error_model="numpy")
def gradient(
    u,
    v,
    scale_u,
    scale_v,
    near,
    kappa,
    coefficients,
    power_basis,
    phi,
    largest,
    decrease,
    grad,
    weight,
    grad_scale_u,
    grad_scale_v,
    grad_horizon,
    symmetric,
    start,
    stop,
):
    """Apply the chain rule to ``grad``, the gradient of a scalar in the covariance, ``b x n x m``.

    Writes ``weight``, the gradient in the inner products <u_i, v_j> (same shape), and adds to
    ``grad_scale_u``, ``b x n``, ``grad_scale_v``, ``b x m``, and ``grad_horizon``, ``b``. The map
    is 1 - (1 - c_T) / largest, where ``largest`` decreases with T at the rate ``decrease``.

    With ``symmetric``, the two sets of points are the same: a row's slopes serve its column, too.
    """
    n, m = grad.shape[1], grad.shape[2]
    one, two = grad.dtype.type(1), grad.dtype.type(2)
    buffers = np.empty((7, _BLOCK), grad.dtype)
    turned = np.empty((2, _MIRROR, _BLOCK), grad.dtype)
    for first in range(0, m, _BLOCK):
        last = min(first + _BLOCK, m)
        for row in range(start, stop):
            b, i = row // n, row % n
            if symmetric and last <= i:
                continue
            begin = max(first, i) if symmetric else first
            gap, x = buffers[0, : last - begin], buffers[1, : last - begin]
            ratio, spare = buffers[2, : last - begin], buffers[3, : last - begin]
            gap_end = buffers[4, : last - begin]
            phi_start, phi_end = buffers[5, : last - begin], buffers[6, : last - begin]
            table = b if len(kappa) > 1 else 0
            _gaps(u[b, i], v[b], begin, last, near, gap)
            _table_variable(gap, kappa[table], x)
            _polynomial(coefficients[table], power_basis[table], x, ratio, spare)
            for j in range(len(gap)):
                gap_end[j] = gap[j] * ratio[j] * ratio[j]
            _half_tangent_variable(gap, x)
            _polynomial(phi, True, x, phi_start, spare)
            _half_tangent_variable(gap_end, x)
            _polynomial(phi, True, x, phi_end, spare)
            inverse = one / largest[table]
            for j in range(len(gap)):
                cube = ratio[j] * ratio[j] * ratio[j] * phi_end[j] * inverse
                half, relative = gap[j] / two, gap_end[j] * inverse
                phi_start[j] = cube / phi_start[j]
                phi_end[j] = half * math.sqrt(half) * cube - relative * decrease[table] * inverse
                ratio[j] = one - relative
            _spread(
                row,
                start,
                stop,
                begin,
                last,
                symmetric,
                scale_u,
                scale_v,
                ratio,
                phi_start,
                phi_end,
                grad,
                weight,
                grad_scale_u,
                grad_scale_v,
                grad_horizon,
                x,
                spare,
                turned,
            )


@njit(nogil=True, cache=True, error_model="numpy")
def depth_gradient(
    u,
    v,
    scale_u,
    scale_v,
    near,
    kappa,
    coefficients,
    power_basis,
    tangent,
    grad,
    weight,
    grad_scale_u,
    grad_scale_v,
    grad_time,
    symmetric,
    start,
    stop,
):
    """``gradient`` for a ``DepthTable``: its three polynomials are ``b x 3 x ...``."""
    n, m = grad.shape[1], grad.shape[2]
    zero, one, two = grad.dtype.type(0), grad.dtype.type(1), grad.dtype.type(2)
    buffers = np.empty((6, _BLOCK), grad.dtype)
    turned = np.empty((2, _MIRROR, _BLOCK), grad.dtype)
    for first in range(0, m, _BLOCK):
        last = min(first + _BLOCK, m)
        for row in range(start, stop):
            b, i = row // n, row % n
            if symmetric and last <= i:
                continue
            begin = max(first, i) if symmetric else first
            gap, x = buffers[0, : last - begin], buffers[1, : last - begin]
            value, slope = buffers[2, : last - begin], buffers[3, : last - begin]
            speed, spare = buffers[4, : last - begin], buffers[5, : last - begin]
            table = b if len(kappa) > 1 else 0
            _gaps(u[b, i], v[b], begin, last, near, gap)
            _table_variable(gap, kappa[table], x)
            _polynomial(coefficients[table, 0], power_basis[table, 0], x, value, spare)
            _polynomial(coefficients[table, 1], power_basis[table, 1], x, slope, spare)
            _polynomial(coefficients[table, 2], power_basis[table, 2], x, speed, spare)
            if tangent:
                for j in range(len(gap)):
                    sine = math.sqrt(gap[j] * (two - gap[j]))
                    slope[j] = slope[j] / sine if sine > zero else zero
            else:
                for j in range(len(gap)):
                    value[j] = one - gap[j] * value[j] * value[j]
                    speed[j] = gap[j] * math.sqrt(gap[j]) * speed[j]
            _spread(
                row,
                start,
                stop,
                begin,
                last,
                symmetric,
                scale_u,
                scale_v,
                value,
                slope,
                speed,
                grad,
                weight,
                grad_scale_u,
                grad_scale_v,
                grad_time,
                x,
                spare,
                turned,
            )
