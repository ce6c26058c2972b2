"""How accurate are the maps of the correlation, and how many terms do they need?

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --quick          # fewer horizons, nothing saved

For ReLU, in float64 and float32: compares c_T, its derivative in c_0 and the residual blocks' part
of the tangent kernel with solutions to 25 digits (tests/fixtures/relu_flow.csv), and the derivative
with the formula F(c_T) / F(c_0) evaluated from the correlations. Counts the terms of Chebyshev
series of the flow in three variables. Writes results/accuracy.json and docs/images/accuracy.png,
and prints the tables of docs/numerics.md.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import numpy as np
import torch
from harness import HERE, IMAGES, output, parser_of, save, subplots
from mpmath import mpf

from resnet_gp.flow.angles import flow_angle
from resnet_gp.flow.correlation import flow_and_slopes
from resnet_gp.flow.depth import DepthMap, depth_map
from resnet_gp.flow.table import chebyshev_transform, horizon_table

FIGURE = IMAGES / "accuracy.png"
SOLUTIONS = HERE.parent / "tests" / "fixtures" / "relu_flow.csv"
DTYPES = (torch.float64, torch.float32)
HORIZONS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
BLOCKS = DepthMap(layers="blocks")
GOAL = 1e-13
NODES = (64, 256, 1024, 4096)
_FLOOR, _CEILING = 1e-18, 10.0  # of the figure


class Solution(NamedTuple):
    """One pair at one horizon; ``blocks`` is per unit of variance."""

    gap: mpf
    angle: float
    c: mpf
    slope: mpf
    blocks: mpf


def solutions() -> dict[float, list[Solution]]:
    """The stored solutions of each horizon, in the order of the angle."""
    found: dict[float, list[Solution]] = {}
    with SOLUTIONS.open() as lines, mpmath.workdps(40):
        for row in csv.DictReader(lines):
            c0, horizon = mpf(row["c0"]), mpf(row["T"])
            one = Solution(
                1 - c0,
                float(mpmath.acos(c0)),
                mpf(row["c_T"]),
                mpf(row["dcT_dc0"]),
                mpf(row["ntk_hidden"]) / mpmath.exp(horizon / 2),
            )
            found.setdefault(float(horizon), []).append(one)
    return {horizon: sorted(rows, key=lambda one: one.angle) for horizon, rows in found.items()}


def errors(horizon: float, rows: list[Solution], dtype: torch.dtype) -> dict[str, list[float]]:
    """Relative errors of 1 - c_T, the derivative and the blocks' part; absolute errors of c_T.

    The blocks' part is relative to its value at c_0 = 1, T / 2. The formula by angles is 0 / 0 at
    c_0 = 1: that entry is left out.
    """
    gap = torch.tensor([float(row.gap) for row in rows], dtype=torch.float64).to(dtype)
    time = torch.tensor(horizon, dtype=dtype)
    gap_end, slope, _ = flow_and_slopes(gap, time)
    blocks = depth_map(gap, time, BLOCKS)
    by_angles = slope_by_angles(rows, dtype)
    columns = zip(
        rows, *(part.tolist() for part in (1 - gap_end, gap_end, slope, blocks, by_angles)),
        strict=True,
    )  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in ("c", "gap", "slope", "blocks", "naive")}
    with mpmath.workdps(40):
        for row, c, end, rate, part, naive in columns:
            found["c"].append(float(abs(c - row.c)))
            found["gap"].append(float(abs(end - (1 - row.c)) / (1 - row.c)) if row.gap else 0.0)
            found["slope"].append(float(abs(rate - row.slope) / row.slope))
            found["blocks"].append(float(abs(part - row.blocks) / (horizon / 2)))
            if row.gap:
                error = abs(naive - row.slope) / row.slope if math.isfinite(naive) else math.inf
                found["naive"].append(float(error))
    return found


def slope_by_angles(rows: list[Solution], dtype: torch.dtype) -> torch.Tensor:
    """F(c_T) / F(c_0) by the arccosine of exact correlations, rounded once."""

    def speed(c: torch.Tensor) -> torch.Tensor:
        angle = c.acos()
        return angle.sin() - angle * c

    ends = [
        torch.tensor([float(value) for value in column], dtype=torch.float64).to(dtype)
        for column in ([row.c for row in rows], [1 - row.gap for row in rows])
    ]
    return speed(ends[0]) / speed(ends[1])


def terms(horizon: float) -> dict[str, int | None]:
    """Terms of the tables, and of Chebyshev series of c_T in theta_0 and in c_0 to ``GOAL``."""
    table = horizon_table(torch.tensor(horizon, dtype=torch.float64), torch.float64)
    return {
        "table": int((table.polynomial.coefficients != 0).sum()),
        "theta": series_terms(lambda s: np.cos(flow_angle(math.pi * s, horizon))),
        "c": series_terms(lambda s: np.cos(flow_angle(np.arccos(2 * s - 1), horizon))),
    }


def series_terms(function: Callable[[np.ndarray], np.ndarray]) -> int | None:
    """Terms above ``GOAL`` of a function of s in [0, 1]; None if there are thousands."""
    for nodes in NODES:
        phase = math.pi * (np.arange(nodes) + 0.5) / nodes
        row = np.abs(chebyshev_transform(function(np.cos(phase / 2) ** 2)))
        count = int(np.nonzero(row > GOAL)[0][-1]) + 1
        if count < 3 * nodes // 4:
            return count
    return None


def draw(found: dict[str, dict[float, dict[str, list[float]]]], angles: list[float]) -> None:
    figure, axes = subplots((9, 3.6), 1, 2, sharey=True)
    chosen = [horizon for horizon in (0.1, 1.0, 10.0, 50.0) if horizon in found["float64"]]
    for ax, (dtype, by_horizon) in zip(axes, found.items(), strict=True):
        for k, horizon in enumerate(chosen):
            colour, one = f"C{k}", by_horizon[horizon]
            x = angles[1:]  # without the angle 0
            table = np.maximum(one["slope"][1:], _FLOOR)
            ax.loglog(x, table, "o-", color=colour, ms=3, label=f"table, T = {horizon:g}")
            ax.loglog(x, np.minimum(one["naive"], _CEILING), ":", color=colour)
        ax.axhline(torch.finfo(getattr(torch, dtype)).eps, color="0.6", lw=0.8)
        ax.set_title(f"{dtype}; dotted: by arccos of the correlations")
        ax.set_xlabel("angle of the pair, radians")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("relative error of dc_T / dc_0")
    axes[0].set_ylim(_FLOOR, _CEILING)
    axes[1].legend(fontsize=8, loc="lower left")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main(arguments: list[str] | None = None) -> dict[str, object]:
    options = parser_of(__doc__).parse_args(arguments)
    known = solutions()
    if options.quick:
        known = {horizon: known[horizon] for horizon in (0.1, 10.0)}
    found = {
        str(dtype).removeprefix("torch."): {
            horizon: errors(horizon, rows, dtype) for horizon, rows in known.items()
        }
        for dtype in DTYPES
    }
    largest = {
        dtype: {
            f"{horizon:g}": {name: max(values) for name, values in one.items()}
            for horizon, one in by_horizon.items()
        }
        for dtype, by_horizon in found.items()
    }
    counts = {f"{h:g}": terms(h) for h in (HORIZONS[1:4] if options.quick else HORIZONS)}
    for dtype, rows in largest.items():
        print(f"largest errors over {len(next(iter(known.values())))} angles, {dtype}")
        print("| T | c_T | 1 - c_T, relative | dc_T/dc_0, relative | blocks | by arccos |")
        print("|---|---|---|---|---|---|")
        for horizon, one in rows.items():
            cells = (one[name] for name in ("c", "gap", "slope", "blocks", "naive"))
            print(f"| {horizon} | " + " | ".join(f"{value:.1e}" for value in cells) + " |")
    print(f"terms of Chebyshev series, of the tables to rounding, of c_T to {GOAL:g}")
    print("| T | table | c_T in theta_0 | c_T in c_0 |")
    print("|---|---|---|---|")
    for horizon, one in counts.items():
        cells = (one["table"], one["theta"], one["c"])
        print(f"| {horizon} | " + " | ".join(str(n or "thousands") for n in cells) + " |")
    result = {"largest errors": largest, "terms": counts}
    out = output(options, "accuracy")
    save(result, out)
    if not options.quick:
        draw(found, [row.angle for row in next(iter(known.values()))])
        print(f"wrote {out.name} and {FIGURE.name}")
    return result


if __name__ == "__main__":
    main()
