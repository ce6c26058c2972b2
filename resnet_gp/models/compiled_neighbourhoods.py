r"""Laws of targets given their neighbours, in numba: one loop over the rows, each by itself.

A row of ``index``, ``b x m``, lists the members of a neighbourhood from the farthest to the nearest
and, last, the row whose target is predicted. With L L' the covariance of the members' targets and
z = L^{-1} y, each z_j is the standardised error of a target given all members before it, so that
the last one is that of the prediction, with mean y - L_mm z_m and deviation L_mm.

Arrays are C-contiguous, in tuples:

``points``    unit vectors, ``c x n x d`` with d a multiple of GROUP, their scales, ``c x n``, and
              the gap below which it is computed from differences: as in ``flow/compiled.py``
``table``     as there, without a batch
``targets``   y, ``n x p``, and the noise variance of each, ``n``
"""

from __future__ import annotations

import math

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
from resnet_gp.flow.vectors import multiply_add, wide_vectors

_BLOCK = 512  # pairs at a time: a dozen buffers of this length stay in the first-level cache
_LEAST_NOISE = 1e-37  # as in ``neighbourhoods``


@sums
def _factorise(a):
    """Cholesky factor of a lower triangle, in place, four rows at a time; False if there is none.

    For the sizes of neighbourhoods it takes half the time of LAPACK, and allocates nothing.
    """
    zero, one = a.dtype.type(0), a.dtype.type(1)
    for first in range(0, len(a), 4):
        last = min(first + 4, len(a))
        done = 0
        if last == first + 4:
            done = first
            p0, p1, p2, p3 = a[first], a[first + 1], a[first + 2], a[first + 3]
            for j in range(0, first, 2):  # ``first`` is even
                q0, q1 = a[j], a[j + 1]
                s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = zero
                for k in range(j):
                    x, y = q0[k], q1[k]
                    s00 += p0[k] * x
                    s01 += p0[k] * y
                    s10 += p1[k] * x
                    s11 += p1[k] * y
                    s20 += p2[k] * x
                    s21 += p2[k] * y
                    s30 += p3[k] * x
                    s31 += p3[k] * y
                d0, below, d1 = one / q0[j], q1[j], one / q1[j + 1]
                p0[j] = (p0[j] - s00) * d0
                p1[j] = (p1[j] - s10) * d0
                p2[j] = (p2[j] - s20) * d0
                p3[j] = (p3[j] - s30) * d0
                p0[j + 1] = (p0[j + 1] - s01 - below * p0[j]) * d1
                p1[j + 1] = (p1[j + 1] - s11 - below * p1[j]) * d1
                p2[j + 1] = (p2[j + 1] - s21 - below * p2[j]) * d1
                p3[j + 1] = (p3[j + 1] - s31 - below * p3[j]) * d1
        for i in range(first, last):
            for j in range(done, i + 1):
                total = zero
                for k in range(j):
                    total += a[i, k] * a[j, k]
                if j < i:
                    a[i, j] = (a[i, j] - total) / a[j, j]
                elif a[i, i] - total > zero:
                    a[i, i] = math.sqrt(a[i, i] - total)
                else:
                    return False
    return True


@loops
def _gather(points, targets, members, own, rows):
    """Copy the points of a neighbourhood, their transpose and scales, the targets and noises."""
    units, scales, _ = points
    u, v, scale = own
    (y, noise), (values, noises) = targets, rows
    for i in range(len(members)):
        values[i] = y[members[i]]
        noises[i] = noise[members[i]]
    for c in range(len(units)):
        for i in range(len(members)):
            scale[c, i] = scales[c, members[i]]
            for k in range(units.shape[2]):
                value = units[c, members[i], k]
                u[c, i, k] = value
                v[c, k, i] = value


@loops
def _scaled(factor, values, products):
    wide_vectors()
    for j in range(len(values)):
        products[j] = factor * values[j]


@loops
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


@loops
def _gaps(u, v, first, last, near, gap):
    """1 - <u, v_j>, from the difference where small; ``table_variable`` clips it at 2."""
    zero, one, two = gap.dtype.type(0), gap.dtype.type(1), gap.dtype.type(2)
    gap[:] = one
    _subtract_products(u, v, first, last, gap)
    left = count_below(gap, near)  # anything where gaps are not numbers
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


@loops
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


