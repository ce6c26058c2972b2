r"""Experiment f: propagation of chaos. Units become independent, and their paths smooth in depth.

Correlations: phi = u.v of a trained unit minus its start, averaged over the units of a network.
With n exchangeable units of variance s^2 and correlation c, the variance over networks is s^2/n
(1 + (n-1) c): c is estimated by pairs, and is of order 1/n. It is negative: what one unit learns,
others need not.

Paths: a tagged unit has the same start in every layer. In the limit its trained position is a
smooth function of depth, so that neighbouring layers differ by O(1/L); paths rough as Brownian
motion would differ by O(1/sqrt(L)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet_gp.mean_ode.estimates import draws_check, mean_and_error
from resnet_gp.mean_ode.lab import Array, Lab, Measured
from resnet_gp.mean_ode.training import train
from resnet_gp.mean_ode.units import independent_units
from resnet_gp.report.fits import corrected_power_law
from resnet_gp.report.result import COLOURS, Result, new_figure, size_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

D = 10
STEPS = 20
SIDES = (4, 8, 16, 32)  # L = M of the correlations
SHOWN = 3  # coordinates of the tagged path in the figure


@dataclass(frozen=True)
class ChaosResult(Result):
    """Correlations, negated, by units, and increments by depth, with standard errors; one path."""

    units: Array
    correlations: Array
    correlation_errors: Array
    depths: Array
    increments: Array  # root mean square between neighbouring layers
    increment_errors: Array
    path: Array  # displacement of the tagged u in the deepest network, depth x coordinates

    name = "chaos"
    title = "Do units become independent, and their paths smooth?"
    theorem = "Chizat 2025, propagation of chaos"
    summary = (
        "Movements of two units of a network are correlated over seeds, negatively: what one "
        "learns, the other need not. The correlation decays like 1/(LM), fitted with a correction "
        "of order 1/L. A tagged unit, with the same start in every layer, ends on a smooth path: "
        "neighbouring layers differ by 1/L, not by 1/√L."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(3)
        for axis, x, y, error, label in (
            (axes[0], self.units, self.correlations, self.correlation_errors, "units LM"),
            (axes[1], self.depths, self.increments, self.increment_errors, "depth L"),
        ):
            axis.errorbar(x, y, 2 * error, fmt="o", color=COLOURS[0], ms=4)
            axis.plot(x, y[-1] * x[-1] / x, ":", color="black", label="slope -1")
            size_axis(axis, [int(size) for size in x], label)
            axis.set_yscale("log", nonpositive="clip")
            axis.legend(frameon=False)
        axes[0].set_ylabel("minus the correlation of two units")
        axes[1].set_ylabel("step between layers")
        where = np.arange(len(self.path)) / len(self.path)
        for k in range(SHOWN):
            axes[2].plot(where, self.path[:, k], color=COLOURS[k], lw=1)
        axes[2].set(xlabel="depth l/L", ylabel="movement of a tagged unit", title="paths")
        return figure


def run(lab: Lab) -> ChaosResult:
    """Experiment f."""
    sides, depths = lab.size(SIDES, SIDES[:3]), lab.size((32, 64, 128, 256, 512), (16, 64))
    count = draws(lab)
    kept = lab.keep_all(_measure, {f"chaos-{d}": (d, sides, depths) for d in range(count)})
    correlations, increments = (
        np.array([one[key] for one in kept]) for key in ("correlations", "increments")
    )
    units, depth = np.array(sides, float) ** 2, np.array(depths, float)
    (c, c_error), (step, step_error) = (
        (by_draw.mean(0), by_draw.std(0, ddof=1) / math.sqrt(count))
        for by_draw in (correlations, increments)
    )
    slopes = np.polyfit(np.log(depth), np.log(increments).T, 1)[0]
    mean, error = mean_and_error(list(slopes))
    decay, decay_error = _decay(units, c, c_error)
    checks = (
        draws_check("slope of two units' correlation in LM", decay, decay_error, -1.0, count),
        draws_check("slope of a tagged unit's step between layers", mean, error, -1.0, count),
    )
    return ChaosResult(checks, units, c, c_error, depth, step, step_error, kept[0]["path"])


def _decay(units: Array, correlations: Array, errors: Array) -> tuple[float, float]:
    """Power in LM of the law with a correction of order 1/L, and its standard error.

    NaN if a correlation has the wrong sign.
    """
    if not (correlations > 0).all():
        return math.nan, math.nan
    fit = corrected_power_law(np.sqrt(units), correlations, errors)
    return float(fit.parameters[1]) / 2, float(fit.standard_errors[1]) / 2


def draws(lab: Lab) -> int:
    """Data draws."""
    return lab.size(10, 4)


def _measure(lab: Lab, draw: int, sides: tuple[int, ...], depths: tuple[int, ...]) -> Measured:
    correlations = [_correlation(lab, draw, side) for side in sides]
    paths = [_path(lab, draw, L) for L in depths]
    increments = [np.sqrt(np.mean(np.diff(path, axis=0) ** 2)) for path in paths]
    return {
        "correlations": np.array(correlations),
        "increments": np.array(increments),
        "path": paths[-1][:, 0, :SHOWN],
    }


def _correlation(lab: Lab, draw: int, side: int) -> float:
    """Minus the mean correlation of two units' movements in a network with L = M = side."""
    networks = lab.size(300, 200)
    units = [
        independent_units(lab.rng("chaos", draw, side, i), D, side, side) for i in range(networks)
    ]
    start = lab.networks(units, [lab.data(draw, D)] * networks, np.ones(networks))
    trained = train(start, STEPS)
    inner = ((start.U + trained.displacement_U) * (start.V + trained.displacement_V)).sum(2)
    moved = inner - (start.U * start.V).sum(2)  # L x B x M
    values = moved.permute(1, 0, 2).flatten(1).double().cpu().numpy()
    values -= values.mean(0)
    n = values.shape[1]
    variance = np.mean(values**2)
    pairs = (np.mean(values.sum(1) ** 2) - n * variance) / (n * (n - 1))
    return -float(pairs / variance)


def _path(lab: Lab, draw: int, L: int) -> Array:
    """Movement of u of the tagged unit, ``L x seeds x D``, in networks of width D."""
    seeds = lab.size(8, 4)
    tag = lab.rng("tagged unit", draw).standard_normal((2, D)) * math.sqrt(D)
    units = [independent_units(lab.rng("paths", draw, L, s), D, D, L) for s in range(seeds)]
    for U, V in units:
        U[:, :, 0], V[:, :, 0] = tag
    start = lab.networks(units, [lab.data(draw, D)] * seeds, np.ones(seeds))
    return train(start, STEPS).displacement_U[..., 0].double().cpu().numpy()
