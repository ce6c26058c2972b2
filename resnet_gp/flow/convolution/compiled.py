r"""The convolutional flow as loops compiled by numba: one row's image with eight columns' images.

A field has one number for each pixel of some rectangles and each of ``LANES`` column images, a
tile, those of a pixel together: all arithmetic runs over contiguous numbers, whatever the size of
the images, and no entry of a matrix depends on the others. A state is the field of covariances, and
those of their derivatives in some parameters. Arrays are C-contiguous, in tuples:

``steps``     see ``network.Steps``
``network``   radius of the filters, whether they wrap around, (1 + alpha^2) / 2, (1 - alpha)^2, w,
              the variance of the input's bias, that of the blocks' and its derivatives, series of F
              and of the angle (tuples, for loops to keep in registers), parameters
``pair``      the path of the row's image: at each stage and pixel, sqrt(q_aa), its inverse (0 for
              0), and the derivatives of its logarithm, ``stages x parameters x pixels``; that of
              the tile, with LANES numbers for each; the numbers of the field's pixels in either
``workspace`` slopes, ``state x stages x field``; fields; chunks; rows of pixels with their edges
"""

from __future__ import annotations

import math

import numpy as np

from resnet_gp.flow.compiled_maps import entry, loops
from resnet_gp.flow.convolution.network import INPUT_BIAS, W
from resnet_gp.flow.vectors import multiply_add, wide_vectors

LANES = 8
DEGREE = 15  # of the series
_CHUNK = 64  # pixels for which the arithmetic of a stage stays in the first-level cache


@loops
def _series(s, x):
    """A polynomial of degree 15, highest power first, by Estrin's rule."""
    x2 = x * x
    x4 = x2 * x2
    a = multiply_add(multiply_add(s[0], x, s[1]), x2, multiply_add(s[2], x, s[3]))
    b = multiply_add(multiply_add(s[4], x, s[5]), x2, multiply_add(s[6], x, s[7]))
    c = multiply_add(multiply_add(s[8], x, s[9]), x2, multiply_add(s[10], x, s[11]))
    d = multiply_add(multiply_add(s[12], x, s[13]), x2, multiply_add(s[14], x, s[15]))
    return multiply_add(multiply_add(a, x4, b), x4 * x4, multiply_add(c, x4, d))


@loops
def _moments(q, sizes, inverses, linear, kink, series, out):
    """E[phi(u) phi(v)] of covariances q = size cos(theta).

    F(c) = (sin(theta) - theta cos(theta)) / (2 pi) is (1 - c)^(3/2) times a series for c >= 0, and
    F(-c) = F(c) + c / 2.
    """
    wide_vectors()
    for j in range(len(q)):
        c = q[j] * inverses[j]
        gap = max(1.0 - abs(c), 0.0)
        value = _series(series, gap + gap - 1.0)
        speed = multiply_add(gap * math.sqrt(gap), value, max(-c, 0.0) / 2)
        out[j] = multiply_add(linear, q[j], kink * sizes[j] * speed)


@loops
def _slopes(q, sizes, inverses, linear, kink, series, slope, spread):
    """Derivatives of ``_moments`` in q, and in log sqrt(q_aa) or log sqrt(q_bb)."""
    wide_vectors()
    for j in range(len(q)):
        c = q[j] * inverses[j]
        gap = max(1.0 - abs(c), 0.0)
        root = math.sqrt(gap)
        angle = root * _series(series, gap + gap - 1.0)
        angle = math.pi - angle if c < 0.0 else angle
        slope[j] = linear - kink / (2 * math.pi) * angle
        spread[j] = kink / (2 * math.pi) * sizes[j] * root * math.sqrt(2.0 - gap)


@loops
def _combine(state, own, combined, slopes, count, first, last, out):
    """own state + sum_i combined_i slopes_i, over ``count`` slopes, in a chunk."""
    wide_vectors()
    start = state[first:last]
    for j in range(len(out)):
        out[j] = own * start[j]
    for i in range(0, count, 2):
        a, b = combined[i], combined[i + 1] if i + 1 < count else 0.0
        one, two = slopes[i, first:last], slopes[min(i + 1, count - 1), first:last]
        for j in range(len(out)):
            out[j] = multiply_add(b, two[j], multiply_add(a, one[j], out[j]))


