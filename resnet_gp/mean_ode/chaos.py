"""Propagation of chaos: units become independent, and their paths smooth in depth.

Correlations are those of the changes of u.v, for pairs of units; paths are those of a tagged unit,
which starts at the same place in every layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from resnet_gp.mean_ode.estimates import draws_check, mean_check
from resnet_gp.mean_ode.training import train
from resnet_gp.mean_ode.training_lab import Measured, TrainingLab
from resnet_gp.mean_ode.units import independent_units
from resnet_gp.report.fits import Array, corrected_power_law, mean_and_error
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, guide, points, size_axes

D = 10
STEPS = 20
SIDES = (4, 8, 16, 32)  # L = M of the correlations
SHOWN = 3  # coordinates of the tagged path in the figure


@dataclass(frozen=True)
class ChaosResult(ExperimentResult):
    """Arrays are ``3 x sizes``: sizes, values and standard errors."""

    correlations: Array  # of two units, negated, by LM
    increments: Array  # root mean square between neighbouring layers, by depth
    path: Array  # displacement of the tagged u in the deepest network, ``L x coordinates``

    name = "chaos"
    title = "Do units become independent, and their paths smooth?"
    theorem = "Chizat 2025, propagation of chaos"
    summary = (
        "The movements of two units of a network are negatively correlated over seeds, because "
        "units share the work. The correlation decays like 1/(LM), fitted with a correction of "
        "order 1/L. A tagged unit, which starts at the same place in every layer, ends on a smooth "
        "path: neighbouring layers differ by 1/L, not by 1/√L."
    )
    panels = (1, 3)

    def draw(self, axes: Axes) -> None:
        panels = ((self.correlations, "units LM"), (self.increments, "depth L"))
        for axis, (found, label) in zip(axes, panels, strict=False):
            x, y, error = found
            points(axis, x, y, error)
            guide(axis, x[::-1], y[-1], ls=":", lw=1.5)
            size_axes(axis, [int(size) for size in x], label)
            axis.legend(frameon=False)
        axes[0].set_ylabel("minus the correlation of two units")
        axes[1].set_ylabel("step between layers")
        where = np.arange(len(self.path)) / len(self.path)
        for k in range(SHOWN):
            axes[2].plot(where, self.path[:, k], color=COLOURS[k], lw=1)
        axes[2].set(xlabel="depth l/L", ylabel="movement of a tagged unit", title="paths")


def run(lab: TrainingLab) -> ChaosResult:
    sides, depths = lab.size(SIDES, SIDES[:3]), lab.size((32, 64, 128, 256, 512), (16, 64))
    count = draws(lab)
    kept = lab.keep_all(_measure, {f"chaos-{d}": (d, sides, depths) for d in range(count)})
    correlations, increments = (
        np.array([one[key] for one in kept]) for key in ("correlations", "increments")
    )
    units, depth = np.array(sides, float) ** 2, np.array(depths, float)
    by_units, by_depth = mean_and_error(correlations), mean_and_error(increments)
    slopes = np.polyfit(np.log(depth), np.log(increments).T, 1)[0]
    decay = _decay(units, *by_units)
    checks = (
        draws_check("slope of two units' correlation in LM", *decay, -1.0, count),
        mean_check("slope of a tagged unit's step between layers", slopes, -1.0),
    )
    by_size = np.array([units, *by_units]), np.array([depth, *by_depth])
    return ChaosResult(checks, *by_size, kept[0]["path"])


def _decay(units: Array, correlations: Array, errors: Array) -> tuple[float, float]:
    """Power of LM and its standard error; NaN if a correlation has the wrong sign."""
    if not (correlations > 0).all():
        return math.nan, math.nan
    power, error = corrected_power_law(np.sqrt(units), correlations, errors).estimate(1)
    return power / 2, error / 2


def draws(lab: TrainingLab) -> int:
    """Number of data draws."""
    return lab.size(10, 4)


def _measure(
    lab: TrainingLab, draw: int, sides: tuple[int, ...], depths: tuple[int, ...]
) -> Measured:
    """Correlations and paths on one data draw."""
    paths = [_path(lab, draw, L) for L in depths]
    return {
        "correlations": np.array([_correlation(lab, draw, side) for side in sides]),
        "increments": np.array([np.sqrt(np.mean(np.diff(path, axis=0) ** 2)) for path in paths]),
        "path": paths[-1][:, 0, :SHOWN],
    }


def _correlation(lab: TrainingLab, draw: int, side: int) -> float:
    """Minus the mean correlation of two units' movements in a network with L = M = side."""
    networks = lab.size(300, 200)
    units = [
        independent_units(lab.rng("chaos", draw, side, i), D, side, side) for i in range(networks)
    ]
    start = lab.networks(units, [lab.data(draw, D)] * networks)
    trained = train(start, STEPS)
    inner = ((start.U + trained.displacement_U) * (start.V + trained.displacement_V)).sum(2)
    moved = inner - (start.U * start.V).sum(2)  # L x B x M
    values = moved.permute(1, 0, 2).flatten(1).double().cpu().numpy()
    values -= values.mean(0)
    n = values.shape[1]
    variance = np.mean(values**2)
    pairs = (np.mean(values.sum(1) ** 2) - n * variance) / (n * (n - 1))
    return -float(pairs / variance)


def _path(lab: TrainingLab, draw: int, L: int) -> Array:
    """Movement of the tagged unit's u in networks of width D, ``L x seeds x D``."""
    seeds = lab.size(8, 4)
    tag = lab.rng("tagged unit", draw).standard_normal((2, D)) * math.sqrt(D)
    units = [independent_units(lab.rng("paths", draw, L, s), D, D, L) for s in range(seeds)]
    for U, V in units:
        U[:, :, 0], V[:, :, 0] = tag
    start = lab.networks(units, [lab.data(draw, D)] * seeds)
    return train(start, STEPS).displacement_U[..., 0].double().cpu().numpy()
