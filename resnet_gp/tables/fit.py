"""Train on a table, cross-validate, and write the model's folder.

Folds learn everything anew, medians and categories included, from their own training rows. They are
fitted until 2000 rows have been predicted: of 10,000 rows and five folds, one fold.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.tables.columns import (
    CategoryColumn,
    Columns,
    Kind,
    NumberColumn,
    choose_kinds,
    numbers,
)
from resnet_gp.tables.reading import (
    TableError,
    check_column,
    quoted,
    separator_hint,
    shortened,
)
from resnet_gp.tables.saved import COLUMNS, MODEL, SavedModel
from resnet_gp.tables.tasks import Scores, Task, choose_task

Array = NDArray[np.float64]
Step = Callable[[str], None]

REPORT, OUT_OF_FOLD, FIGURE = "report.json", "cross_validation.csv", "predictions.png"
FILES = (MODEL, COLUMNS, REPORT, OUT_OF_FOLD, FIGURE)
_FEWEST_ROWS = 5
_ENOUGH_ROWS = 2000  # out of fold: scores are then known to a few per cent


@dataclass(frozen=True)
class Plan:
    """What is to be learnt from a table.

    Attributes:
        frame: the columns that may become features.
        kinds: of these columns.
        columns: what they become, learnt from all rows.
        target: the name of the target.
        truth: its values, floats or labels.
        task: regression or classification.
        folds: of the cross-validation.
        seed: of the folds and of the estimators.
    """

    frame: Any
    kinds: dict[str, Kind]
    columns: Columns
    target: str
    truth: NDArray[Any]
    task: Task
    folds: int
    seed: int

    @property
    def folds_fitted(self) -> int:
        """The folds that are fitted, all of them up to 2000 rows."""
        return min(self.folds, math.ceil(self.folds * _ENOUGH_ROWS / len(self.truth)))

    @property
    def steps(self) -> int:
        return self.folds_fitted + 1


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of rows by models that have not seen them.

    Attributes:
        rows: their indices, in order.
        predictions: an array of the task.
        trivial: the same by the training rows' mean and deviation, or shares of classes.
    """

    rows: NDArray[np.int64]
    predictions: Array
    trivial: Array


@dataclass(frozen=True)
class Result:
    """A model for all rows, and how well its kind predicts.

    Attributes:
        saved: the model with its columns.
        out_of_fold: the cross-validation.
        scores: of the model and of the trivial predictor, by "resnet-gp" and "trivial".
        relevance: of each column, if the model has lengthscales: standard deviation over
            lengthscale, features of one column added in squares.
        seconds: of the cross-validation and of the fit to all rows.
        warnings: of the fit to all rows.
    """

    saved: SavedModel
    out_of_fold: OutOfFold
    scores: dict[str, Scores]
    relevance: dict[str, float]
    seconds: dict[str, float]
    warnings: list[str]


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
    """Decide what the columns are, and check what can be checked before a fit.

    Raises:
        TableError: the table, or an option, cannot be taken.
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
    kinds = choose_kinds(features, categorical)
    columns = Columns.learn(features, kinds)
    return Plan(features, kinds, columns, target, truth, kind, folds, seed)


def run(plan: Plan, step: Step = lambda _: None) -> Result:
    """Cross-validate, and fit to all rows.

    Args:
        plan: of ``make_plan``.
        step: called before each of ``plan.steps`` fits, with its name.

    Raises:
        TableError: a model cannot be fitted.
        KeyboardInterrupt: a fit was interrupted.
    """
    start = time.perf_counter()
    out_of_fold = _cross_validate(plan, step)
    middle = time.perf_counter()
    step("all rows")
    model, messages = _fit(plan, plan.columns.encode(plan.frame)[0], plan.truth)
    end = time.perf_counter()
    truth = plan.truth[out_of_fold.rows]
    return Result(
        SavedModel(model, plan.task, plan.target, plan.columns),
        out_of_fold,
        {
            "resnet-gp": plan.task.scores(truth, out_of_fold.predictions),
            "trivial": plan.task.scores(truth, out_of_fold.trivial),
        },
        _relevance(model, plan.columns),
        {"cross_validation": middle - start, "fit": end - middle},
        messages,
    )


def describe(plan: Plan) -> list[str]:
    """In words, what was taken for what."""
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
    if columns.unused:
        lines.append(f"constant, not used: {quoted(columns.unused)}")
    return lines


def conclude(plan: Plan, result: Result) -> list[str]:
    """In words, what was fitted."""
    rows, seconds = len(result.out_of_fold.rows), result.seconds
    folds = f"{plan.folds} folds"
    if plan.folds_fitted < plan.folds:
        folds = f"{plan.folds_fitted} of {folds}, which predict enough"
    lines = [
        f"out of fold: {rows} of {len(plan.truth)} rows, by {folds}; trivial: {plan.task.baseline}",
        f"cross-validation {seconds['cross_validation']:.1f} s, fit to all rows "
        f"{seconds['fit']:.1f} s, inference {result.saved.model.inference_}",
    ]
    return lines + [f"warning: {message}" for message in result.warnings]


def check_folder(out: Path, data: Path, overwrite: bool) -> None:
    """Whether the files of a model can be written to a folder.

    Raises:
        TableError: it holds such files and ``overwrite`` is False, or it cannot be written to.
    """
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir():
        raise TableError(f"{place} is not a folder", "--out")
    if not os.access(place, os.W_OK):
        raise TableError(f"{place} cannot be written to", "--out")
    there = [name for name in FILES if (out / name).exists()]
    if any((out / name).resolve() == data.resolve() for name in there):
        raise TableError(f"{data} would be written over", "--out")
    if there and not overwrite:
        raise TableError(f"{out} has {quoted(there)} already: --overwrite replaces them", "--out")


def write(out: Path, plan: Plan, result: Result) -> None:
    """Write all files, each whole and all or none, as far as the file system can tell.

    They are first written to a folder inside ``out`` and then moved. Other files stay.

    Raises:
        OSError: the folder cannot be written to; the files that were there are still there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".resnet-gp-", dir=out) as name:
        folder = Path(name)
        result.saved.save(folder)
        text = json.dumps(report(plan, result), indent=1, allow_nan=False) + "\n"
        (folder / REPORT).write_text(text, encoding="utf-8")
        _write_out_of_fold(folder / OUT_OF_FOLD, plan, result.out_of_fold)
        _draw(folder / FIGURE, plan, result)
        for file in FILES:
            _to_disk(folder / file)
        for file in FILES:
            os.replace(folder / file, out / file)


