"""The phase diagram over alpha, from 1e-2 to 1e2.

Spread is compared with the paper's at N = D, as fewer samples are fitted quickly, which shrinks it;
movement at N = 10, where 50 steps are enough at small alpha too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from resnet_gp.mean_ode.estimates import distance_check, factor_check
from resnet_gp.mean_ode.scales import LAZY_FROM
from resnet_gp.mean_ode.training_lab import SAMPLES, Measured, TrainingLab
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, mean_and_error
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult

Setting: TypeAlias = tuple[int, int]  # D and N

M = 10
STEPS = 50
SEEDS = 2  # per data draw
FACTOR = 1.5  # allowed between our constants and the paper's
INSIDE = 0.9  # checks stay below this fraction of the boundary of the theory
SLOPE = "slope of U's movement in alpha, lazy phase, {:.3f}: distance from -1"
MOVEMENT, SPREAD = 3.0, 0.3  # the paper: min(3, 3 / alpha), and 0.3 alpha √D / √(LM)


@dataclass(frozen=True)
class PhasesResult(ExperimentResult):
    """Arrays are ``settings x alphas``: root mean squares over draws."""

    alphas: Array
    settings: tuple[Setting, ...]
    units: int  # LM
    spread: Array
    spread_over_reported: Array
    movement: Array  # of U
    loss: Array
    boundaries: Array  # alpha = sqrt(LM / D), settings

    name = "phases"
    title = "The phase diagram"
    theorem = "Chizat 2025, experiments"
    summary = (
        "Spread of the output over seeds, movement of U and loss after 50 steps. Complete feature "
        "learning is near alpha = 1. Beyond 3, the lazy phase, U moves like 3/alpha. Beyond "
        "√(LM/D), a dashed line for each D, the blocks exceed the input at the start and the "
        "theory does not apply. Dotted: the paper's fits of spread and movement. The spread agrees "
        "with N = D samples (circles); ten samples (crosses) are fitted quickly in large "
        "dimensions, which shrinks it. At small alpha and large N = D, U has not yet moved after "
        "50 steps."
    )
    panels = (1, 3)
    panel_height = 4.0

    def draw(self, axes: Axes) -> None:
        colours = dict(zip(sorted({D for D, _ in self.settings}), COLOURS, strict=False))
        panels = (
            ("spread of the output", self.spread),
            ("movement of U", self.movement),
            ("loss after training", self.loss),
        )
        for axis, (name, values) in zip(axes, panels, strict=True):
            self._shade(axis)
            for row, (D, N), end in zip(values, self.settings, self.boundaries, strict=True):
                style = {"ms": 3, "lw": 1, "color": colours[D], "label": f"D = {D}, N = {N}"}
                axis.plot(self.alphas, row, "o-" if N == D else "x--", **style)
                axis.axvline(end, color=colours[D], lw=0.8, ls="--")
            axis.set(xscale="log", yscale="log", xlabel="alpha", ylabel=name)
            axis.margins(x=0)
        for D, colour in colours.items():
            axes[0].plot(
                self.alphas, reported_spread(self.alphas, D, self.units), ":", color=colour
            )
        axes[1].plot(self.alphas, reported_movement(self.alphas), "k:")
        axes[0].legend(frameon=False, fontsize=8)

    def _shade(self, axis: Any) -> None:
        """Shade the phases; the theory ends at the boundary of the middle dimension."""
        outside = float(np.median(self.boundaries))
        ends = (1 / LAZY_FROM, LAZY_FROM, outside, float(self.alphas.max()))
        names = ("complete", "lazy", "outside")
        for k, name in enumerate(names):
            axis.axvspan(ends[k], ends[k + 1], color=COLOURS[(2, 0, 1)[k]], alpha=0.07, lw=0)
            middle = math.sqrt(ends[k] * ends[k + 1])
            place = axis.get_xaxis_transform()
            axis.text(middle, 1.01, name, transform=place, ha="center", fontsize=8)


def reported_spread(alpha: Array, D: int, units: int) -> Array:
    """((0.05 + 0.3 alpha) sqrt(D) + 0.4) / sqrt(LM) (Chizat 2025, experiments)."""
    return ((0.05 + 0.3 * alpha) * math.sqrt(D) + 0.4) / math.sqrt(units)


def reported_movement(alpha: Array) -> Array:
    """min(3, 3 / alpha) (Chizat 2025, experiments)."""
    return np.minimum(MOVEMENT, MOVEMENT / alpha)


def draws(lab: TrainingLab) -> dict[Setting, int]:
    """Number of data draws for each D and N, the slowest settings first."""
    full = {(100, 100): 2, (100, 10): 2, (31, 31): 5, (31, 10): 3, (10, 10): 10}
    return lab.size(full, {(31, 31): 2, (10, 10): 4})


def run(lab: TrainingLab) -> PhasesResult:
    alphas = np.geomspace(1e-2, 1e2, lab.size(20, 7))
    L = lab.size(1000, 100)
    counts = draws(lab)
    parts = {
        f"phases-{D}-{N}-{draw}": (D, N, draw, L, alphas)
        for (D, N), count in counts.items()
        for draw in range(count)
    }
    measured = iter(lab.keep_all(_measure, parts))
    stacked = {one: _stack(itertools.islice(measured, count)) for one, count in counts.items()}
    kept = {one: stacked[one] for one in sorted(counts)}
    boundaries = np.array([math.sqrt(L * M / D) for D, _ in kept])
    spread, movement, loss = (
        np.array([one[key].mean(1) for one in kept.values()])
        for key in ("spread", "movement", "loss")
    )
    reported = np.array([reported_spread(alphas, D, L * M) for D, _ in kept])
    return PhasesResult(
        _checks(alphas, boundaries, kept, L * M),
        alphas,
        tuple(kept),
        L * M,
        np.sqrt(spread),
        np.sqrt(spread) / reported,
        np.sqrt(movement),
        loss,
        boundaries,
    )


def _stack(by_draw: Iterable[Measured]) -> Measured:
    """Stack measurements into arrays ``alphas x draws``."""
    rows = list(by_draw)
    return {key: np.stack([one[key] for one in rows], 1) for key in rows[0]}


def _measure(lab: TrainingLab, D: int, N: int, draw: int, L: int, alphas: Array) -> Measured:
    """Mean squares and losses on one data draw, for each alpha."""
    name, repeated = f"phases-{N}-{draw}", np.repeat(alphas, SEEDS)
    X, Y = lab.rng(f"{name}-data", D).standard_normal((2, N, D))
    runs = lab.train(name, [(X, Y)] * len(repeated), M, L, STEPS, repeated)
    output = runs.output.reshape(len(alphas), SEEDS, -1)
    moved = (runs.movement / repeated) ** 2
    return {
        "spread": output.var(1, ddof=1).mean(1),
        "movement": moved.reshape(-1, SEEDS).mean(1),
        "loss": runs.loss.reshape(-1, SEEDS).mean(1),
    }


def _checks(
    alphas: Array, boundaries: Array, kept: dict[Setting, Measured], units: int
) -> tuple[Check, ...]:
    """Check spread and movement against the paper's, with one value for each draw."""
    constants, ratios, lazy, slopes, small = [], [], [], [], []
    for boundary, ((D, N), one) in zip(boundaries, kept.items(), strict=True):
        below = alphas < INSIDE * boundary
        inside = below & (alphas >= LAZY_FROM)
        alpha, moved = alphas[inside, None], np.sqrt(one["movement"])
        if N == D:
            spread = np.sqrt(one["spread"])
            reported = reported_spread(alphas, D, units)[:, None]
            ratios += list(np.exp(np.log(spread / reported)[below].mean(0)))
            over = (one["spread"] * units)[inside] / (alpha**2 * D)
            constants += list(np.sqrt(over.mean(0))) if inside.any() else []
        if N == SAMPLES:
            small += list(moved[alphas <= 1].mean(0))
        if inside.any():
            lazy += list((moved[inside] * alpha).mean(0))
        if inside.sum() > 1:
            slopes += list(np.polyfit(np.log(alpha[:, 0]), np.log(moved[inside]), 1)[0])
    return (
        _factor_check("spread over the paper's fit, N = D", ratios, 1.0),
        _factor_check("spread over alpha √D / √(LM), lazy phase, N = D", constants, SPREAD),
        _factor_check("movement of U for alpha up to 1, N = 10", small, MOVEMENT),
        _factor_check("movement of U times alpha, lazy phase", lazy, MOVEMENT),
        *([distance_check(SLOPE, slopes, -1.0, 0.15)] if slopes else []),
    )


def _factor_check(name: str, values: list[float], target: float) -> Check:
    return factor_check(name, *mean_and_error(values), target, FACTOR, len(values))
