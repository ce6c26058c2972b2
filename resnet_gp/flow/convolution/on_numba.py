"""The convolutional flow by the loops of ``compiled.py``, in float64, for tensors on the CPU."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.polynomial.chebyshev import cheb2poly, chebfit
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.flow.angles import reduced_speed
from resnet_gp.flow.convolution import compiled
from resnet_gp.flow.convolution.compiled import LANES
from resnet_gp.flow.convolution.network import ConvNetwork, Cost
from resnet_gp.flow.general import Scheme, mirror
from resnet_gp.progress import progress_bar
from resnet_gp.threads import in_threads

Array = NDArray[np.float64]

_LOGGER = logging.getLogger("resnet_gp")
_PATH_BYTES = 2**26  # of the variances of a block of rows
_MOST_ROWS = 64
_GROUP = 512  # pixels of planes that are computed together
_LONG = 10.0  # seconds
_SAMPLED = 10**9  # entries at all stages, from which on a small part is timed first


class Pairs:
    """Covariances of two sets of images, and their derivatives in some parameters.

    Args:
        network: of the images.
        images1, images2: flattened images, ``n x features`` and ``m x features``; a matrix of one
            set with itself is computed by half.
        variances: w, and those of the input's bias and of the blocks' biases.
        parameters: numbers of those whose derivatives are wanted, in increasing order.
    """

    def __init__(
        self,
        network: ConvNetwork,
        images1: Tensor,
        images2: Tensor,
        variances: tuple[float, float, float],
        parameters: tuple[int, ...] = (),
    ) -> None:
        self.dtype, self.symmetric = images1.dtype, images1 is images2
        self._images, self._count = _images(images1, network), len(images2)
        self._tiles = _tiles(_images(images2, network))
        slope = network.activation.negative_slope
        scheme = network.scheme(variances[0])
        self._network = (
            network.radius, network.circular, (1 + slope**2) / 2, (1 - slope) ** 2, *variances,
            *_series(), np.array(parameters, np.int64),
        )  # fmt: skip
        self._states = 1 + len(parameters)
        self._shape = np.array([network.image_shape[1:]])
        self._scheme = _scheme(scheme)
        self._planes = _planes(network)
        pairs_of_pixels = network.pixels**2 if network.average else network.pixels
        self._stages = scheme.steps * len(scheme.weights)
        self._work = self._stages * pairs_of_pixels * (1 + 2 * len(parameters))
        self._path = self._stages * network.pixels * (2 + len(parameters))

    def cost(self, n: int, m: int | None = None) -> Cost:
        """What a matrix of n and m such images takes, or of n with themselves.

        From a timed sample: the first image of the rows with the first eight of the columns.
        """
        sample, paths, seconds = np.empty((self._states, 1, self._count)), self._paths(0, 1), []
        for _ in range(2):  # the first of which may compile
            start = time.perf_counter()
            self._fill(paths, (0, 1), False, sample, 0, 1)
            seconds.append(time.perf_counter() - start)
        pairs, entries = (n * (n + 1) / 2, n * n) if m is None else (n * m, n * m)
        total = min(seconds) * pairs / LANES / torch.get_num_threads()
        return Cost(total, self._states * entries * self.dtype.itemsize)

    def matrices(self) -> Tensor:
        """The covariance and its derivatives, ``(1 + parameters) x n x m``."""
        n, m, states = len(self._images), self._count, self._states
        out = torch.empty(states, n, m, dtype=self.dtype)
        work = n * m * self._work / (2 if self.symmetric else 1)
        title, long = f"covariances of {n} x {m} images", False
        if work > _SAMPLED:
            cost = self.cost(n, None if self.symmetric else m)
            title, long = f"{title} ({cost})", cost.seconds > _LONG
            _LOGGER.info("%s", title)
        with progress_bar(title, total=n, at_once=long) as bar:
            for first, last in self._blocks():
                block = np.empty((states, last - first, m))
                begin = first // LANES if self.symmetric else 0
                bounds = np.linspace(begin, len(self._tiles), torch.get_num_threads() + 1)
                fill = functools.partial(
                    self._fill, self._paths(first, last), (first, last), self.symmetric, block
                )
                in_threads(
                    [
                        functools.partial(fill, *ends)
                        for ends in itertools.pairwise(bounds.round().astype(int).tolist())
                    ]
                )
                out[:, first:last, LANES * begin :] = torch.from_numpy(block[..., LANES * begin :])
                if self.symmetric:
                    mirror(out[:, first:last, first:])
                    out[:, last:, first:last] = out[:, first:last, last:].mT
                bar.update(last - first)
        return out

    def diagonal(self) -> Tensor:
        """The covariances of each image with its partner, ``(1 + parameters) x n``."""
        states = self._states
        out = torch.empty(states, len(self._images), dtype=self.dtype)

        def fill(tile: int) -> None:
            first, last = tile * LANES, min((tile + 1) * LANES, len(self._images))
            block = np.empty((states, last - first, self._count))
            self._fill(self._paths(first, last), (first, last), False, block, tile, tile + 1)
            own = block[:, range(last - first), range(first, last)]
            out[:, first:last] = torch.from_numpy(own)

        in_threads([functools.partial(fill, tile) for tile in range(len(self._tiles))])
        return out

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows whose variances fit in memory, of whole tiles."""
        rows = _PATH_BYTES // (8 * self._path) // LANES * LANES
        rows = min(max(rows, LANES), _MOST_ROWS)
        n = len(self._images)
        return ((first, min(first + rows, n)) for first in range(0, n, rows))

    def _fill(
        self,
        paths: tuple[Array, ...],
        rows: tuple[int, int],
        symmetric: bool,
        out: Array,
        start: int,
        stop: int,
    ) -> None:
        compiled.covariance(
            self._images, paths, self._tiles, self._shape, self._scheme, self._network,
            self._planes, rows, symmetric, out, start, stop,
        )  # fmt: skip

    def _paths(self, first: int, last: int) -> tuple[Array, ...]:
        """``paths`` of the rows' images."""
        tiles = _tiles(self._images[first:last])
        shape = (self._stages, tiles.shape[2], LANES)
        size, inverse = np.zeros((len(tiles), *shape)), np.zeros((len(tiles), *shape))
        logs = np.zeros((len(tiles), self._states - 1, *shape))
        compiled.tile_paths(
            tiles, self._shape, self._scheme, self._network, size, inverse, logs
        )  # fmt: skip
        return tuple(_untiled(values) for values in (size, inverse, logs))


