"""Cross-validation, whose folds learn everything from their own rows, and the fit to all rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.estimators.relevance import relevance_of_columns
from resnet_gp.fitting.standardise import FarInputError
from resnet_gp.tables.notes import warnings_as
from resnet_gp.tables.plan import Plan
from resnet_gp.tables.reading import TableError, numbering_rows
from resnet_gp.tables.saved import SavedModel
from resnet_gp.tables.tasks import Regression, Scores

Array = NDArray[np.float64]
Step = Callable[[str], None]


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of sorted rows, by models that have not seen them and by the trivial baseline."""

    rows: NDArray[np.int64]
    predictions: Any
    trivial: Any


@dataclass(frozen=True)
class Result:
    """A model trained on all rows, and its cross-validation.

    Attributes:
        scores: of the out-of-fold predictions ("resnet-gp") and of the baseline ("trivial").
        relevance: standard deviation over lengthscale of each column, if the model has
            lengthscales; the root of the sum of squares where a column has several features.
        seconds: times of the cross-validation and of the fit to all rows.
        warnings: of the fit to all rows.
    """

    saved: SavedModel
    out_of_fold: OutOfFold
    scores: dict[str, Scores]
    relevance: dict[str, float]
    seconds: dict[str, float]
    warnings: list[str]


def train(plan: Plan, step: Step = lambda _: None) -> Result:
    """Cross-validate, and fit to all rows; ``step`` is called with the name of each fit before it.

    Raises:
        TableError: a model cannot be fitted, or a row is too far from the others.
        KeyboardInterrupt: a fit was interrupted.
    """
    start = time.perf_counter()
    folds = None if plan.leaves_rows_out else _cross_validate(plan, step)
    middle = time.perf_counter()
    step("all rows")
    model, messages = _fit(plan, np.arange(len(plan.truth)))
    end = time.perf_counter()
    out_of_fold = folds if folds is not None else _leave_out(plan, model)
    last = time.perf_counter()
    truth = plan.truth[out_of_fold.rows]
    return Result(
        SavedModel(model, plan.task, plan.target, plan.schema),
        out_of_fold,
        {
            "resnet-gp": plan.task.scores(truth, out_of_fold.predictions),
            "trivial": plan.task.scores(truth, out_of_fold.trivial),
        },
        _relevance(model),
        {"cross_validation": middle - start + last - end, "fit": end - middle},
        messages,
    )


def _cross_validate(plan: Plan, step: Step) -> OutOfFold:
    rows: list[NDArray[np.int64]] = []
    predictions: list[Any] = []
    trivial: list[Any] = []
    splits = list(plan.task.splits(plan.truth, plan.folds, plan.seed))
    for number, (train, test) in enumerate(splits[: plan.folds_fitted], 1):
        step(f"fold {number}")
        model, _ = _fit(plan, train, f" in fold {number}")
        rows.append(test)
        with numbering_rows(test), warnings_as([]):
            predictions.append(plan.task.predict(model, plan.frame.iloc[test]))
        trivial.append(plan.task.trivial(plan.truth[train], len(test)))
    everything = np.concatenate(rows)
    order = np.argsort(everything)
    return OutOfFold(
        everything[order], plan.task.join(predictions, order), plan.task.join(trivial, order)
    )


def _leave_out(plan: Plan, model: Any) -> OutOfFold:
    """Predictions of some rows by the model of all rows, each from all the others.

    Only the encoding of columns and the hyperparameters have seen the rows.
    """
    rows, task = plan.rows_left_out, plan.task
    assert isinstance(task, Regression)
    predictions = task.leave_out(model, rows)
    return OutOfFold(rows, predictions, task.trivial(plan.truth, len(rows)))


def _fit(plan: Plan, rows: NDArray[np.int64], where: str = "") -> tuple[Any, list[str]]:
    """Fit an estimator to some rows; also return its warnings."""
    messages: list[str] = []
    with numbering_rows(rows), warnings_as(messages):
        try:
            model = plan.task.estimator(plan.seed).fit(plan.frame.iloc[rows], plan.truth[rows])
        except FarInputError:
            raise
        except ValueError as error:
            raise TableError(f"the model cannot be fitted{where}: {error}") from error
    if getattr(model, "fit_interrupted_", False):
        raise KeyboardInterrupt
    return model, messages


def _relevance(model: Any) -> dict[str, float]:
    found = relevance_of_columns(model) or {}
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))
