"""Networks on the grid of depths and widths of the paper, trained once for two experiments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_gp.mean_ode.limit import Limit, limit
from resnet_gp.mean_ode.training_lab import Measured, TrainingLab
from resnet_gp.report.fits import Array

D = 10
STEPS = 100
SEEDS = 2  # networks for each data draw, depth and width
REPEATS = 5  # data draws in the paper's protocol


@dataclass(frozen=True)
class Grid:
    """Squared errors of the output, means over entries; each ``draws x depths x widths``."""

    sizes: tuple[int, ...]  # depths and widths
    total: Array  # distance of one network to the limit
    spread: Array  # variance over seeds: half the squared difference of two networks
    bias: Array  # unbiased, between the networks' mean and the limit; it can be negative
    limit_errors: Array  # root mean square error of the limit on each draw
    to_network: Array  # distance to one large network (the paper's protocol), on the first draws

    @property
    def depths(self) -> Array:
        """L of each cell, ``depths x widths``."""
        return np.repeat(np.array(self.sizes, float)[:, None], len(self.sizes), 1)

    @property
    def units(self) -> Array:
        """LM of each cell, ``depths x widths``."""
        return self.depths * self.sizes


def draws(lab: TrainingLab) -> int:
    """Number of data draws, each with its own limit."""
    return lab.size(10, 4)


def sizes(lab: TrainingLab) -> tuple[int, ...]:
    """Ten depths and widths from 1 to 316, spaced evenly in the logarithm."""
    largest, count = lab.size((316, 10), (46, 6))
    return tuple(round(size) for size in np.geomspace(1, largest, count))


def repeats(lab: TrainingLab) -> int:
    """Number of data draws with a large network as the reference."""
    return lab.size(REPEATS, 2)


def limits(lab: TrainingLab) -> list[Limit]:
    """Compute the limit on each data draw, once for all experiments."""
    kept = lab.keep_all(_limit, {f"limit-{draw}": (draw,) for draw in range(draws(lab))})
    return [Limit(**one) for one in kept]


def _limit(lab: TrainingLab, draw: int) -> Measured:
    return vars(limit(lab, f"limit-{draw}", lab.data(draw, D), STEPS))


def measure(lab: TrainingLab) -> Grid:
    """Train the networks, the deepest first, or load them from the lab's folder."""
    large = lab.keep_all(_large_network, {f"large-{draw}": (draw,) for draw in range(repeats(lab))})
    by_depth = lab.keep_all(_outputs, {f"grid-{L}": (L,) for L in reversed(sizes(lab))})[::-1]
    to_network = [
        [((one["outputs"][:, draw] - reference["output"]) ** 2).mean((1, 2, 3)) for one in by_depth]
        for draw, reference in enumerate(large)
    ]
    found = []
    for draw, exact in enumerate(limits(lab)):
        off = np.array([one["outputs"][:, draw] for one in by_depth]) - exact.mean
        variance = ((off[:, :, 0] - off[:, :, 1]) ** 2 / 2).mean((-2, -1))
        square = (off**2).mean((-3, -2, -1)) - exact.sampling_variance
        found.append((square, variance, square - variance, exact.error))
    total, spread, bias, errors = (np.array(column) for column in zip(*found, strict=True))
    return Grid(sizes(lab), total, spread, bias, errors, np.array(to_network))


def _outputs(lab: TrainingLab, L: int) -> Measured:
    """Outputs of networks of this depth, ``widths x draws x seeds x N x D``."""
    data = [lab.data(draw, D) for draw in range(draws(lab)) for _ in range(SEEDS)]
    rows = [lab.train("grid", data, M, L, STEPS).output for M in sizes(lab)]
    return {"outputs": np.array(rows).reshape(len(rows), -1, SEEDS, *rows[0].shape[1:])}


def _large_network(lab: TrainingLab, draw: int) -> Measured:
    """Output of the paper's reference: one network of M = L = 1000."""
    side = lab.size(1000, 64)
    data = [lab.data(draw, D)]
    return {"output": lab.train(f"large-{draw}", data, side, side, STEPS).output[0]}
