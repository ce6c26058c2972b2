"""Predictions of a saved model for the rows of a table."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.progress import write_atomically
from resnet_gp.tables.columns import texts_of
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.saved import SavedModel
from resnet_gp.tables.tasks import Regression, Scores, Task


@dataclass(frozen=True)
class Predictions:
    """Of the rows of a table, in their order.

    Attributes:
        task: of the model.
        table: columns to write, by name.
        scores: against the targets in the table; None if it has none.
        scored: how many rows have a target that can be compared.
        notes: what the user should know of the values.
    """

    task: Task
    table: dict[str, NDArray[Any]]
    scores: Scores | None
    scored: int
    notes: list[str]


def predict_table(saved: SavedModel, frame: Any) -> Predictions:
    """Predict every row, and score the predictions if the target is in the table.

    Raises:
        TableError: a column that the model needs is not there or not what it was.
    """
    X, notes = saved.columns.encode(frame)
    predictions = saved.task.predict(saved.model, X)
    scores, scored = None, 0
    if saved.target in frame.columns:
        truth, known = _truth(saved.task, frame[saved.target])
        scored = int(known.sum())
        if scored < len(known):
            notes.append(
                f"column {saved.target!r}: {len(known) - scored} rows without a target of the "
                "model's kind are not scored"
            )
        if scored:
            scores = saved.task.scores(truth[known], predictions[known])
            notes += _note_training_rows(saved, X[known])
    return Predictions(saved.task, saved.task.table(predictions), scores, scored, notes)


def check_file(out: Path, data: Path, overwrite: bool) -> None:
    """Whether predictions can be written to a file.

    Raises:
        TableError: it exists and ``overwrite`` is False, or cannot be written.
    """
    place = next(path for path in out.absolute().parents if path.exists())
    if out.is_dir():
        raise TableError(f"{out} is a folder", "--out")
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise TableError(f"{place} cannot be written to", "--out")
    if out.exists() and out.resolve() == data.resolve():
        raise TableError(f"{data} would be written over", "--out")
    if out.exists() and not overwrite:
        raise TableError(f"{out} exists: --overwrite replaces it", "--out")


def write(out: Path, predictions: Predictions) -> None:
    """Write a CSV file, whole or not at all."""
    import pandas as pd

    text = io.StringIO()
    pd.DataFrame(predictions.table).to_csv(text, index=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.getvalue().encode())


def _note_training_rows(saved: SavedModel, X: Any) -> list[str]:
    trained = {row.tobytes() for row in np.ascontiguousarray(saved.model.X_train_)}
    seen = sum(row.tobytes() in trained for row in np.ascontiguousarray(X.to_numpy()))
    if 2 * seen <= len(X):
        return []
    return [
        f"{seen} of {len(X)} rows have the features of a training row: their scores say little "
        "about new rows"
    ]


def _truth(task: Task, column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Targets, and for which rows they are known and of the model's kind."""
    import pandas as pd

    values = pd.to_numeric(texts_of(column), errors="coerce").to_numpy(dtype=np.float64)
    if isinstance(task, Regression):
        return values, np.isfinite(values)
    classes = task.classes
    if classes.dtype.kind in "iu":
        return values, np.isin(values, classes)
    labels = texts_of(column).to_numpy(dtype=object).astype(str)
    return labels, np.isin(labels, classes) & column.notna().to_numpy()
