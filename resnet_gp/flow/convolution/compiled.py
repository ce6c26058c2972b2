r"""The convolutional flow as loops compiled by numba: one row image with eight column images.

A field has one number for each pixel of a rectangle and each of ``LANES`` column images, those of a
pixel together: all arithmetic runs over contiguous numbers, whatever the size of the images, and no
entry of a covariance matrix depends on the others. A tile is so many column images; a state is the
covariances' field, and those of their derivatives in some parameters. Arrays are C-contiguous, in
tuples:

``scheme``    number of slopes that each stage combines, which, with which coefficients, each
              ``stages x ...``; coefficients of a step; dt / ds, ``steps x stages``
``network``   radius of the filters, whether they wrap around, (1 + alpha^2) / 2, (1 - alpha)^2, w,
              the bias variances of input and blocks, series of F and of the angle, and numbers of
              the parameters, of W, INPUT_BIAS and BLOCK_BIAS
``path``      sqrt(q_aa) at each stage and pixel, its inverse (0 for 0), and the derivatives of its
              logarithm in each parameter; of a tile, LANES numbers for each
``pair``      the path of the row's image, that of a tile, and the numbers of the pixels in either
``workspace`` slopes, ``state x stages x field``; fields; chunks; rows of pixels with their edges

Without ``parameters``, nothing is computed for derivatives.
"""

from __future__ import annotations

import math

import numpy as np

from resnet_gp.flow.compiled_maps import entry, loops
from resnet_gp.flow.vectors import multiply_add, wide_vectors

LANES = 8
W, INPUT_BIAS, BLOCK_BIAS = 0, 1, 2
DEGREE = 15  # of the series
_CHUNK = 64 * LANES  # entries for which all arithmetic of a stage stays in the first-level cache


@loops
def _coefficients(series):
    """The numbers of a series, for a loop to keep in registers."""
    s = series
    return (
        s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7],
        s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15],
    )  # fmt: skip


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
    s = _coefficients(series)
    for j in range(len(q)):
        c = q[j] * inverses[j]
        gap = max(1.0 - abs(c), 0.0)
        speed = multiply_add(gap * math.sqrt(gap), _series(s, gap + gap - 1.0), max(-c, 0.0) / 2)
        out[j] = multiply_add(linear, q[j], kink * sizes[j] * speed)


@loops
def _slopes(q, sizes, inverses, linear, kink, series, slope, spread):
    """Derivatives of ``_moments`` in q, and in log sqrt(q_aa) or log sqrt(q_bb)."""
    wide_vectors()
    s = _coefficients(series)
    for j in range(len(q)):
        c = q[j] * inverses[j]
        gap = max(1.0 - abs(c), 0.0)
        root = math.sqrt(gap)
        angle = root * _series(s, gap + gap - 1.0)
        angle = math.pi - angle if c < 0.0 else angle
        slope[j] = linear - kink / (2 * math.pi) * angle
        spread[j] = kink / (2 * math.pi) * sizes[j] * root * math.sqrt(2.0 - gap)


@loops
def _add(out, factor, field):
    """out += factor field."""
    wide_vectors()
    for j in range(len(out)):
        out[j] = multiply_add(factor, field[j], out[j])


@loops
def _combine(state, stage, slopes, size, first, last, out):
    """A stage's state in a chunk: state + size sum_i stage_i slopes_i."""
    wide_vectors()
    count, numbers, coefficients = stage
    start = state[first:last]
    for j in range(len(out)):
        out[j] = start[j]
    for i in range(0, count, 2):
        a, b = coefficients[i] * size, coefficients[i + 1] * size
        one, two = slopes[numbers[i], first:last], slopes[numbers[i + 1], first:last]
        for j in range(len(out)):
            out[j] = multiply_add(b, two[j], multiply_add(a, one[j], out[j]))