@loops
def _filter_rectangle(field, shape, network, factor, constant, rows, out):
    """The sum over each pixel's filter times a factor, plus a constant: columns, then rows."""
    wide_vectors()
    (height, width), radius, circular = shape, network[0], network[1]
    length, edge = width * LANES, radius * LANES
    row, none = rows[0, edge : edge + length], rows[1, :length]
    rows[:] = 0.0
    for y in range(height):
        own = field[y * length : (y + 1) * length]
        for j in range(length):
            row[j] = own[j]
        for shift in range(1, radius + 1):
            up, down = y - shift, y + shift
            if circular:
                up, down = up % height, down % height
            above = field[up * length : (up + 1) * length] if up >= 0 else none
            below = field[down * length : (down + 1) * length] if down < height else none
            for j in range(length):
                row[j] += above[j] + below[j]
        if circular:
            for j in range(edge):
                rows[0, edge + length + j] = row[j % length]
                rows[0, edge - 1 - j] = row[(-1 - j) % length]
        target = out[y * length : (y + 1) * length]
        for j in range(length):
            target[j] = multiply_add(factor, row[j], constant)
        for shift in range(LANES, edge + 1, LANES):
            left = rows[0, edge - shift : edge - shift + length]
            right = rows[0, edge + shift : edge + shift + length]
            for j in range(length):
                target[j] = multiply_add(factor, left[j] + right[j], target[j])


@loops
def _filter(field, shapes, network, constant, rows, out):
    """The mean over each pixel's filter within its rectangle, plus a constant."""
    first, mean = 0, 1.0 / (2 * network[0] + 1.0) ** 2
    for r in range(len(shapes)):
        shape = (shapes[r, 0], shapes[r, 1])
        here = slice(first, first + shape[0] * shape[1] * LANES)
        _filter_rectangle(field[here], shape, network, mean, constant, rows, out[here])
        first = here.stop


@loops
def _products(path, pixels, tile, others, out):
    """The numbers of an image's pixels times those of a tile's."""
    for k in range(len(pixels)):
        own, row = path[pixels[k]], tile[others[k]]
        target = out[k * LANES : (k + 1) * LANES]
        for lane in range(LANES):
            target[lane] = own * row[lane]


@loops
def _start(image, images, shapes, network, pair, workspace, state):
    """q_0: the mean over filters of inner products, plus the input's bias.

    The values of images are divided by the root of their channels, so that sums are means.
    """
    bias, parameters = network[5], network[9]
    _, _, pixels, others = pair
    _, fields, _, rows = workspace
    fields[0] = 0.0
    for k in range(len(pixels)):
        target = fields[0, k * LANES : (k + 1) * LANES]
        for c in range(len(image)):
            own, row = image[c, pixels[k]], images[c, others[k]]
            for lane in range(LANES):
                target[lane] = multiply_add(own, row[lane], target[lane])
    _filter(fields[0], shapes, network, bias, rows, state[0])
    for i in range(len(parameters)):
        state[1 + i] = 1.0 if parameters[i] == INPUT_BIAS else 0.0


