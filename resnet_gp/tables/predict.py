"""Predictions of a saved model for the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.columns.values import columns_of
from resnet_gp.tables.notes import warnings_as
from resnet_gp.tables.reading import numbering_rows
from resnet_gp.tables.saved import SavedModel
from resnet_gp.tables.target import known_truth
from resnet_gp.tables.tasks import Scores, Task


@dataclass(frozen=True)
class Predictions:
    """Predictions of the rows of a table, in their order.

    Attributes:
        table: columns to write, by name.
        scores: against the targets in the table; None if it has none.
        scored: number of rows with a target that can be compared.
        notes: for the user, about values that did not occur in training.
    """

    task: Task
    table: dict[str, NDArray[Any]]
    scores: Scores | None
    scored: int
    notes: list[str]


def predict_table(saved: SavedModel, frame: Any) -> Predictions:
    """Predict every row, and score the predictions if the target is in the table.

    Raises:
        TableError: a column that the model needs is missing or of another kind, or a row is too
            far from the training rows.
    """
    X, notes = saved.schema.read(frame), list[str]()
    with numbering_rows(range(len(X))), warnings_as(notes):
        predictions: Any = saved.task.predict(saved.model, X)
    scores, scored = None, 0
    if saved.target in frame.columns:
        truth, known = known_truth(saved.task, frame[saved.target])
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


def _note_training_rows(saved: SavedModel, X: Any) -> list[str]:
    trained = {row.tobytes() for row in np.ascontiguousarray(saved.model.X_train_)}
    features, _ = saved.model.columns_.encode(columns_of(X))
    seen = sum(row.tobytes() in trained for row in np.ascontiguousarray(features))
    if 2 * seen <= len(X):
        return []
    return [
        f"{seen} of {len(X)} rows have the features of a training row: their scores say little "
        "about new rows"
    ]