@loops
def _fill(own, near, table, plain, noises, floor, pairs, buffers, a):
    """The lower triangle of the covariance of a neighbourhood's targets.

    The noise is more than ``floor`` times the variance of f: neighbours may coincide. ``noises``
    below that are set to 0. ``pairs`` are filled with the gap of each pair, its variable of the
    table, and the product of its scales, ``c x (m (m + 1) / 2)``, row by row of the triangle.
    """
    u, v, scale = own
    kappa, coefficients, power_basis = table
    gaps, variables, products = pairs
    m, one = len(a), a.dtype.type(1)
    for c in range(len(u)):
        first = 0
        for i in range(m):
            _gaps(u[c, i], v[c], 0, i, near, gaps[c, first : first + i])
            gaps[c, first + i] = 0
            _scaled(scale[c, i], scale[c, : i + 1], products[c, first : first + i + 1])
            first += i + 1
        for first in range(0, gaps.shape[1], _BLOCK):
            last = min(first + _BLOCK, gaps.shape[1])
            gap, x, product = gaps[c, first:last], variables[c, first:last], products[c, first:last]
            ratio, spare = buffers[0, : len(gap)], buffers[1, : len(gap)]
            table_variable(gap, kappa[c], x)
            polynomial(coefficients[c], power_basis[c], x, ratio, spare)
            total = buffers[2, first:last]
            if c == 0:
                total[:] = 0
            _add_component(one, product, gap, ratio, plain, total)
    first = 0
    for i in range(m):
        a[i, : i + 1] = buffers[2, first : first + i + 1]
        first += i + 1
        least = floor * a[i, i] + _LEAST_NOISE
        if noises[i] < least:
            noises[i] = 0
            a[i, i] += least
        else:
            a[i, i] += noises[i]


@sums
def _whiten(a, y, z):
    """z = L^{-1} y, ``m x p``."""
    for q in range(y.shape[1]):
        for i in range(len(a)):
            total = y[i, q]
            for j in range(i):
                total -= a[i, j] * z[q, j]
            z[q, i] = total / a[i, i]


@sums
def _unwhiten(a, size, z, out):
    """out = L^{-T} z for the leading block of this size, 0 below."""
    zero = a.dtype.type(0)
    out[:size] = z[:size]
    out[size:] = zero
    for i in range(size - 1, -1, -1):
        out[i] /= a[i, i]
        factor = out[i]
        for j in range(i):
            out[j] -= factor * a[i, j]


@loops
def _workspace(units, m, p):
    """Arrays for one neighbourhood at a time, as the other functions take them."""
    components, d, entries = len(units), units.shape[2], m * (m + 1) // 2
    dtype = units.dtype
    u, v = np.empty((components, m, d), dtype), np.empty((components, d, m), dtype)
    own = u, v, np.empty((components, m), dtype)
    shape = components, entries
    pairs = np.empty(shape, dtype), np.empty(shape, dtype), np.empty(shape, dtype)
    rows = np.empty((m, p), dtype), np.empty(m, dtype)
    return own, pairs, rows, np.empty((3, max(entries, _BLOCK)), dtype), np.zeros((m, m), dtype)


@entry
def laws(points, table, plain, targets, floor, index, out, start, stop):
    """Fill ``out``: deviations L_mm, ``b``, and z, ``b x p x m``; NaN where a factor fails.

    The last target of a neighbourhood is used for the last z alone: with 0 there, the mean of the
    prediction is -L_mm z_m.
    """
    deviations, whitened = out
    m, p = index.shape[1], targets[0].shape[1]
    own, pairs, (values, noises), buffers, a = _workspace(points[0], m, p)
    for row in range(start, stop):
        members = index[row]
        _gather(points, targets, members, own, (values, noises))
        _fill(own, points[2], table, plain, noises, floor, pairs, buffers, a)
        if _factorise(a):
            _whiten(a, values, whitened[row])
            deviations[row] = a[m - 1, m - 1]
        else:
            whitened[row] = np.nan
            deviations[row] = np.nan


