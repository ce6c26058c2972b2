"""The convolutional flow by the loops of ``compiled.py``, in float64, for tensors on the CPU."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from typing import Any

import numpy as np
import torch
from numpy.polynomial.chebyshev import cheb2poly, chebfit, chebpts1
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.flow.angles import reduced_speed
from resnet_gp.flow.convolution import compiled
from resnet_gp.flow.convolution.compiled import LANES
from resnet_gp.flow.convolution.network import BLOCK_BIAS, ConvFlow, ConvNetwork, Cost
from resnet_gp.flow.convolution.on_torch import variance_path
from resnet_gp.flow.general import mirror
from resnet_gp.progress import progress_bar
from resnet_gp.threads import in_threads, torch_threads

Array = NDArray[Any]
Prepared = tuple[Array, tuple[Array, ...]]

_LOGGER = logging.getLogger("resnet_gp")
_GROUP = 512  # pixels of planes that are computed together
_PATH_BYTES, _MOST_ROWS = 2**27, 256  # of the variances of a block of images
_LONG = 10.0  # seconds
_SAMPLED = 10**9  # entries at all stages, from which on the cost is told


def covariance(flow: ConvFlow, x1: Tensor, x2: Tensor) -> Tensor:
    """K of flattened images and its derivatives, ``(1 + parameters) x n x m``, in their dtype.

    Args:
        flow: what is computed.
        x1, x2: ``n x features`` and ``m x features``; half is computed if they are one object.
    """
    network, _, parameters = flow
    n, m, symmetric, stages = len(x1), len(x2), x1 is x2, flow.steps.combined[:, 0].size
    work = stages * n * m * (network.pixels**2 if network.average else network.pixels)
    title, long = f"covariances of {n} x {m} images", False
    if work > _SAMPLED:
        expected = cost(flow, n, None if symmetric else m)
        title, long = f"{title} ({expected})", expected.seconds > _LONG
        _LOGGER.info("%s", title)
    rows = _PATH_BYTES // (8 * stages * network.pixels * (2 + len(parameters))) // LANES * LANES
    rows = min(max(rows, LANES), _MOST_ROWS)
    out = torch.empty(1 + len(parameters), n, m, dtype=x1.dtype)
    with progress_bar(title, total=n * m, at_once=long) as bar:
        for here in map(slice, range(0, n, rows), range(rows, n + rows, rows)):
            one = _prepared(flow, x1[here])
            for there in map(slice, range(0, m, rows), range(rows, m + rows, rows)):
                if not symmetric or here.start <= there.start:
                    same = symmetric and here == there
                    two = one if same else _prepared(flow, x2[there])
                    block = _block(flow, one, two, same)
                    out[:, here, there] = block
                    if symmetric:
                        out[:, there, here] = block.mT
                bar.update(len(x1[here]) * len(x2[there]))
    return out


def cost(flow: ConvFlow, n: int, m: int | None = None) -> Cost:
    """What a float64 matrix of n and m images takes, or of n with themselves; a sample is timed."""
    seconds = 0.0
    for size in (LANES, LANES, 4 * LANES, 16 * LANES):  # the first of which may compile
        if seconds < 0.1 or size == LANES:
            start = time.perf_counter()
            images = _prepared(flow, torch.ones(size, flow.network.features))
            _block(flow, images, images, False)
            seconds = time.perf_counter() - start
            each = seconds / size**2
    pairs, entries = (n * (n + 1) / 2, n * n) if m is None else (n * m, n * m)
    return Cost(each * pairs, 8 * entries * (1 + len(flow.parameters)))


def _block(flow: ConvFlow, one: Prepared, two: Prepared, symmetric: bool) -> Tensor:
    (network, variances, parameters), steps = flow, flow.steps
    out = torch.empty(1 + len(parameters), len(one[0]), len(two[0]), dtype=torch.float64)
    constants = [float(variances[BLOCK_BIAS]), *(float(i == BLOCK_BIAS) for i in parameters)]
    settings = (
        network.radius, network.circular, network.linear,
        (1 - network.activation.negative_slope) ** 2, *map(float, variances[:BLOCK_BIAS]),
        np.array(constants), *_series(), np.array(parameters, np.int64),
    )  # fmt: skip
    tiles, tile_paths = _tiles(two[0]), tuple(map(_tiles, two[1]))
    fill = functools.partial(
        compiled.covariance, *one, tiles, tile_paths, tuple(steps), settings,
        _planes(network), 0 if symmetric else len(one[0]), out.numpy(),
    )  # fmt: skip
    shares = np.linspace(0, 1, torch.get_num_threads() + 1)
    bounds = (len(tiles) * (np.sqrt(shares) if symmetric else shares)).round().astype(int)
    in_threads([functools.partial(fill, *ends) for ends in itertools.pairwise(bounds.tolist())])
    if symmetric:
        mirror(out)
    return out


@torch.no_grad()
def _prepared(flow: ConvFlow, x: Tensor) -> Prepared:
    """Images, ``n x channels x pixels``, over the root of their channels, and their paths."""
    x, variances = x.double(), [value.double() for value in flow.variances]
    with torch_threads(1):  # which would wait for each other between short operations
        path = torch.stack(variance_path(flow._replace(variances=variances), x))
        path = path.flatten(-2).movedim(2, 0)  # n x stages x (1 + parameters) x pixels
        size = path[:, :, 0].clamp(min=0).sqrt()
        inverse = torch.where(size > 0, 1 / size, 0)
        logs = path[:, :, 1:] * (inverse * inverse / 2)[:, :, None]
    channels = flow.network.image_shape[0]
    images = (x / channels**0.5).unflatten(-1, (channels, -1)).numpy()
    paths = (np.ascontiguousarray(values.numpy()) for values in (size, inverse, logs))
    return np.ascontiguousarray(images), tuple(paths)


def _tiles(values: Array) -> Array:
    """``n x ...`` as ``tiles x ... x LANES``; zeros complete the last tile."""
    padded = np.pad(values, [(0, -len(values) % LANES), *[(0, 0)] * (values.ndim - 1)])
    tiles = padded.reshape(len(padded) // LANES, LANES, *values.shape[1:])
    return np.ascontiguousarray(np.moveaxis(tiles, 1, -1))


@functools.lru_cache(maxsize=8)
def _planes(network: ConvNetwork) -> tuple[Array, ...]:
    """``planes`` of the compiled loops: the first, then all others and their opposites."""
    first, *others = network.planes
    groups, places = [0, 1], [0, network.pixels]
    for plane in others:
        size = 2 * len(plane.pixels)
        if len(groups) == 2 or places[-1] - places[-2] + size > _GROUP:
            groups.append(groups[-1])
            places.append(places[-1])
        groups[-1] += 2
        places[-1] += size
    turned = [plane._replace(pixels=plane.others, others=plane.pixels) for plane in others]
    planes = [first, *itertools.chain.from_iterable(zip(others, turned, strict=True))]
    shapes, pixels, others, weights = zip(*planes, strict=True)
    arrays = map(np.array, (groups, places, shapes, weights))
    return (*arrays, np.concatenate(pixels), np.concatenate(others))


@functools.cache
def _series() -> tuple[tuple[float, ...], ...]:
    """F(c) / (1 - c)^(3/2) and theta / (1 - c)^(1/2) on [0, 1], to rounding, in powers of 1 - 2 c.

    They are analytic there, with the nearest branch point at c = -1.
    """
    x = chebpts1(64)
    angle = 2 * np.arcsin(np.sqrt((1 + x) / 4))
    values = (reduced_speed(angle) / 2**1.5, angle / np.sqrt((1 + x) / 2))
    series = (cheb2poly(chebfit(x, row, compiled.DEGREE))[::-1] for row in values)
    return tuple(tuple(coefficients.tolist()) for coefficients in series)
