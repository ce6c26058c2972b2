r"""Experiment c: one residual scale moves features by order one in every dimension D.

Three scales, alpha = 1/sqrt(D), 1 and sqrt(D): 1/(LM), sqrt(D)/(LM) and D/(LM). The first step
moves features U' h / D in proportion to rate_U alpha, with the step sizes of the theory to
min(alpha, 1/alpha): at its largest at the critical scale. With the step sizes of the critical
scale at every scale it moves them in proportion to alpha: to nothing, or without bound.

For D/(LM) that stays so. For 1/(LM) it is a statement about the first steps: the step sizes of V,
alpha^-2, let alpha V grow at a rate of order one from however small a start, and once it has, U
moves as it does at the critical scale. The movement is measured after several numbers of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_gp.mean_ode import scales
from resnet_gp.mean_ode.estimates import draws_check
from resnet_gp.mean_ode.lab import Array, Lab, Measured
from resnet_gp.mean_ode.units import even_units
from resnet_gp.report.checks import Check
from resnet_gp.report.result import COLOURS, Result, new_figure, size_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIMENSIONS = (10, 31, 100)
M = 16
POWERS = (-0.5, 0.0, 0.5)  # of D, in alpha
NAMES = ("1/(LM)", "√D/(LM)", "D/(LM)")
GROUP = "movement of features against D, after one step"


@dataclass(frozen=True)
class DimensionResult(Result):
    """Root-mean-square movement of U's entries.

    ``moved``: ``draws x dimensions x steps x scales``; ``fixed_rate``: after one step at the step
    sizes of the critical scale, ``draws x dimensions x scales``.
    """

    dimensions: tuple[int, ...]
    steps: tuple[int, ...]
    moved: Array
    fixed_rate: Array

    name = "dimension"
    title = "Which scale learns features in every dimension?"
    theorem = "Chizat 2025, residual scale"
    summary = (
        "Movement of U after a step, with the step sizes of the theory and with those of the "
        "critical scale. At √D/(LM) it keeps its order; at the others it vanishes against that "
        "like 1/√D, or, at fixed step sizes, grows like √D. After many steps the movement at "
        "D/(LM) vanishes as before. At 1/(LM) it vanishes in the first steps only: alpha V grows "
        "at a rate of order one from its small start, and features follow some tens of steps "
        "later, as the last panel shows."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(4)
        panels = (
            ("one step", self.moved[:, :, 0]),
            ("one step, critical step sizes", self.fixed_rate),
            (f"{self.steps[-1]} steps", self.moved[:, :, -1]),
        )
        for axis, (title, moved) in zip(axes[:3], panels, strict=True):
            for k, name in enumerate(NAMES):
                mean = moved[:, :, k].mean(0)
                axis.plot(
                    self.dimensions,
                    mean,
                    "os^"[k] + "-",
                    color=COLOURS[k],
                    label=name,
                    ms=8 - 2 * k,
                )
            axis.set(yscale="log", title=title, ylabel="movement of U")
            size_axis(axis, self.dimensions, "D")
        axes[0].legend(frameon=False, fontsize=8)
        self._plot_steps(axes[3])
        return figure

    def _plot_steps(self, axis: Any) -> None:
        """Movement in the largest dimension, over that at the critical scale."""
        largest = self.moved[:, -1].mean(0)
        for k in range(len(NAMES)):
            axis.plot(self.steps, largest[:, k] / largest[:, 1], "os^"[k] + "-", color=COLOURS[k])
        axis.axhline(self.dimensions[-1] ** -0.5, color="black", lw=0.8, ls=":")
        axis.set(yscale="log", title=f"D = {self.dimensions[-1]}; dotted: 1/√D")
        axis.set_ylabel("over that at √D/(LM)")
        size_axis(axis, self.steps, "steps")


def run(lab: Lab) -> DimensionResult:
    """Experiment c."""
    steps = lab.size((1, 2, 5, 10, 20, 50), (1, 20))
    kept = lab.keep_all(_measure, {f"dimension-{D}": (D, steps) for D in reversed(DIMENSIONS)})
    moved = np.stack([one["moved"] for one in kept[::-1]], 1)
    first, last = moved[:, :, 0], moved[:, :, -1]
    rates = np.array([_rate_ratio(D) for D in DIMENSIONS])
    fixed = first * rates
    checks = [
        _slope_check(f"{what} {NAMES[k]} over √D/(LM)", moved[:, :, k] / moved[:, :, 1], target)
        for k, target, what, moved in (
            (0, -0.5, "one step:", first),
            (2, -0.5, "one step:", first),
            (0, -0.5, "critical step sizes:", fixed),
            (2, 0.5, "critical step sizes:", fixed),
        )
    ]
    order_one = _slopes(last[:, :, 1])
    vanishing = _slopes(last[:, :, 2])
    behind = _slopes(last[:, :, 1] / last[:, :, 0])
    bounds = (
        ("|slope| in D at √D/(LM) after all steps", np.abs(order_one.mean()), order_one, 0.15),
        ("slope in D at D/(LM) after all steps", vanishing.mean(), vanishing, -0.25),
        ("slope in D at √D/(LM) over 1/(LM) after all steps", behind.mean(), behind, 0.25),
    )
    checks += [
        draws_check(name, value, _error(all_slopes), bound, len(all_slopes), "at most")
        for name, value, all_slopes, bound in bounds
    ]
    return DimensionResult(tuple(checks), DIMENSIONS, steps, moved, fixed)


def _measure(lab: Lab, D: int, steps: tuple[int, ...]) -> Measured:
    """Movements of U after each number of steps, ``draws x steps x scales``."""
    draws, L = lab.size((10, 128), (4, 32))
    alphas = np.array([float(D**power) for power in POWERS])
    data = [lab.data(draw, D) for draw in range(draws) for _ in alphas]
    found = []
    for count in steps:
        runs = lab.train("dimension", data, M, L, count, np.tile(alphas, draws), even_units)
        found.append(runs.movement_U.reshape(draws, len(alphas)) / alphas)
    return {"moved": np.stack(found, 1)}


def _rate_ratio(D: int) -> list[float]:
    """U's step size at the critical scale over its own, for each scale.

    One step is proportional to its step size, so that this is all that the step size does to it.
    """
    critical, _ = scales.learning_rates(1.0, D, M, 1)
    return [critical / scales.learning_rates(float(D**power), D, M, 1)[0] for power in POWERS]


def _slopes(moved: Array) -> Array:
    """Slope of the logarithm in log D for each draw."""
    return np.polyfit(np.log(DIMENSIONS), np.log(moved).T, 1)[0]


def _error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _slope_check(name: str, ratios: Array, target: float) -> Check:
    slopes = _slopes(ratios)
    return draws_check(name, slopes.mean(), _error(slopes), target, len(slopes), group=GROUP)
