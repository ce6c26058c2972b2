"""A convolutional ResNet: its images and layers, its planes of pixels, and its steps of time."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.activations import LeakyReLU, leaky_relu_of
from resnet_gp.flow.depth import checked_depth
from resnet_gp.flow.domain import DomainError
from resnet_gp.flow.general import dormand_prince
from resnet_gp.integers import is_integer

Numbers = NDArray[np.int64]

#: Numbers of the variances: of weights, the input's bias and the blocks' biases.
W, INPUT_BIAS, BLOCK_BIAS = 0, 1, 2

_DEEPEST = 1000  # blocks; each keeps the variances of some images in memory
_FASTEST = 100.0  # w times the activation's steepness
_ONE_STEP = 0.8  # the same, up to which one step is exact enough for weights of each pixel
_STABLE = 3.5  # w E[phi(u)^2] / E[u^2] for each step


class Plane(NamedTuple):
    """Pairs of pixels (p, p') at one displacement.

    Attributes:
        shape: height and width of their rectangle.
        pixels, others: the numbers of p and p', row by row.
        weight: in the mean over pairs. All planes but the first, p = p', stand for two: the other
            has p and p' exchanged.
    """

    shape: tuple[int, int]
    pixels: Numbers
    others: Numbers
    weight: float


class Steps(NamedTuple):
    """A Runge-Kutta method, whose stage i of a step from q is own_i q + sum_j combined_ij F_j.

    F_j is the right-hand side at stage j; the last stage is the end of the step.

    Attributes:
        own: ``steps x (stages + 1)``.
        combined: ``steps x (stages + 1) x stages``.
    """

    own: NDArray[np.float64]
    combined: NDArray[np.float64]


@dataclass(frozen=True)
class ConvNetwork:
    """An infinitely wide convolutional ResNet.

    Attributes:
        image_shape: channels, height and width.
        radius: r of filters with (2 r + 1)^2 pixels.
        circular: whether filters continue at the opposite edge; else images are surrounded by 0.
        average: whether the readout sees the mean of all pixels; else it has a weight for each.
        activation: of the (leaky) ReLU family.
        depth: number of residual blocks; None for the limit.
    """

    image_shape: tuple[int, int, int]
    radius: int
    circular: bool
    average: bool
    activation: LeakyReLU
    depth: int | None

    @property
    def pixels(self) -> int:
        return self.image_shape[1] * self.image_shape[2]

    @property
    def features(self) -> int:
        """Length of a flattened image."""
        return self.image_shape[0] * self.pixels

    @property
    def linear(self) -> float:
        """E[phi(u)^2] over the variance of u."""
        return (1 + self.activation.negative_slope**2) / 2

    @property
    def growth(self) -> float:
        """The rate of the field that grows fastest, divided by the weight variance."""
        kept = (_kept(size, self.radius) for size in self.image_shape[1:])
        return self.linear * (1.0 if self.circular else math.prod(kept))

    @property
    def planes(self) -> list[Plane]:
        """The plane p = p' for weights of each pixel; the planes of all pairs for averages."""
        _, height, width = self.image_shape
        grid = np.arange(self.pixels).reshape(height, width)
        weight = 1 / self.pixels ** (2 if self.average else 1)
        found = [Plane((height, width), grid.ravel(), grid.ravel(), weight)]
        if self.average and self.circular:
            for down, right in itertools.product(range(height), range(width)):
                opposite = (-down % height, -right % width)
                if (0, 0) < (down, right) <= opposite:
                    there = np.roll(grid, (-down, -right), (0, 1)).ravel()
                    half = 0.5 if (down, right) == opposite else 1.0
                    found.append(Plane((height, width), grid.ravel(), there, weight * half))
        elif self.average:
            for down, right in itertools.product(range(height), range(1 - width, width)):
                if (down, right) > (0, 0):
                    here = grid[: height - down, max(0, -right) : width - max(0, right)]
                    there = grid[down:, max(0, right) : width - max(0, -right)]
                    found.append(Plane(here.shape, here.ravel(), there.ravel(), weight))
        return found


@functools.lru_cache(maxsize=16)
def _kept(size: int, radius: int) -> float:
    """Largest eigenvalue of the mean over 2 r + 1 neighbours in a row of this size, 0 outside."""
    near = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) <= radius
    return float(np.linalg.eigvalsh(near / (2 * radius + 1))[-1])


