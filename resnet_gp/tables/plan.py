"""The plan of a fit: which columns become features, and which task it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.columns import CategoryColumn, Columns, NumberColumn
from resnet_gp.columns.values import columns_of
from resnet_gp.columns.wording import quoted, shortened
from resnet_gp.tables.kinds import choose_kinds
from resnet_gp.tables.reading import (
    TableError,
    check_column,
    separator_hint,
)
from resnet_gp.tables.schema import Schema
from resnet_gp.tables.target import choose_task
from resnet_gp.tables.tasks import Task

_FEWEST_ROWS = 5
_ENOUGH_ROWS = 2000  # out of fold: scores are then known to a few per cent
# Above it, predictions come from neighbours, and rows are left out one by one instead of in folds.
_ROWS_OF_FOLDS = 20_000


@dataclass(frozen=True)
class Plan:
    """A table, and the choices that a fit of it needs.

    Attributes:
        frame: numbers and categories, of the columns that vary.
        schema: how they are read from texts.
        columns: how all rows become features.
        unused: names of the columns that do not vary.
        truth: values of the target, floats or labels.
        seed: of the folds and of the estimators.
    """

    frame: Any
    schema: Schema
    columns: Columns
    unused: list[str]
    target: str
    truth: NDArray[Any]
    task: Task
    folds: int
    seed: int

    @property
    def leaves_rows_out(self) -> bool:
        """Whether left-out rows of one fit are predicted, and no folds are fitted."""
        return self.task.leaves_rows_out and len(self.truth) > _ROWS_OF_FOLDS

    @property
    def rows_left_out(self) -> NDArray[np.int64]:
        """The rows that are predicted then, in order: enough random ones."""
        order = np.random.default_rng(self.seed).permutation(len(self.truth))
        return np.sort(order[:_ENOUGH_ROWS])

    @property
    def folds_fitted(self) -> int:
        """Number of folds to fit: all of them up to 2000 rows, none where rows are left out."""
        if self.leaves_rows_out:
            return 0
        return min(self.folds, math.ceil(self.folds * _ENOUGH_ROWS / len(self.truth)))

    @property
    def steps(self) -> int:
        """Number of fits: the folds, and the one to all rows."""
        return self.folds_fitted + 1


def make_plan(
    frame: Any,
    target: str,
    *,
    task: str = "auto",
    folds: int = 5,
    seed: int = 0,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
) -> Plan:
    """Choose the task and the kinds of columns, and check the table and the options.

    Raises:
        TableError: the table or an option is refused.
    """
    if len(frame.columns) == 1:
        hint = separator_hint(list(frame.columns))
        raise TableError(
            f"there is one column only, {str(frame.columns[0])!r}{hint}", "--separator"
        )
    check_column(frame, target, "--target")
    for option, names in (("--drop", drop), ("--categorical", categorical)):
        for name in names:
            check_column(frame, name, option)
            if name == target:
                raise TableError(f"column {name!r} is the target", option)
    features = frame.drop(columns=[target, *drop])
    if not len(features.columns):
        raise TableError("no column is left beside the target", "--drop")
    if len(frame) < _FEWEST_ROWS:
        raise TableError(f"there are {len(frame)} rows: at least {_FEWEST_ROWS} are needed")
    kind, truth = choose_task(frame[target], task)
    _check_folds(kind, truth, folds)
    schema, unused = Schema.learn(features, choose_kinds(features, categorical))
    read = schema.read(features)
    columns = Columns.learn(columns_of(read))
    return Plan(read, schema, columns, unused, target, truth, kind, folds, seed)


def describe(plan: Plan) -> list[str]:
    """Describe in words how the columns are used."""
    columns = plan.columns
    sizes = {
        "row": len(plan.truth),
        "column": len(columns.parts),
        "feature": len(columns.feature_names),
    }
    counts = (f"{size} {word}{'' if size == 1 else 's'}" for word, size in sizes.items())
    lines = [f"{plan.task.name} of {plan.target!r}: {', '.join(counts)}"]
    categories = [part.name for part in columns.parts if isinstance(part, CategoryColumn)]
    if categories:
        lines.append(f"categories: {shortened(categories)}")
    for part in columns.parts:
        if isinstance(part, NumberColumn):
            lines += _describe_numbers(part, plan.frame[part.name])
    if plan.unused:
        lines.append(f"constant, not used: {quoted(plan.unused)}")
    if plan.leaves_rows_out:
        lines.append(
            f"more than {_ROWS_OF_FOLDS} rows: each prediction is made from its nearest rows; the "
            f"fit takes one to four minutes on two cores, then {_ENOUGH_ROWS} rows are left out "
            "one by one"
        )
    return lines


def _describe_numbers(part: NumberColumn, column: Any) -> list[str]:
    if part.missing:
        return [
            f"column {part.name!r}: {column.isna().sum()} missing, for which the median "
            f"{part.median:g} is taken; one more feature marks them"
        ]
    if (np.diff(column) == 1).all():
        return [
            f"column {part.name!r} rises by 1 from row to row: --drop it if it only counts them"
        ]
    return []


def _check_folds(task: Task, truth: NDArray[Any], folds: int) -> None:
    most = len(truth)
    if task.name == "classification":
        most = int(np.unique(truth, return_counts=True)[1].max())
    if folds > most:
        what = "rows" if task.name == "regression" else "rows of the largest class"
        raise TableError(f"{folds} is more than the {most} {what}", "--folds")
