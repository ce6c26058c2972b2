"""The target column: which task it is for, and its values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.columns.kinds import are_dates
from resnet_gp.columns.wording import shortened
from resnet_gp.fitting.standardise import HUGE, Standardiser, is_constant
from resnet_gp.tables.reading import TableError, row_numbers
from resnet_gp.tables.tasks import Classification, Regression, Task
from resnet_gp.tables.values import (
    first_text,
    integer_code,
    is_mostly_numbers,
    is_plain_integer,
    numbers,
    numbers_or_nan,
    refuse_commas,
    texts_of,
)

_OPTION = "--target"


def choose_task(column: Any, wanted: str) -> tuple[Task, NDArray[Any]]:
    """The task for a target column, and its truth: floats, or labels (integers or texts).

    ``wanted`` is a task, or "auto": regression for numbers and classification for texts.

    Raises:
        TableError: a target is missing, infinite or not a number, numbers and texts are mixed, all
            targets are the same, they are too large or too small, or a class has one row only.
    """
    absent = column.isna().to_numpy()
    if absent.any():
        raise TableError(
            f"column {column.name!r} is missing in {absent.sum()} of {len(absent)} rows: "
            f"{row_numbers(absent)}; leave such rows out (missing: empty, NA, None and the like)",
            _OPTION,
        )
    if wanted != "classification":
        values = _numeric_truth(column, wanted)
        if values is not None:
            return Regression(), values
    truth = _labels(column)
    classes, counts = np.unique(truth, return_counts=True)
    _check_classes(str(column.name), classes, counts)
    return Classification(classes), truth


def _labels(column: Any) -> NDArray[Any]:
    """Labels as they are written: integers if all are plain integers below 2^53, else texts."""
    texts = texts_of(column)
    labels = texts.to_numpy(dtype=object).astype(str)
    return labels.astype(np.int64) if all(map(is_plain_integer, texts)) else labels


def known_truth(task: Task, column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Targets of new rows, and whether each is known and of the model's kind."""
    if isinstance(task, Regression):
        values = numbers_or_nan(column)
        return values, np.isfinite(values)
    labels = [str(label) for label in task.classes]
    places = {integer_code(label): place for place, label in enumerate(labels)}
    places |= {label: place for place, label in enumerate(labels)}
    texts = texts_of(column).fillna("")
    found = np.array([places.get(text, places.get(integer_code(text), -1)) for text in texts])
    return task.classes[found], (found >= 0) & column.notna().to_numpy()


def _numeric_truth(column: Any, wanted: str) -> NDArray[np.float64] | None:
    """Targets of a regression; None if they are classes."""
    name, values = str(column.name), numbers(column)
    if values is None:
        refuse_commas(column, _OPTION)
        row, text = first_text(column)
        if wanted == "regression":
            raise TableError(
                f"column {name!r} holds {text!r} in row {row}: regression needs numbers", _OPTION
            )
        if is_mostly_numbers(column):
            raise TableError(
                f"column {name!r} holds numbers, but {text!r} in row {row}: leave such rows out, "
                "or --task classification if all values are classes",
                _OPTION,
            )
        different = texts_of(column).unique()
        if wanted == "auto" and are_dates(different):
            raise TableError(
                f"column {name!r} holds dates such as {different[0]!r}: write them as numbers (a "
                "year, days since some day), or --task classification if they are classes",
                _OPTION,
            )
        return None
    if np.isinf(values).any():
        raise TableError(f"column {name!r} is infinite in {row_numbers(np.isinf(values))}", _OPTION)
    if is_constant(values.min(), values.max()):
        raise TableError(f"column {name!r} is {values[0]:g} in all rows", _OPTION)
    if not 1 / HUGE < float(Standardiser.of(values).scale) < HUGE:
        raise TableError(
            f"column {name!r} has values around {np.abs(values).max():.1g}: use other units",
            _OPTION,
        )
    return values


def _check_classes(name: str, classes: NDArray[Any], counts: NDArray[np.int64]) -> None:
    if len(classes) < 2:
        raise TableError(f"column {name!r} is {str(classes[0])!r} in all rows", _OPTION)
    single = classes[counts < 2].tolist()
    if single:
        word = "class has" if len(single) == 1 else "classes have"
        raise TableError(
            f"column {name!r}: {len(single)} of {len(classes)} {word} one row only, two are "
            f"needed: {shortened(single)}",
            _OPTION,
        )
