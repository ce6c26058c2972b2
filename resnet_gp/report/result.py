"""What an experiment hands back, and the look of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from resnet_gp.report.checks import Check

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0b5fa5", "#d1495b", "#2e8b57", "#8a5fbf", "#c77d00", "#4d4d4d", "#00838f", "#ad1457")


@dataclass(frozen=True)
class Result:
    """The outcome of an experiment: its checks, and in subclasses its numbers and its figure."""

    name: ClassVar[str]
    title: ClassVar[str]
    theorem: ClassVar[str]
    summary: ClassVar[str]

    checks: tuple[Check, ...]

    def plot(self) -> Figure:
        """The result as a matplotlib figure."""
        raise NotImplementedError


def new_figure(columns: int, rows: int = 1, height: float = 3.6) -> tuple[Figure, Sequence[Any]]:
    """A figure with its axes in one flat list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def size_axis(axis: Any, sizes: Sequence[int], label: str) -> None:
    """A logarithmic x axis with ticks at these widths or depths."""
    axis.set_xscale("log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_xticks([], minor=True)
    axis.set_xlabel(label)
