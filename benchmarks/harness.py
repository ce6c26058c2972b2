"""Shared by the benchmarks: options, cells that are saved as they come, times, peaks, tables.

A benchmark asks one question. Its answer is a list of cells, each a flat dictionary. They are saved
one by one, so that a run that was stopped, by hand or by ``--seconds``, can resume.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from regression_sets import DataSet
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

HERE = Path(__file__).parent
RESULTS = HERE / "results"
IMAGES = HERE.parent / "docs" / "images"
Cell = dict[str, Any]


def parser_of(doc: str | None, data: str = "", resumes: bool = False) -> argparse.ArgumentParser:
    """The argument parser of a script.

    Args:
        doc: the script's documentation; ``--help`` shows its first line.
        data: the contents of the folder ``--data``, if the benchmark reads one.
        resumes: the script resumes a run, and so can be stopped by ``--seconds``.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, nothing saved")
    parser.add_argument("--out", type=Path, help="where to save; default: in results/")
    if resumes:
        parser.add_argument("--seconds", type=float, help="start no cell after this time")
    if data:
        parser.add_argument("--data", type=Path, help=f"folder of {data}")
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; exit with an error where ``--data`` is needed and missing."""
    options = parser.parse_args(arguments)
    if "data" in options and options.data is None and not options.quick:
        parser.error("--data or --quick is needed")
    return options


def output(options: argparse.Namespace, name: str) -> Path | None:
    """The file of the results: ``--out``, else results/NAME.json; None with ``--quick``."""
    if options.out or options.quick:
        return options.out
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{name}.json"


class Cells:
    """Cells by their key, in a file with one line for each.

    Args:
        path: None to keep them in memory only. An existing file is read. Long cells belong in a
            .jsonl file, to which lines are appended.
        key: the entries that identify a cell.
    """

    def __init__(self, path: Path | None, key: Sequence[str]) -> None:
        self.path, self.key, self.all = path, tuple(key), list[Cell]()
        self.appends = path is not None and path.suffix == ".jsonl"
        if path and path.exists():
            text = path.read_text()
            self.all = (
                list(map(json.loads, text.splitlines())) if self.appends else json.loads(text)
            )

    def keys(self) -> set[tuple[Hashable, ...]]:
        return {tuple(cell[name] for name in self.key) for cell in self.all}

    def add(self, cells: Sequence[Cell]) -> None:
        """Add cells and save them; a .json file is replaced in one step."""
        self.all += cells
        if self.path and self.appends:
            with self.path.open("a") as file:
                file.writelines(json.dumps(cell) + "\n" for cell in cells)
        elif self.path:
            lines = ",\n".join(json.dumps(cell) for cell in self.all)
            part = self.path.with_suffix(".part")
            part.write_text(f"[\n{lines}\n]\n")
            part.replace(self.path)

    def where(self, **fixed: Any) -> list[Cell]:
        return [cell for cell in self.all if all(cell.get(name) == v for name, v in fixed.items())]

    def values(self, measure: str, **fixed: Any) -> np.ndarray:
        return np.array([cell[measure] for cell in self.where(**fixed) if measure in cell], float)


def fill(
    cells: Cells,
    todo: Sequence[tuple[Any, ...]],
    measure: Callable[..., Cell | list[Cell] | Iterator[Cell]],
    seconds: float | None = None,
    key: Callable[..., tuple[Any, ...]] = lambda *work: work,
) -> Cells:
    """Measure the missing cells, with a progress bar, saving after each.

    Args:
        cells: the cells measured so far.
        todo: the arguments of each measurement.
        measure: returns a cell, a list of cells that belong together, or an iterator whose cells
            are saved as they come.
        seconds: no measurement starts, and no iterator goes on, after this time.
        key: the key of a measurement's cells, from its arguments.
    """
    done = cells.keys()
    left = [work for work in todo if key(*work) not in done]
    end = math.inf if seconds is None else time.monotonic() + seconds
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(left))
        for work in left:
            if time.monotonic() > end:
                break
            progress.update(task, description=" ".join(map(str, key(*work))))
            for part in _parts(measure(*work)):
                cells.add(part)
                if time.monotonic() > end:
                    break
            progress.advance(task)
    if time.monotonic() > end:
        print(f"{seconds:.0f} seconds are over; the same command goes on with what is left")
    return cells


def _parts(found: Cell | list[Cell] | Iterator[Cell]) -> Iterable[list[Cell]]:
    """The cells that are saved together."""
    if isinstance(found, dict):
        return [[found]]
    return [found] if isinstance(found, list) else ([cell] for cell in found)


def in_turns(ways: dict[str, Callable[[int], object]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each call; the ways take turns in every repeat, after an untimed round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way(repeat)
            if repeat:
                taken[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in taken.items()}


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Call the function; return its result and the seconds it took."""
    start = time.perf_counter()
    found = function()
    return found, time.perf_counter() - start


def in_own_process(script: str, *arguments: object, threads: int | None = None) -> Any:
    """Run a script in a process of its own, and return the JSON of its last line."""
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def seconds_printed(code: str, **environment: str) -> float:
    """The number in the last line that some Python code prints in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    return float(found.stdout.split()[-1])


def processor() -> str:
    """The model's name and, since virtual machines hide it, its numbers, from Linux if it says."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    lines = (line.partition(":")[::2] for line in text.splitlines())
    facts = {key.strip(): value.strip() for key, value in lines}
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return ", ".join([facts.get("model name", platform.processor()), *numbers])


def high_water_mark() -> int:
    """Peak resident bytes of this process (Linux; getrusage would count the parent's as well)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def save(result: object, path: Path | None) -> None:
    """Write the result as JSON, if there is a path."""
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")


def print_table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1
) -> None:
    """Print a table, its first columns aligned left and the others right."""
    table = Table(title=title)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right")
    for row in rows:
        table.add_row(*map(str, row))
    console = Console()
    if not console.is_terminal:  # files need no line breaks
        console.width = Console(width=1000).measure(table).maximum
    console.width = max(100, console.width)
    console.print(table)


def mean_and_error(values: np.ndarray, form: str = ".4g") -> str:
    """Mean and, of more than one value, standard error, as text."""
    mean = f"{values.mean():{form}}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {values.std(ddof=1) / np.sqrt(len(values)):.2g}"


def subplots(size: tuple[float, float], rows: int = 1, columns: int = 1, **shared: Any) -> Any:
    """A figure of this size in inches that needs no display, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **shared)


def simulated(n: int, n_test: int = 0, splits: int = 1) -> DataSet:
    """A smooth function of three features with noise of deviation 0.1, in random splits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=n)
    orders = [rng.permutation(n) for _ in range(splits)]
    return DataSet("simulated", X, y, [(order[n_test:], order[:n_test]) for order in orders])
