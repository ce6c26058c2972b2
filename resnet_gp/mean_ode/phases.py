"""Experiment d: the phase diagram over alpha, from 1e-2 to 1e2."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_gp.mean_ode.estimates import draws_check, factor_check, mean_and_error
from resnet_gp.mean_ode.lab import Array, Lab, Measured
from resnet_gp.mean_ode.scales import LAZY_FROM
from resnet_gp.verification.checks import Check
from resnet_gp.verification.result import COLOURS, Result, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

M = 10
STEPS = 50
SEEDS = 2  # for each data draw
FACTOR = 1.5  # between our constants and the reported ones
MOVEMENT, SPREAD = 3.0, 0.3  # reported: min(3, 3 / alpha), and 0.3 alpha √D / √(LM)


@dataclass(frozen=True)
class PhasesResult(Result):
    """Arrays are ``dimensions x alphas``: root mean squares over draws."""

    alphas: Array
    dimensions: tuple[int, ...]
    units: int  # LM
    spread: Array
    movement: Array  # of U
    loss: Array
    boundaries: Array  # alpha = sqrt(LM / D), dimensions
    spread_constant: float  # of alpha sqrt(D) / sqrt(LM)

    name = "phases"
    title = "The phase diagram"
    theorem = "Chizat 2025, experiments"
    summary = (
        "Spread of the output over seeds, movement of U and loss after 50 steps. Complete feature "
        "learning is near alpha = 1; beyond 3 U moves like 3/alpha, the lazy phase; beyond "
        "√(LM/D), marked by a line for each D, blocks swamp the input at the start and the theory "
        "says nothing. Dotted: the reported fits of spread and movement."
    )

    def plot(self) -> Figure:
        figure, axes = new_figure(3, height=4.0)
        panels = (
            ("spread of the output", self.spread),
            ("movement of U", self.movement),
            ("loss after training", self.loss),
        )
        for axis, (name, values) in zip(axes, panels, strict=True):
            self._shade(axis)
            for k, D in enumerate(self.dimensions):
                axis.plot(self.alphas, values[k], "o-", ms=3, color=COLOURS[k], label=f"D = {D}")
                axis.axvline(self.boundaries[k], color=COLOURS[k], lw=0.8, ls="--")
            axis.set(xscale="log", yscale="log", xlabel="alpha", ylabel=name)
            axis.margins(x=0)
        for k, D in enumerate(self.dimensions):
            axes[0].plot(
                self.alphas, reported_spread(self.alphas, D, self.units), ":", color=COLOURS[k]
            )
        axes[1].plot(self.alphas, np.minimum(MOVEMENT, MOVEMENT / self.alphas), "k:")
        axes[0].legend(frameon=False, fontsize=8)
        return figure

    def _shade(self, axis: Any) -> None:
        """Bands of the phases; outside the theory begins at the middle dimension's boundary."""
        outside = float(np.median(self.boundaries))
        ends = (1 / LAZY_FROM, LAZY_FROM, outside, float(self.alphas.max()))
        names = ("complete", "lazy", "outside")
        for k, name in enumerate(names):
            axis.axvspan(ends[k], ends[k + 1], color=COLOURS[(2, 0, 1)[k]], alpha=0.07, lw=0)
            middle = math.sqrt(ends[k] * ends[k + 1])
            axis.text(
                middle,
                1.01,
                name,
                transform=axis.get_xaxis_transform(),
                ha="center",
                fontsize=8,
            )


def reported_spread(alpha: Array, D: int, units: int) -> Array:
    """((0.05 + 0.3 alpha) sqrt(D) + 0.4) / sqrt(LM) (Chizat 2025, experiments)."""
    return ((0.05 + 0.3 * alpha) * math.sqrt(D) + 0.4) / math.sqrt(units)


def draws(lab: Lab) -> dict[int, int]:
    """Data draws for each D, the largest first: fewer where each takes longest."""
    return lab.size({100: 6, 31: 10, 10: 10}, {31: 2, 10: 4})


