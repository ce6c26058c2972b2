"""Reports of a fit: lines for a terminal, figures for JSON, a table of predictions, a picture."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from resnet_gp.tables.plan import Plan
from resnet_gp.tables.tasks import plain_text
from resnet_gp.tables.training import OutOfFold, Result


def conclude(plan: Plan, result: Result) -> list[str]:
    """Describe the fit in words."""
    rows, seconds = len(result.out_of_fold.rows), result.seconds
    folds = f"{plan.folds} folds"
    if plan.leaves_rows_out:
        folds = "leaving out one by one"
    elif plan.folds_fitted < plan.folds:
        folds = f"{plan.folds_fitted} of {folds}, which are enough"
    lines = [
        f"scores: {rows} of {len(plan.truth)} rows, each predicted by a model that has not seen it "
        f"({folds}); trivial model: {plan.task.baseline}",
        f"cross-validation {seconds['cross_validation']:.1f} s, fit to all rows "
        f"{seconds['fit']:.1f} s, inference {result.saved.model.inference_}",
    ]
    return lines + [f"warning: {message}" for message in result.warnings]


def report(plan: Plan, result: Result) -> dict[str, Any]:
    """All figures for JSON: widths and RMSE in the units of the target, times in seconds."""
    packages = ("resnet-gp", "torch", "gpytorch", "scikit-learn", "numpy", "pandas")
    columns = plan.columns
    return {
        "versions": {name: version(name) for name in packages},
        "task": plan.task.name,
        "target": plan.target,
        "rows": len(plan.truth),
        "columns": plan.schema.names,
        "unused_columns": plan.unused,
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


def write_out_of_fold(path: Path, plan: Plan, out_of_fold: OutOfFold) -> None:
    """Write the out-of-fold predictions as a CSV file, beside the truth."""
    import pandas as pd

    rows = out_of_fold.rows
    content = {"row": rows + 1, "truth": plan.truth[rows]}
    pd.DataFrame(content | plan.task.table(out_of_fold.predictions)).to_csv(path, index=False)


def draw(path: Path, plan: Plan, result: Result) -> None:
    """Draw the out-of-fold predictions as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictures = 3 if plan.task.name == "regression" else 2
    figure = Figure(figsize=(4.6 * pictures, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    truth = plan.truth[result.out_of_fold.rows]
    plan.task.draw(
        figure.subplots(1, pictures), truth, result.out_of_fold.predictions, result.relevance
    )
    figure.suptitle(f"out-of-fold predictions of {plain_text(plan.target)}")
    figure.savefig(path, dpi=120)


def _facts(model: Any) -> dict[str, Any]:
    """Fitted attributes that are numbers or texts; of two components, lists of two."""
    names = (
        "hyperparameters_", "kernels_", "inference_", "noise_variance_", "outputscale_",
        "weight_variance_", "horizon_", "log_marginal_likelihood_value_", "n_iter_", "converged_",
        "sharpness_", "floor_",
    )  # fmt: skip
    facts = {name.rstrip("_"): getattr(model, name) for name in names if hasattr(model, name)}
    arrays = np.generic | np.ndarray
    return {k: v.tolist() if isinstance(v, arrays) else v for k, v in facts.items()}