@sums
def _in_covariance(a, z, vectors, out):
    """Fill ``out`` with the gradient of -log s - z_m^2 / 2, row by row of the lower triangle.

    Entries off the diagonal count twice. With w = L^{-T} e_m and alpha the weights of the
    neighbours, the gradients are

        log s       w w' / 2
        z_m^2 / 2   -z_m (alpha w' + w alpha') / 2 - z_m^2 w w' / 2
    """
    m, p, one, half = len(a), len(z), a.dtype.type(1), a.dtype.type(0.5)
    w, alpha, unit = vectors[0], vectors[1], vectors[2]
    unit[:] = 0
    unit[m - 1] = one
    _unwhiten(a, m, unit, w)
    out[:] = 0
    for q in range(p):
        error = z[q, m - 1]
        _unwhiten(a, m - 1, z[q], alpha)
        first = 0
        for i in range(m):
            of_w, of_alpha = (error * error - one) * w[i] + error * alpha[i], error * w[i]
            for j in range(i + 1):
                out[first + j] += of_w * w[j] + of_alpha * alpha[j]
            first += i + 1
    for i in range(m):
        out[i * (i + 3) // 2] *= half


@sums
def _to_points(u, scale, weights, values, by_u, by_scale):
    """Add the gradients in a neighbourhood's points, from those in its pairs.

    ``weights`` are the gradients in the inner products, ``values`` times both scales those of the
    covariances; both row by row of the triangle.
    """
    first = 0
    for i in range(len(u)):
        total = scale[i] * 0
        for j in range(i + 1):
            total += values[first + j] * scale[j]
            by_scale[j] += values[first + j] * scale[i]
        by_scale[i] += total
        for j in range(i):
            weight = weights[first + j]
            for k in range(u.shape[1]):
                by_u[i, k] += weight * u[j, k]
                by_u[j, k] += weight * u[i, k]
        first += i + 1


@sums
def _to_pairs(slopes, product, maps, weights, values):
    """Gradients in inner products and, over both scales, in covariances; returns that in time."""
    value, slope, speed = maps
    total = slopes.dtype.type(0)
    for j in range(len(slopes)):
        seen = slopes[j] * product[j]
        total += seen * speed[j]
        weights[j] = seen * slope[j]
        values[j] = slopes[j] * value[j]
    return total


@sums
def _of_means(a, z, weights, vectors, out):
    """Fill ``out`` with the gradient of a weighted sum of the means y - s z_m, as above.

    The gradient of s z_m is -s (alpha w' + w alpha') / 2.
    """
    m, p, one, half = len(a), len(z), a.dtype.type(1), a.dtype.type(0.5)
    w, alpha, total = vectors[0], vectors[1], vectors[2]
    total[:] = 0
    for q in range(p):  # of weighted z, whose solution is the weighted alpha
        for i in range(m - 1):
            total[i] += weights[q] * z[q, i]
    _unwhiten(a, m - 1, total, alpha)
    total[:] = 0
    total[m - 1] = one
    _unwhiten(a, m, total, w)
    s = a[m - 1, m - 1]
    first = 0
    for i in range(m):
        of_w, of_alpha = s * alpha[i], s * w[i]
        for j in range(i + 1):
            out[first + j] = of_w * w[j] + of_alpha * alpha[j]
        first += i + 1
    for i in range(m):
        out[i * (i + 3) // 2] *= half


@loops
def _spread(own, noises, tables, limit, plain, pairs, members, slopes, spares, sums):
    """Add to ``sums`` the gradients that follow from ``slopes``, those in a covariance."""
    u, _, scale = own
    _, coefficients, power_basis = tables
    gaps, variables, products = pairs
    weights, scaled, own_u, own_scale, spare = spares
    by_unit, by_scale, by_time, by_noise, _ = sums
    m, entries = len(members), gaps.shape[1]
    for i in range(m):
        if noises[i] > 0:  # not the floor
            by_noise[members[i]] += slopes[i * (i + 3) // 2]
    own_u[:] = 0
    own_scale[:] = 0
    for c in range(len(u)):
        for first in range(0, entries, _BLOCK):
            last = min(first + _BLOCK, entries)
            gap, size = gaps[c, first:last], last - first
            maps = spare[0, :size], spare[1, :size], spare[2, :size]
            x, rest = variables[c, first:last], spare[3, :size]
            polynomials((coefficients[c], power_basis[c]), x, maps, rest)
            if limit is None:
                depth_maps(gap, plain, maps)
            else:
                limit_maps(gap, limit[0][c], limit[1][c], maps)
            by_time[c] += _to_pairs(
                slopes[first:last], products[c, first:last], maps, weights[first:last],
                scaled[first:last],
            )  # fmt: skip
        _to_points(u[c], scale[c], weights, scaled, own_u[c], own_scale[c])
        for i in range(m):
            by_scale[c, members[i]] += own_scale[c, i]
            for k in range(u.shape[2]):
                by_unit[c, members[i], k] += own_u[c, i, k]


@entry
def densities(points, tables, limit, plain, targets, floor, index, weights, sums, start, stop):
    """Sum of -log s - z_m^2 / 2 over neighbourhoods, and its gradient.

    With ``weights``, ``b x p`` where it is not empty, the gradient is that of the sum of these
    times the means y - s z_m.

    ``tables`` are one of the map and one of its three maps, ``limit`` is as in
    ``flow.compiled.gradient``. ``sums`` are the gradients in the unit vectors, ``c x n x d``, their
    scales, ``c x n``, the times, ``c``, and the noises, ``n``, then the value and the number of
    neighbourhoods whose factor failed; they are added to.
    """
    table, of_maps = tables
    totals = sums[4]
    m, p = index.shape[1], targets[0].shape[1]
    own, pairs, (values, noises), buffers, a = _workspace(points[0], m, p)
    u, _, scale = own
    dtype, entries = u.dtype, pairs[0].shape[1]
    vectors, z, slopes = np.empty((3, m), dtype), np.empty((p, m), dtype), np.empty(entries, dtype)
    spares = (
        np.empty(entries, dtype), buffers[2], np.empty_like(u), np.empty_like(scale),
        np.empty((4, _BLOCK), dtype),
    )  # fmt: skip
    for row in range(start, stop):
        members = index[row]
        _gather(points, targets, members, own, (values, noises))
        _fill(own, points[2], table, plain, noises, floor, pairs, buffers, a)
        if not _factorise(a):
            totals[1] += 1
            continue
        _whiten(a, values, z)
        for q in range(p):
            totals[0] -= math.log(a[m - 1, m - 1]) + z[q, m - 1] * z[q, m - 1] / 2
        if len(weights) > 0:
            _of_means(a, z, weights[row], vectors, slopes)
        else:
            _in_covariance(a, z, vectors, slopes)
        _spread(own, noises, of_maps, limit, plain, pairs, members, slopes, spares, sums)