def run(lab: Lab) -> PhasesResult:
    """Experiment d."""
    alphas = np.geomspace(1e-2, 1e2, lab.size(20, 9))
    L = lab.size(1000, 100)
    counts = draws(lab)
    parts = {
        f"phases-{D}-{draw}": (D, draw, L, alphas)
        for D, count in counts.items()
        for draw in range(count)
    }
    measured = iter(lab.keep_all(_measure, parts))
    by_dimension = {D: list(itertools.islice(measured, count)) for D, count in counts.items()}
    kept = {D: _stack(by_dimension[D]) for D in sorted(counts)}
    boundaries = np.array([math.sqrt(L * M / D) for D in kept])
    spread, movement, loss = (
        np.array([one[key].mean(1) for one in kept.values()])
        for key in ("spread", "movement", "loss")
    )
    constant, checks = _checks(alphas, boundaries, kept, L * M)
    return PhasesResult(
        checks,
        alphas,
        tuple(kept),
        L * M,
        np.sqrt(spread),
        np.sqrt(movement),
        loss,
        boundaries,
        constant,
    )


def _stack(by_draw: list[Measured]) -> Measured:
    """``alphas x draws``."""
    return {key: np.stack([one[key] for one in by_draw], 1) for key in by_draw[0]}


def _measure(lab: Lab, D: int, draw: int, L: int, alphas: Array) -> Measured:
    """Mean squares and losses on one data draw, one for each alpha."""
    repeated = np.repeat(alphas, SEEDS)
    data = [lab.data(draw, D)] * len(repeated)
    runs = lab.train(f"phases-{draw}", data, M, L, STEPS, repeated)
    output = runs.output.reshape(len(alphas), SEEDS, -1)
    moved = (runs.movement_U / repeated) ** 2
    return {
        "spread": output.var(1, ddof=1).mean(1),
        "movement": moved.reshape(-1, SEEDS).mean(1),
        "loss": runs.loss.reshape(-1, SEEDS).mean(1),
    }


def _checks(
    alphas: Array, boundaries: Array, kept: dict[int, Measured], units: int
) -> tuple[float, tuple[Check, ...]]:
    """The spread's constant in the lazy phase, and movements against the reported ones."""
    constants, lazy, slopes, small = [], [], [], []
    for boundary, (D, one) in zip(boundaries, kept.items(), strict=True):
        inside = (alphas >= LAZY_FROM) & (alphas < 0.9 * boundary)  # well inside
        if not inside.any():
            continue
        alpha, moved = alphas[inside, None], np.sqrt(one["movement"])
        constants += list(np.sqrt(np.mean(one["spread"][inside] * units / (alpha**2 * D), 0)))
        lazy += list((moved[inside] * alpha).mean(0))
        small += list(moved[alphas <= 1].mean(0))
        if inside.sum() > 1:
            slopes += list(np.polyfit(np.log(alpha[:, 0]), np.log(moved[inside]), 1)[0])
    mean, _ = mean_and_error(constants)
    checks = (
        _factor_check("spread over alpha √D / √(LM), lazy phase", constants, SPREAD),
        _factor_check("movement of U for alpha up to 1", small, MOVEMENT),
        _factor_check("movement of U times alpha, lazy phase", lazy, MOVEMENT),
        *_slope_check(slopes),
    )
    return mean, checks


def _slope_check(slopes: list[float]) -> list[Check]:
    """Of the movement in the lazy phase: -1, up to what alpha^-2 and the noise of the start add."""
    if not slopes:
        return []
    mean, error = mean_and_error(slopes)
    name = f"slope of U's movement in alpha, lazy phase, {mean:.3f}: distance from -1"
    return [draws_check(name, abs(mean + 1), error, 0.15, len(slopes), "at most")]


def _factor_check(name: str, values: list[float], target: float) -> Check:
    mean, error = mean_and_error(values)
    return factor_check(name, mean, error, target, FACTOR, len(values))
