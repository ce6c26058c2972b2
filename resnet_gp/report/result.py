"""The result of an experiment, and the style of its figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from resnet_gp.report.checks import Check

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Axes: TypeAlias = Sequence[Any]  # of matplotlib, all panels row by row

COLOURS = ("#0b5fa5", "#d1495b", "#2e8b57", "#8a5fbf", "#c77d00", "#4d4d4d", "#00838f", "#ad1457")


@dataclass(frozen=True)
class ExperimentResult:
    """The checks of an experiment; subclasses add its numbers and draw its figure."""

    name: ClassVar[str]
    title: ClassVar[str]
    theorem: ClassVar[str]
    summary: ClassVar[str]
    panels: ClassVar[tuple[int, int]] = (1, 1)  # rows and columns of the figure
    panel_height: ClassVar[float] = 3.6  # inches

    checks: tuple[Check, ...]

    def draw(self, axes: Axes) -> None:
        """Draw the result."""
        raise NotImplementedError

    def plot(self) -> Figure:
        """Return the result as a matplotlib figure."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows, columns = self.panels
        figure = Figure((4.2 * columns, self.panel_height * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(alpha=0.25, linewidth=0.6)
        self.draw(axes)
        return figure


def size_axes(axis: Any, sizes: Sequence[int], label: str, **settings: Any) -> None:
    """Give `axis` logarithmic scales, with ticks at these widths or depths, and other settings."""
    axis.set(**{"xscale": "log", "yscale": "log", "xlabel": label} | settings)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_xticks([], minor=True)


def points(
    axis: Any, x: ArrayLike, values: ArrayLike, errors: ArrayLike, colour: int = 0, **style: Any
) -> None:
    """Plot values with bars of two standard errors, in one of ``COLOURS``."""
    bars = 2 * np.asarray(errors)
    axis.errorbar(x, values, bars, **{"fmt": "o", "ms": 4, "color": COLOURS[colour]} | style)


def guide(axis: Any, x: ArrayLike, start: float, slope: float = -1, **style: Any) -> None:
    """Draw the power law that is `start` at the first x."""
    sizes = np.asarray(x, float)
    style = {"color": "black", "lw": 0.8, "label": f"slope {slope:g}"} | style
    axis.plot(sizes, start * (sizes / sizes[0]) ** slope, **style)