@loops
def _filter(field, shape, radius, circular, factor, constant, padded, out):
    """The sum over each pixel's filter times a factor, plus a constant: columns, then rows."""
    wide_vectors()
    height, width = shape
    length, edge = width * LANES, radius * LANES
    none, row = padded[1, :length], padded[0, edge : edge + length]
    none[:] = 0.0
    padded[0, :edge], padded[0, edge + length : length + 2 * edge] = 0.0, 0.0
    for y in range(height):
        own = field[y * length : (y + 1) * length]
        for shift in range(radius + 1):
            up, down = y - shift, y + shift
            if circular:
                up, down = up % height, down % height
            above = field[up * length : (up + 1) * length] if up >= 0 else none
            below = field[down * length : (down + 1) * length] if down < height else none
            if shift == 0 and radius == 0:
                for j in range(length):
                    row[j] = own[j]
            elif shift == 1:
                for j in range(length):
                    row[j] = own[j] + (above[j] + below[j])
            elif shift > 1:
                for j in range(length):
                    row[j] += above[j] + below[j]
        if circular:
            for k in range(radius):
                for lane in range(LANES):
                    before = (-1 - k) % width * LANES + lane
                    padded[0, edge - (k + 1) * LANES + lane] = row[before]
                    padded[0, edge + length + k * LANES + lane] = row[k % width * LANES + lane]
        target = out[y * length : (y + 1) * length]
        if radius == 0:
            for j in range(length):
                target[j] = multiply_add(factor, row[j], constant)
        else:
            left = padded[0, edge - LANES : edge - LANES + length]
            right = padded[0, edge + LANES : edge + LANES + length]
            for j in range(length):
                total = row[j] + (left[j] + right[j])
                target[j] = multiply_add(factor, total, constant)
        for shift in range(2, radius + 1):
            left = padded[0, edge - shift * LANES : edge - shift * LANES + length]
            right = padded[0, edge + shift * LANES : edge + shift * LANES + length]
            for j in range(length):
                target[j] = multiply_add(factor, left[j] + right[j], target[j])


@loops
def _pair_chunk(path, pixels, other, others, sums, products):
    """A row of pixels of an image with those of a tile: products, or sums of logarithms."""
    for k in range(len(pixels)):
        own, row = path[pixels[k]], other[others[k]]
        target = products[k * LANES : (k + 1) * LANES]
        if sums:
            for lane in range(LANES):
                target[lane] = own + row[lane]
        else:
            for lane in range(LANES):
                target[lane] = own * row[lane]


@loops
def _variance_chunk(stage, first, last, q, network, tile, fields):
    """The variances' own flow, which is linear, in a chunk of pixels; writes the paths of a tile."""
    linear, w, parameters = network[2], network[4], network[9]
    size, inverse, logs = tile
    for j in range(last - first):
        v = max(q[0, j], 0.0)
        p, lane = (first + j) // LANES, j % LANES
        size[stage, p, lane] = math.sqrt(v)
        inverse[stage, p, lane] = 1 / math.sqrt(v) if v > 0.0 else 0.0
        moment = linear * q[0, j]
        fields[0, first + j] = w * linear * q[0, j]
        for i in range(len(parameters)):
            own = q[1 + i, j]
            logs[i, stage, p, lane] = own / (2 * v) if v > 0.0 else 0.0
            rest = moment if parameters[i] == W else 0.0
            fields[1 + i, first + j] = multiply_add(w, linear * own, rest)