def _images(x: Tensor, network: ConvNetwork) -> Array:
    """``n x channels x pixels``, in float64."""
    images: Array = x.detach().to(torch.float64).numpy()
    return np.ascontiguousarray(images.reshape(len(x), network.image_shape[0], -1))


def _tiles(images: Array) -> Array:
    """``tiles x channels x pixels x LANES``; images of zeros complete the last one."""
    count = -(-len(images) // LANES)
    padded = np.zeros((count * LANES, *images.shape[1:]))
    padded[: len(images)] = images
    return np.ascontiguousarray(np.moveaxis(padded.reshape(count, LANES, *images.shape[1:]), 1, -1))


def _untiled(values: Array) -> Array:
    """``tiles x ... x LANES`` as ``(tiles LANES) x ...``."""
    moved = np.ascontiguousarray(np.moveaxis(values, -1, 1))
    return moved.reshape(len(moved) * LANES, *moved.shape[2:])


def _scheme(scheme: Scheme) -> tuple[Array, ...]:
    count = len(scheme.weights)
    numbers, coefficients = np.zeros((count, count + 1), np.int64), np.zeros((count, count + 1))
    counts = np.zeros(count, np.int64)
    for i, row in enumerate(scheme.stages):
        (used,) = np.nonzero(row)
        counts[i] = len(used)
        numbers[i, : len(used)], coefficients[i, : len(used)] = used, np.array(row)[used]
    rates = np.array(scheme.rates).reshape(scheme.steps, count)
    return counts, numbers, coefficients, np.array(scheme.weights), rates


@functools.lru_cache(maxsize=8)
def _planes(network: ConvNetwork) -> tuple[Array, ...]:
    """``planes``: the first, and then all others, each followed by its opposite."""
    first, *others = network.planes
    groups, places, size = [0, 1], [0, network.pixels], 0
    for plane in others:
        if size == 0 or size + 2 * len(plane.pixels) > _GROUP:
            groups.append(groups[-1])
            places.append(places[-1])
            size = 0
        groups[-1] += 2
        places[-1] += 2 * len(plane.pixels)
        size += 2 * len(plane.pixels)
    turned = [plane._replace(pixels=plane.others, others=plane.pixels) for plane in others]
    planes = [first, *itertools.chain.from_iterable(zip(others, turned, strict=True))]
    return (
        np.array(groups), np.array(places), np.array([plane.shape for plane in planes]),
        np.array([plane.weight for plane in planes]),
        np.concatenate([plane.pixels for plane in planes]),
        np.concatenate([plane.others for plane in planes]),
    )  # fmt: skip


@functools.cache
def _series() -> tuple[Array, Array]:
    """F(c) / (1 - c)^(3/2) and theta / (1 - c)^(1/2) on [0, 1], to rounding, in powers of 1 - 2 c.

    They are analytic there, with the nearest branch point at c = -1.
    """
    x = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    gap = (1 + x) / 2
    angle = 2 * np.arcsin(np.sqrt(gap / 2))
    values = np.stack([reduced_speed(angle) / 2**1.5, angle / np.sqrt(gap)])
    speeds, angles = (cheb2poly(chebfit(x, row, compiled.DEGREE))[::-1] for row in values)
    return np.ascontiguousarray(speeds), np.ascontiguousarray(angles)
