"""Networks on the reported grid of depths and widths, trained once for experiments a and g."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_gp.mean_ode.lab import Array, Lab, Measured
from resnet_gp.mean_ode.limit import kept_limits

D = 10
STEPS = 100
SEEDS = 2  # networks for each data draw, depth and width
REPEATS = 5  # data draws of the reported protocol


@dataclass(frozen=True)
class Grid:
    """Squared errors of the output, means over entries; each ``draws x depths x widths``.

    Args:
        sizes: the depths, and the widths.
        total: mean square distance of one network to the limit.
        spread: variance over seeds: half the mean square difference of two networks.
        bias: square of the distance of the networks' mean to the limit, without its own noise.
            Unbiased, so that it can be negative.
        limit_errors: root-mean-square error of the limit on each draw, by its own estimate.
        to_network: mean square distance to one large network, the reported protocol; only the
            first draws.
    """

    sizes: tuple[int, ...]
    total: Array
    spread: Array
    bias: Array
    limit_errors: Array
    to_network: Array

    @property
    def depths(self) -> Array:
        """``depths x 1``."""
        return np.array(self.sizes, float)[:, None]

    @property
    def units(self) -> Array:
        """LM, ``depths x widths``."""
        return self.depths * np.array(self.sizes, float)


def draws(lab: Lab) -> int:
    """Data draws, each with a limit of its own."""
    return lab.size(10, 4)


def sizes(lab: Lab) -> tuple[int, ...]:
    """Ten depths and widths from 1 to 316, spaced evenly in the logarithm."""
    largest, count = lab.size((316, 10), (46, 6))
    return tuple(round(size) for size in np.geomspace(1, largest, count))


def repeats(lab: Lab) -> int:
    """Data draws on which a large network is the reference."""
    return lab.size(REPEATS, 2)


def measure(lab: Lab) -> Grid:
    """Train the networks, the deepest first, or take them from the lab's folder."""
    large = lab.keep_all(_large_network, {f"large-{draw}": (draw,) for draw in range(repeats(lab))})
    by_depth = lab.keep_all(_outputs, {f"grid-{L}": (L,) for L in reversed(sizes(lab))})[::-1]
    to_network = [
        [((one["outputs"][:, draw] - reference["output"]) ** 2).mean((1, 2, 3)) for one in by_depth]
        for draw, reference in enumerate(large)
    ]
    found = []
    for draw, limit in enumerate(kept_limits(lab, draws(lab), D, STEPS)):
        off = np.array([one["outputs"][:, draw] for one in by_depth]) - limit.mean
        variance = ((off[:, :, 0] - off[:, :, 1]) ** 2 / 2).mean((-2, -1))
        square = (off**2).mean((-3, -2, -1)) - limit.sampling_variance
        found.append((square, variance, square - variance, limit.error))
    total, spread, bias, errors = (np.array(column) for column in zip(*found, strict=True))
    return Grid(sizes(lab), total, spread, bias, errors, np.array(to_network))


def _outputs(lab: Lab, L: int) -> Measured:
    """``widths x draws x seeds x N x D``."""
    data = [lab.data(draw, D) for draw in range(draws(lab)) for _ in range(SEEDS)]
    rows = [lab.train("grid", data, M, L, STEPS).output for M in sizes(lab)]
    return {"outputs": np.array(rows).reshape(len(rows), -1, SEEDS, *rows[0].shape[1:])}


def _large_network(lab: Lab, draw: int) -> Measured:
    """The reported reference: one network of M = L = 1000."""
    side = lab.size(1000, 64)
    data = [lab.data(draw, D)]
    return {"output": lab.train(f"large-{draw}", data, side, side, STEPS).output[0]}