@loops
def _covariance_chunk(stage, first, last, q, network, pair, buffers, fields):
    """w E[phi phi] in a chunk of pixels, and its derivatives in the parameters."""
    linear, kink, w, speeds, angles, parameters = (
        network[2], network[3], network[4], network[7], network[8], network[9]
    )  # fmt: skip
    path, tile, pixels, others = pair
    length = last - first
    row, other = pixels[first // LANES : last // LANES], others[first // LANES : last // LANES]
    sizes, inverses, moments = buffers[0, :length], buffers[1, :length], buffers[2, :length]
    slope, spread, logs = buffers[3, :length], buffers[4, :length], buffers[5, :length]
    _pair_chunk(path[0][stage], row, tile[0][stage], other, False, sizes)
    _pair_chunk(path[1][stage], row, tile[1][stage], other, False, inverses)
    out = fields[0, first:last]
    _moments(q[0, :length], sizes, inverses, w * linear, w * kink, speeds, out)
    if len(parameters) > 0:
        _moments(q[0, :length], sizes, inverses, linear, kink, speeds, moments)
        _slopes(q[0, :length], sizes, inverses, linear, kink, angles, slope, spread)
    for i in range(len(parameters)):
        _pair_chunk(path[2][i, stage], row, tile[2][i, stage], other, True, logs)
        out, own = fields[1 + i, first:last], q[1 + i, :length]
        weight = 1.0 if parameters[i] == W else 0.0
        for j in range(length):
            inner = multiply_add(slope[j], own[j], spread[j] * logs[j])
            out[j] = multiply_add(w, inner, weight * moments[j])


@loops
def _filter_all(fields, shapes, network, rate, workspace, target, stage):
    """``_filter`` of each field and rectangle, with the time's rate, into slopes of a stage."""
    radius, circular, bias, parameters = network[0], network[1], network[6], network[9]
    factor = rate / (2 * radius + 1.0) ** 2
    for k in range(len(fields)):
        constant = bias if k == 0 else 0.0
        if k > 0 and parameters[k - 1] == BLOCK_BIAS:
            constant = 1.0
        first = 0
        for r in range(len(shapes)):
            last = first + shapes[r, 0] * shapes[r, 1] * LANES
            _filter(
                fields[k, first:last], (shapes[r, 0], shapes[r, 1]), radius, circular, factor,
                rate * constant, workspace[3], target[k, stage, first:last],
            )  # fmt: skip
            first = last


@loops
def _flow(state, total, shapes, scheme, network, are_variances, pair, workspace):
    """Move ``state`` to the end of time; variances write the tile's path, covariances read both."""
    counts, numbers, stages, weights, rates = scheme
    slopes, fields, buffers, _ = workspace
    q, size = buffers[6:], 1.0 / len(rates)
    for step in range(len(rates)):
        for i in range(len(weights)):
            rate = rates[step, i]
            if rate == 0.0:
                slopes[:, i, :total] = 0.0
                continue
            stage = step * len(weights) + i
            inner = counts[i], numbers[i], stages[i]
            for first in range(0, total, _CHUNK):
                last = min(first + _CHUNK, total)
                for k in range(len(state)):
                    _combine(state[k], inner, slopes[k], size, first, last, q[k, : last - first])
                if are_variances:
                    _variance_chunk(stage, first, last, q, network, pair[1], fields)
                else:
                    _covariance_chunk(stage, first, last, q, network, pair, buffers, fields)
            _filter_all(fields, shapes, network, rate, workspace, slopes, i)
        for k in range(len(state)):
            for i in range(len(weights)):
                if weights[i] != 0.0:
                    _add(state[k, :total], weights[i] * size, slopes[k, i, :total])


@loops
def _start(total, shapes, channels, network, workspace, state):
    """q_0 from the sums of products over channels: their means over filters, and the bias."""
    radius, circular, bias, parameters = network[0], network[1], network[5], network[9]
    factor, first = 1.0 / (channels * (2 * radius + 1.0) ** 2), 0
    for r in range(len(shapes)):
        last = first + shapes[r, 0] * shapes[r, 1] * LANES
        _filter(
            workspace[1][0, first:last], (shapes[r, 0], shapes[r, 1]), radius, circular, factor,
            bias, workspace[3], state[0, first:last],
        )  # fmt: skip
        first = last
    for i in range(len(parameters)):
        state[1 + i, :total] = 1.0 if parameters[i] == INPUT_BIAS else 0.0


@loops
def _tile_path(images, shapes, scheme, network, tile, workspace, state):
    """Write the path of a tile of images, ``channels x pixels x LANES``."""
    total = images.shape[1] * LANES
    field = workspace[1][0]
    field[:total] = 0.0
    for c in range(len(images)):
        pixels = images[c].ravel()
        for j in range(total):
            square = pixels[j] * pixels[j]
            field[j] += square
    _start(total, shapes, len(images), network, workspace, state)
    none = np.zeros(0, np.int64)
    path = (tile[0][:, :, 0].copy(), tile[1][:, :, 0].copy(), tile[2][:, :, :, 0].copy())  # unread
    _flow(state, total, shapes, scheme, network, True, (path, tile, none, none), workspace)


@loops
def _group(image, images, shapes, scheme, network, pair, workspace, state):
    """``state`` of some planes at the end, for an image and those of a tile."""
    _, _, pixels, others = pair
    total = len(pixels) * LANES
    field = workspace[1][0]
    field[:total] = 0.0
    for first in range(0, total, _CHUNK):
        last = min(first + _CHUNK, total)
        row, other = pixels[first // LANES : last // LANES], others[first // LANES : last // LANES]
        product = workspace[2][0, : last - first]
        for c in range(len(image)):
            _pair_chunk(image[c], row, images[c], other, False, product)
            _add(field[first:last], 1.0, product)
    _start(total, shapes, len(image), network, workspace, state)
    _flow(state, total, shapes, scheme, network, False, pair, workspace)


@loops
def _add_planes(state, shapes, weights, sums):
    """Add the weighted sums over planes: of one, p = p', or of each with its opposite, the next.

    Each sum and its opposite's are added first, so that all is symmetric in the images to the bit.
    """
    one, two = np.zeros(LANES), np.zeros(LANES)
    for k in range(len(state)):
        begin = 0
        for r in range(0, len(shapes), 2):
            one[:], two[:] = 0.0, 0.0
            for lane in range(LANES):
                end = begin + shapes[r, 0] * shapes[r, 1]
                for p in range(begin, end):
                    one[lane] += state[k, p * LANES + lane]
            if r + 1 < len(shapes):
                begin, end = end, end + shapes[r, 0] * shapes[r, 1]
                for lane in range(LANES):
                    for p in range(begin, end):
                        two[lane] += state[k, p * LANES + lane]
            begin = end
            for lane in range(LANES):
                sums[k, lane] += weights[r] * (one[lane] + two[lane])


@loops
def _workspace(scheme, states, pixels, width, radius):
    field, stages = pixels * LANES, len(scheme[3])
    slopes, fields = np.empty((states, stages, field)), np.empty((states, field))
    return slopes, fields, np.empty((10, _CHUNK)), np.empty((2, (width + 2 * radius) * LANES))


@entry
def tile_paths(tiles, shape, scheme, network, size, inverse, logs):
    """Write the paths of tiles, ``tiles x [parameters x] stages x pixels x LANES``."""
    pixels, states = tiles.shape[2], 1 + len(network[9])
    workspace = _workspace(scheme, states, pixels, shape[0, 1], network[0])
    state = np.empty((states, pixels * LANES))
    for t in range(len(tiles)):
        tile = (size[t], inverse[t], logs[t])
        _tile_path(tiles[t], shape, scheme, network, tile, workspace, state)


@entry
def covariance(
    images, paths, tiles, shape, scheme, network, planes, rows, symmetric, out, start, stop
):
    """Fill the columns of the tiles from ``start`` to ``stop`` in some rows of the matrix.

    Args:
        images: of all rows, ``n x channels x pixels``.
        paths: of the rows from ``rows[0]`` to ``rows[1]``.
        tiles: images of the columns, ``tiles x channels x pixels x LANES``.
        shape: height and width of the images, ``1 x 2``.
        planes: in groups that are computed together: where the rectangles of each group begin, and
            its pixels; height and width of each rectangle; weights; the numbers of the pixels in
            either image. After the first rectangle come pairs of opposites.
        symmetric: whether tiles below the diagonal are left out.
        out: ``(1 + parameters) x rows x m``.
    """
    groups, places, shapes, weights, pixels, others = planes
    count, states, m = tiles.shape[2], 1 + len(network[9]), out.shape[2]
    largest = max(count, (places[1:] - places[:-1]).max())
    workspace = _workspace(scheme, states, largest, shape[0, 1], network[0])
    stages = len(scheme[4]) * len(scheme[3])
    state, sums = np.empty((states, largest * LANES)), np.empty((states, LANES))
    tile = (
        np.zeros((stages, count, LANES)), np.zeros((stages, count, LANES)),
        np.zeros((states - 1, stages, count, LANES)),
    )  # fmt: skip
    for t in range(start, stop):
        _tile_path(tiles[t], shape, scheme, network, tile, workspace, state)
        for i in range(rows[0], rows[1]):
            row = i - rows[0]
            if symmetric and (t + 1) * LANES <= i:
                continue
            path = (paths[0][row], paths[1][row], paths[2][row])
            sums[:] = 0.0
            for g in range(len(groups) - 1):
                own = slice(groups[g], groups[g + 1])
                here = slice(places[g], places[g + 1])
                pair = (path, tile, pixels[here], others[here])
                _group(images[i], tiles[t], shapes[own], scheme, network, pair, workspace, state)
                _add_planes(state, shapes[own], weights[own], sums)
            for k in range(states):
                for lane in range(min(LANES, m - t * LANES)):
                    out[k, row, t * LANES + lane] = sums[k, lane]