@loops
def _rates(stage, first, q, network, pair, chunks, fields):
    """w E[phi phi] in a chunk of pixels from ``first`` on, and its derivatives in parameters."""
    _, _, linear, kink, w, _, _, speeds, angles, parameters = network
    path, tile, pixels, others = pair
    row, other = pixels[first : first + _CHUNK], others[first : first + _CHUNK]
    length, begin = len(row) * LANES, first * LANES
    sizes, inverses = chunks[0, :length], chunks[1, :length]
    slope, spread = chunks[2, :length], chunks[3, :length]
    _products(path[0][stage], row, tile[0][stage], other, sizes)
    _products(path[1][stage], row, tile[1][stage], other, inverses)
    rate = fields[0, begin : begin + length]
    _moments(q[0, :length], sizes, inverses, w * linear, w * kink, speeds, rate)
    if len(parameters) > 0:
        _slopes(q[0, :length], sizes, inverses, linear, kink, angles, slope, spread)
    for i in range(len(parameters)):
        out, own = fields[1 + i, begin : begin + length], q[1 + i, :length]
        logs, others_logs = path[2][stage, i], tile[2][stage, i]
        weight = 1.0 / w if parameters[i] == W else 0.0
        for j in range(length):
            log = logs[row[j // LANES]] + others_logs[other[j // LANES], j % LANES]
            inner = multiply_add(slope[j], own[j], spread[j] * log)
            out[j] = multiply_add(w, inner, weight * rate[j])


@loops
def _flow(state, shapes, steps, network, pair, workspace):
    """Move ``state`` to the end of time."""
    own, combined = steps
    slopes, fields, chunks, rows = workspace
    q, constants, pixels, stages = chunks[4:], network[6], len(pair[2]), combined.shape[2]
    for step in range(len(own)):
        for i in range(stages + 1):
            # The slopes at t = 0, where dt / ds = 0, are in no stage.
            if i < stages and not combined[step, :, i].any():
                slopes[:, i] = 0.0
                continue
            for first in range(0, pixels, _CHUNK):
                begin, end = first * LANES, min(first + _CHUNK, pixels) * LANES
                for k in range(len(state)):
                    out = q[k, : end - begin] if i < stages else state[k, begin:end]
                    row = combined[step, i]
                    _combine(state[k], own[step, i], row, slopes[k], i, begin, end, out)
                if i < stages:
                    _rates(step * stages + i, first, q, network, pair, chunks, fields)
            if i < stages:
                for k in range(len(state)):
                    _filter(fields[k], shapes, network, constants[k], rows, slopes[k, i])


@loops
def _add_planes(state, shapes, weights, sums):
    """Add the weighted sums over a plane's pixels, or over those of pairs of opposites.

    The numbers of a plane and its opposite are added first, so that all is symmetric to the bit.
    """
    first = 0
    for r in range(0, len(shapes), 2):
        size, paired = shapes[r, 0] * shapes[r, 1], r + 1 < len(shapes)
        for k in range(len(state)):
            for p in range(first, first + size):
                for lane in range(LANES):
                    value = state[k, p * LANES + lane]
                    if paired:
                        value += state[k, (p + size) * LANES + lane]
                    sums[k, lane] += weights[r] * value
        first += 2 * size


@entry
def covariance(images, paths, tiles, tile_paths, steps, network, planes, below, out, start, stop):
    """Fill the columns of the tiles from ``start`` to ``stop``.

    Args:
        images, paths: of the rows, ``n x channels x pixels``, and a tuple of ``n x ...``.
        tiles, tile_paths: of the columns, ``tiles x channels x pixels x LANES``, ``tiles x ...``.
        planes: in groups that are computed together: where the rectangles of each group begin, and
            its pixels; height and width of each rectangle; weights; the numbers of the pixels in
            either image. After the first rectangle come pairs of opposites.
        below: how many rows below the tile on the diagonal are filled.
        out: ``(1 + parameters) x n x m``.
    """
    groups, places, shapes, weights, pixels, others = planes
    states, m, field = len(out), out.shape[2], (places[1:] - places[:-1]).max() * LANES
    workspace = (
        np.empty((states, steps[1].shape[2], field)), np.empty((states, field)),
        np.empty((8, _CHUNK * LANES)), np.empty((2, (shapes[:, 1].max() + 2 * network[0]) * LANES)),
    )  # fmt: skip
    state, sums = np.empty((states, field)), np.empty((states, LANES))
    for t in range(start, stop):
        tile = (tile_paths[0][t], tile_paths[1][t], tile_paths[2][t])
        for i in range(min(len(images), (t + 1) * LANES + below)):
            path = (paths[0][i], paths[1][i], paths[2][i])
            sums[:] = 0.0
            for g in range(len(groups) - 1):
                own, here = slice(groups[g], groups[g + 1]), slice(places[g], places[g + 1])
                pair = (path, tile, pixels[here], others[here])
                _start(images[i], tiles[t], shapes[own], network, pair, workspace, state)
                _flow(state, shapes[own], steps, network, pair, workspace)
                _add_planes(state, shapes[own], weights[own], sums)
            for k in range(states):
                for lane in range(min(LANES, m - t * LANES)):
                    out[k, i, t * LANES + lane] = sums[k, lane]