@functools.lru_cache(maxsize=16)
def _limit_steps(count: int, growth: float) -> Steps:
    scheme = dormand_prince(count, power=2)
    rows = [*scheme.stages, scheme.weights]
    stages = len(scheme.weights)
    method = np.array([np.pad(row, (0, stages - len(row))) for row in rows]) / count
    own, combined = np.ones((count, stages + 1)), np.zeros((count, stages + 1, stages))
    for step, rates in enumerate(np.array(scheme.rates).reshape(count, stages)):
        # Slopes of exp(-g t) q, rate (F_i - g q_i), by the start of the step and all F_j.
        of_start, of_slopes = np.zeros(stages), np.zeros((stages, stages))
        for i, row in enumerate(method):
            own[step, i] += row @ of_start
            combined[step, i] = row @ of_slopes
            if i < stages:
                of_start[i] = -rates[i] * growth * own[step, i]
                of_slopes[i] = -rates[i] * growth * combined[step, i]
                of_slopes[i, i] = rates[i]
        grown = np.exp(growth * (step / count + method.sum(1)) ** 2)
        own[step] *= grown / grown[0]
        combined[step] *= grown[:, None] / grown[:stages]
    return Steps(own, combined)


class ConvFlow(NamedTuple):
    """All that a covariance depends on but its images.

    Attributes:
        network: what is computed.
        variances: scalars, of weights and of the biases of input and blocks; 0 for no bias.
        parameters: numbers of the variances in which derivatives are wanted.
    """

    network: ConvNetwork
    variances: Sequence[Tensor]
    parameters: Sequence[int] = ()

    @property
    def steps(self) -> Steps:
        """The steps of time: one for each block, or those of the limit.

        The limit takes Dormand and Prince's order 8 in sqrt(t), in which solutions are smooth:
        correlations leave -1, and variances leave 0 where images are blank, like half-integer
        powers of t. It is applied to exp(-g t) q, where g is the growth of the field that grows
        fastest, so that long horizons need few steps (Lawson 1967). The fields that decay then, at
        rates up to 4/3 w E[phi(u)^2] / E[u^2], bound the steps; of ReLU, above w = 49.

        Raises:
            DomainError: w is not positive, or above 100 / ``activation.steepness``.
        """
        w, _, block_bias = (float(value.detach()) for value in self.variances)
        depth, steepness = self.network.depth, self.network.activation.steepness
        fast = w * steepness
        if not 0 < fast <= _FASTEST:
            most = _FASTEST / steepness
            raise DomainError(f"weight_variance must be above 0 and at most {most:.4g}, got {w}")
        if depth is None:
            stable = w * self.network.linear / _STABLE
            errors = 4 if self.network.average else 1  # means over pixels may cancel
            count = math.ceil(max(min(errors * fast / _ONE_STEP, 2), math.sqrt(fast), stable))
            # With biases, opposite and blank pixels move faster at first.
            return _limit_steps(count * (2 if block_bias > 0 else 1), w * self.network.growth)
        return Steps(np.ones((depth, 2)), np.tile([[0.0], [1 / depth]], (depth, 1, 1)))


class Cost(NamedTuple):
    """What a covariance matrix takes.

    Attributes:
        seconds: on this machine as it is now, with as many threads as torch uses.
        bytes: of the matrix, and of those of its derivatives.
    """

    seconds: float
    bytes: int

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        duration = f"{minutes} min {seconds:02d} s" if minutes else f"{self.seconds:.2g} s"
        return f"{duration}, {self.bytes / 2**20:.3g} MiB"


def conv_network(
    image_shape: Sequence[int],
    filter_size: int = 3,
    readout: str = "flatten",
    padding: str = "zero",
    activation: str | LeakyReLU = "relu",
    negative_slope: float = 0.01,
    depth: int | None = None,
) -> ConvNetwork:
    """Check the arguments of ``ConvResNetLimitKernel``; ValueError names the one that is wrong."""
    sizes = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
    if len(sizes) not in (2, 3) or not all(is_integer(size) for size in sizes):
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width), of positive "
            f"integers, got {image_shape!r}"
        )
    if not (is_integer(filter_size) and filter_size % 2 == 1):
        raise ValueError(f"filter_size must be an odd positive integer, got {filter_size!r}")
    choices = {"readout": (readout, "flatten", "average"), "padding": (padding, "zero", "circular")}
    for name, (value, *known) in choices.items():
        if value not in known:
            raise ValueError(f'{name} must be "{known[0]}" or "{known[1]}", got {value!r}')
    depth = checked_depth(depth)
    if (depth or 0) > _DEEPEST:
        raise ValueError(f"depth must be at most {_DEEPEST}, or None for the limit, got {depth}")
    if not isinstance(activation, LeakyReLU):
        activation = leaky_relu_of(activation, negative_slope)
    shape: tuple[Any, ...] = sizes if len(sizes) == 3 else (1, *sizes)
    circular, average = padding == "circular", readout == "average"
    return ConvNetwork(shape, filter_size // 2, circular, average, activation, depth)
