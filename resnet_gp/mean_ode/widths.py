"""The limit of infinite depth is the same for every hidden width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from resnet_gp.mean_ode.estimates import mean_check
from resnet_gp.mean_ode.grid import STEPS, D, draws, limits
from resnet_gp.mean_ode.limit import Limit
from resnet_gp.mean_ode.training_lab import Measured, TrainingLab
from resnet_gp.report.fits import Array, mean_and_error
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, points, size_axes

WIDTHS = (1, 4, 16, 64)
GROUP = "squared distance of each width's limit"


@dataclass(frozen=True)
class WidthsResult(ExperimentResult):
    """Unbiased squared distances to the limit, ``draws x widths``."""

    squares: Array
    distances: Array  # of single networks of the larger depth, root mean square, widths

    name = "widths"
    title = "Is the limit the same for every width?"
    theorem = "Chizat 2025, one limit for all widths"
    summary = (
        "Networks of two depths, extrapolated to infinite depth for each hidden width, against the "
        "limit. The estimate of the squared distance has no bias from the finite number of seeds: "
        "its mean is zero if the limit does not depend on M. Crosses show the distance of single "
        "networks of the larger depth."
    )

    def draw(self, axes: Axes) -> None:
        (axis,) = axes
        points(axis, WIDTHS, *mean_and_error(self.squares), label="extrapolated")
        axis.plot(WIDTHS, self.distances**2, "x", color=COLOURS[1], label="one network")
        axis.axhline(0, color="black", lw=0.8)
        size_axes(axis, WIDTHS, "width M", ylabel="squared distance to the limit")
        axis.set_yscale("symlog", linthresh=1e-5)
        axis.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def run(lab: TrainingLab) -> WidthsResult:
    kept = lab.keep_all(_measure, {f"widths-{M}": (M,) for M in WIDTHS})
    squares, networks = [], []
    for draw, limit in enumerate(limits(lab)):
        pairs = [(one["shallow"][draw], one["deep"][draw]) for one in kept]
        squares.append([squared_distance(*pair, limit) for pair in pairs])
        networks.append([np.mean((deep - limit.mean) ** 2) for _, deep in pairs])
    by_draw = np.array(squares)
    checks = tuple(
        mean_check(f"squared distance, M = {M}", by_draw[:, k], 0.0, group=GROUP)
        for k, M in enumerate(WIDTHS)
    )
    return WidthsResult(checks, by_draw, np.sqrt(np.mean(networks, 0)))


def _measure(lab: TrainingLab, M: int) -> Measured:
    """Outputs at two depths, each ``draws x seeds x N x D``."""
    depth = lab.size(128, 32)
    seeds = max(4, lab.size(32, 16) // math.isqrt(M))
    data = [lab.data(draw, D) for draw in range(draws(lab)) for _ in range(seeds)]
    found = {}
    for name, L in (("shallow", depth // 2), ("deep", depth)):
        output = lab.train("widths", data, M, L, STEPS).output
        found[name] = output.reshape(-1, seeds, *output.shape[1:])
    return found


def squared_distance(shallow: Array, deep: Array, limit: Limit) -> float:
    """Unbiased squared distance between the extrapolated mean output and the limit.

    Args:
        shallow, deep: outputs of networks of depth L / 2 and L, ``seeds x N x D``.
    """
    distance = np.mean((2 * deep.mean(0) - shallow.mean(0) - limit.mean) ** 2)
    noise = sum(
        weight * outputs.var(0, ddof=1).mean() / len(outputs)
        for weight, outputs in ((4, deep), (1, shallow))
    )
    return float(distance - noise - limit.sampling_variance)