def report(plan: Plan, result: Result) -> dict[str, Any]:
    """All figures, for JSON. Widths and RMSE in the units of the target, times in seconds."""
    packages = ("resnet-gp", "torch", "gpytorch", "scikit-learn", "numpy", "pandas")
    columns = result.saved.columns
    return {
        "versions": {name: version(name) for name in packages},
        "task": plan.task.name,
        "target": plan.target,
        "rows": len(plan.truth),
        "columns": columns.names,
        "unused_columns": list(columns.unused),
        "features": columns.feature_names,
        "seed": plan.seed,
        "cross_validation": {
            "folds": plan.folds,
            "folds_fitted": plan.folds_fitted,
            "rows": len(result.out_of_fold.rows),
            "interval_level": getattr(plan.task, "level", None),
            "scores": result.scores,
        },
        "relevance": result.relevance,
        "model": _facts(result.saved.model),
        "seconds": result.seconds,
        "warnings": result.warnings,
    }


def _to_disk(path: Path) -> None:
    """So that no crash of the machine leaves an empty file in the place of an old one."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _describe_numbers(part: NumberColumn, column: Any) -> list[str]:
    if part.missing:
        return [
            f"column {part.name!r}: {column.isna().sum()} missing, for which the median "
            f"{part.median:g} is taken; one more feature marks them"
        ]
    values = numbers(column)
    if values is not None and (np.diff(values) == 1).all():
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


def _cross_validate(plan: Plan, step: Step) -> OutOfFold:
    rows, predictions, trivial = [], [], []
    splits = list(plan.task.splits(plan.truth, plan.folds, plan.seed))
    for number, (train, test) in enumerate(splits[: plan.folds_fitted], 1):
        step(f"fold {number}")
        columns = Columns.learn(plan.frame.iloc[train], plan.kinds)
        model, _ = _fit(plan, columns.encode(plan.frame.iloc[train])[0], plan.truth[train])
        rows.append(test)
        predictions.append(plan.task.predict(model, columns.encode(plan.frame.iloc[test])[0]))
        trivial.append(plan.task.trivial(plan.truth[train], len(test)))
    everything = np.concatenate(rows)
    order = np.argsort(everything)
    return OutOfFold(
        everything[order], np.concatenate(predictions)[order], np.concatenate(trivial)[order]
    )


def _fit(plan: Plan, X: Any, truth: NDArray[Any]) -> tuple[Any, list[str]]:
    """A fitted estimator, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = plan.task.estimator(plan.seed).fit(X, truth)
        except np.linalg.LinAlgError as error:
            raise TableError(f"the model cannot be fitted: {error}") from error
    if getattr(model, "fit_interrupted_", False):
        raise KeyboardInterrupt
    shown = [one for one in caught if issubclass(one.category, UserWarning)]
    return model, [" ".join(str(one.message).split()) for one in shown]


def _relevance(model: Any, columns: Columns) -> dict[str, float]:
    if not hasattr(model, "lengthscale_"):
        return {}
    from resnet_gp.fitting.standardise import Standardiser

    each = Standardiser.of(model.X_train_).scale / model.lengthscale_
    total = dict.fromkeys(columns.names, 0.0)
    for name, value in zip(columns.origins, each, strict=True):
        total[name] = math.hypot(total[name], value)
    return dict(sorted(total.items(), key=lambda entry: -entry[1]))


def _facts(model: Any) -> dict[str, Any]:
    """What was learnt, as far as it is one number or text."""
    names = (
        "hyperparameters", "inference_", "noise_variance_", "outputscale_", "weight_variance_",
        "horizon_", "log_marginal_likelihood_value_", "n_iter_", "converged_", "slope_",
    )  # fmt: skip
    facts = {name.rstrip("_"): getattr(model, name) for name in names if hasattr(model, name)}
    return {k: v.item() if isinstance(v, np.generic | np.ndarray) else v for k, v in facts.items()}


def _write_out_of_fold(path: Path, plan: Plan, out_of_fold: OutOfFold) -> None:
    import pandas as pd

    rows = out_of_fold.rows
    content = {"row": rows + 1, "truth": plan.truth[rows]}
    pd.DataFrame(content | plan.task.table(out_of_fold.predictions)).to_csv(path, index=False)


def _draw(path: Path, plan: Plan, result: Result) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictures = 3 if plan.task.name == "regression" else 2
    figure = Figure(figsize=(4.6 * pictures, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    truth = plan.truth[result.out_of_fold.rows]
    plan.task.draw(
        figure.subplots(1, pictures), truth, result.out_of_fold.predictions, result.relevance
    )
    figure.suptitle(f"out-of-fold predictions of {plan.target.replace('$', chr(92) + '$')}")
    figure.savefig(path, dpi=120)
