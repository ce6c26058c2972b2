"""One residual scale moves features by order one in every dimension D.

The first step moves features U' h / D in proportion to rate_U alpha: min(alpha, 1/alpha) with the
step sizes of the theory, and alpha with those of the critical scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_gp.mean_ode import scales
from resnet_gp.mean_ode.estimates import distance_check, mean_check
from resnet_gp.mean_ode.training_lab import Measured, TrainingLab
from resnet_gp.mean_ode.units import even_units
from resnet_gp.report.fits import Array
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, size_axes

DIMENSIONS = (10, 31, 100)
M = 16
POWERS = (-0.5, 0.0, 0.5)  # of D, in alpha
NAMES = ("1/(LM)", "√D/(LM)", "D/(LM)")
GROUP = "movement of features against D, after one step"


@dataclass(frozen=True)
class DimensionResult(ExperimentResult):
    """Root mean square movement of U's entries."""

    steps: tuple[int, ...]
    moved: Array  # draws x dimensions x steps x scales
    fixed_rate: Array  # one step at the critical scale's step sizes, draws x dimensions x scales

    name = "dimension"
    title = "Which scale learns features in every dimension?"
    theorem = "Chizat 2025, residual scale"
    summary = (
        "Movement of U after one step, with the step sizes of the theory and with those of the "
        "critical scale. At √D/(LM) it stays of order one. Relative to that, it falls like 1/√D at "
        "the other scales, or grows like √D with fixed step sizes. After many steps this still "
        "holds at D/(LM). At 1/(LM) it holds in the first steps only: alpha V grows at a rate of "
        "order one from its small start, and features follow some tens of steps later, as the "
        "last panel shows."
    )
    panels = (1, 4)

    def draw(self, axes: Axes) -> None:
        panels = (
            ("one step", self.moved[:, :, 0]),
            ("one step, critical step sizes", self.fixed_rate),
            (f"{self.steps[-1]} steps", self.moved[:, :, -1]),
        )
        for axis, (title, moved) in zip(axes[:3], panels, strict=True):
            for k, name in enumerate(NAMES):
                mean = moved[:, :, k].mean(0)
                style = {"marker": "os^"[k], "ms": 8 - 2 * k, "color": COLOURS[k]}
                axis.plot(DIMENSIONS, mean, label=name, **style)
            size_axes(axis, DIMENSIONS, "D", title=title, ylabel="movement of U")
        axes[0].legend(frameon=False, fontsize=8)
        largest, movement = DIMENSIONS[-1], self.moved[:, -1].mean(0)
        for k in range(len(NAMES)):
            relative = movement[:, k] / movement[:, 1]
            axes[3].plot(self.steps, relative, "os^"[k] + "-", color=COLOURS[k])
        axes[3].axhline(largest**-0.5, color="black", lw=0.8, ls=":")
        title = f"D = {largest}; dotted: 1/√D"
        size_axes(axes[3], self.steps, "steps", title=title, ylabel="relative to √D/(LM)")


def run(lab: TrainingLab) -> DimensionResult:
    steps = lab.size((1, 2, 5, 10, 20, 50), (1, 20))
    kept = lab.keep_all(_measure, {f"dimension-{D}": (D, steps) for D in reversed(DIMENSIONS)})
    moved = np.stack([one["moved"] for one in kept[::-1]], 1)
    first, last = moved[:, :, 0], moved[:, :, -1]
    fixed = first * np.array([_rate_ratio(D) for D in DIMENSIONS])
    small, critical, large = (last[:, :, k] for k in range(3))
    one_step = (
        ("one step:", first, 0, -0.5),
        ("one step:", first, 2, -0.5),
        ("critical step sizes:", fixed, 0, -0.5),
        ("critical step sizes:", fixed, 2, 0.5),
    )
    checks = [
        mean_check(
            f"{what} {NAMES[k]} over √D/(LM)", _slopes(own[:, :, k] / own[:, :, 1]), target,
            group=GROUP,
        )
        for what, own, k, target in one_step
    ] + [
        distance_check("|slope| in D at √D/(LM) after all steps", _slopes(critical), 0.0, 0.15),
        mean_check("slope in D at D/(LM) after all steps", _slopes(large), -0.25, "at most"),
        mean_check(
            "slope in D at √D/(LM) over 1/(LM) after all steps", _slopes(critical / small), 0.25,
            "at most",
        ),
    ]  # fmt: skip
    return DimensionResult(tuple(checks), steps, moved, fixed)


def _measure(lab: TrainingLab, D: int, steps: tuple[int, ...]) -> Measured:
    """Movements of U after each number of steps, ``draws x steps x scales``."""
    draws, L = lab.size((10, 128), (4, 32))
    alphas = np.array([float(D**power) for power in POWERS])
    data = [lab.data(draw, D) for draw in range(draws) for _ in alphas]
    found = []
    for count in steps:
        runs = lab.train("dimension", data, M, L, count, np.tile(alphas, draws), even_units)
        found.append(runs.movement.reshape(draws, len(alphas)) / alphas)
    return {"moved": np.stack(found, 1)}


def _rate_ratio(D: int) -> list[float]:
    """Step size of U at the critical scale over that at each scale: the movements' ratio."""
    critical, _ = scales.learning_rates(1.0, D, M, 1)
    return [critical / scales.learning_rates(float(D**power), D, M, 1)[0] for power in POWERS]


def _slopes(moved: Array) -> Array:
    """Slope of the logarithm in log D, for each draw."""
    return np.polyfit(np.log(DIMENSIONS), np.log(moved).T, 1)[0]
