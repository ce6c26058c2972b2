"""Results, and how the pages write numbers and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from harness import RESULTS, Cell, Cells

MINUS = str.maketrans("-", "\N{MINUS SIGN}")
COVERAGE = "in 90 % interval"


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def results(name: str) -> Cells:
    return Cells(RESULTS / f"{name}.json", ())


def paired(
    cells: Cells, kind: str, over: str, **fixed: Any
) -> tuple[int, Callable[[str, str], np.ndarray]]:
    """How many draws all kinds have finished, and the values of a kind's measure on those.

    Args:
        kind: the entry that names a model, or a way; it is the first argument of the values.
        over: the entry that numbers the draws, or splits.
        fixed: entries that all of these cells have.
    """
    own: dict[str, dict[int, Cell]] = {cell[kind]: {} for cell in cells.all}
    for cell in cells.where(**fixed):
        own[cell[kind]][cell[over]] = cell
    shared = sorted(set.intersection(*map(set, own.values())))
    return len(shared), lambda name, measure: np.array([own[name][i][measure] for i in shared])


def number(value: float, digits: int = 3, sign: str = "") -> str:
    """Format with this many significant digits, separated thousands and a typographic minus."""
    text = f"{value:{sign}.{digits}g}"
    if "e" in text and abs(value) >= 1:
        text = f"{value:{sign},.0f}"
    return text.translate(MINUS)


def difference(values: np.ndarray) -> str:
    """Mean and standard error, rounded by the size of the error."""
    if len(values) < 2:
        return number(float(values.mean()), 2, "+")
    error = values.std(ddof=1) / len(values) ** 0.5
    places = max(0, 1 - int(np.floor(np.log10(error)))) if error > 0 else 2
    return f"{values.mean():+.{places}f} ± {error:.{places}f}".translate(MINUS)


def percent(value: float, places: int = 1) -> str:
    return f"{value:.{places}%}".replace("%", " %")


def p_value(p: float | None) -> str:
    """Format a p-value: below a tenth, to one digit."""
    if p is None:
        return ""
    return f"{p:.1g}".replace("e-0", "e-") if p < 0.1 else f"{p:.2f}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """A Markdown table; all columns but the first ``text`` ones hold numbers."""
    rule = ["---"] * text + ["--:"] * (len(headings) - text)
    lines = [headings, rule, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
