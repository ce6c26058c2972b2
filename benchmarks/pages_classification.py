"""The tables of classification: over all sets that models have finished, and set by set."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import classification as classifying
import numpy as np
from harness import Cell
from page_format import (
    number,
    p_value,
    percent,
    read,
    table,
)

CLASSIFIERS = {
    "resnet": "`ResNetGPClassifier()`",
    "rbf": "RBF kernels, all else equal",
    "catboost": "CatBoost",
    "lightgbm": "LightGBM",
    "xgboost": "XGBoost",
    "xrfm": "xRFM",
    "forest": "forest of 500 trees",
    "forest, temperature": "forest, temperature fitted",
    "svc": "SVM, RBF, cross-validated",
}
OWN_CLASSIFIERS = ("resnet", "rbf", "forest", "forest, temperature", "svc")


def classified(
    of: Callable[[Iterable[Cell]], list[Cell]], models: Iterable[str] = CLASSIFIERS
) -> dict[str, dict[str, Cell]]:
    """Rows of classification by model and set; ``of`` chooses sets."""
    found = classifying.table_of(of(read("classification")["sets"]))
    return {model: found[model] for model in models if model in found}


def classification(models: Iterable[str] = OWN_CLASSIFIERS) -> str:
    """Means over the standard sets that these models have, mean ranks, and Wilcoxon's p."""
    rows, summary = [], classifying.summarised(classified(classifying.standard, models))
    measures = [m for m in classifying.TESTED if any(f"{m}_p" in one for one in summary.values())]
    for model, one in summary.items():
        row = [CLASSIFIERS[model]]
        for measure in measures:
            value = one[measure]
            text = percent(value, 2) if measure == "accuracy" else f"{value:.3f}"
            rank = one.get(f"{measure}_rank")
            row += [text if value == value else "", "" if rank is None else f"{rank:.2f}"]
            row.append(p_value(one.get(f"{measure}_p")))
        rows.append([*row, number(one["seconds"], 2)])
    names = ("Brier score" if m == "brier" else m.replace("_", " ") for m in measures)
    count = f"{next(iter(summary.values()))['sets']:.0f} sets"
    columns = itertools.chain(*([name, "rank", "p"] for name in names))
    return table([count, *columns, "s, a fit"], rows)


def classification_others() -> str:
    """Accuracy and log-loss on the sets that are not standard, of models that have done all."""
    found, rows = classified(classifying.others), []
    models = [model for model in found if found[model].keys() == found["resnet"].keys()]
    sizes = {name: row["rows"] for one in found.values() for name, row in one.items()}
    for name in sorted(sizes, key=lambda name: sizes[name]):
        row = [name, f"{sizes[name]:,}"]
        for model in models:
            one = found[model].get(name, {})
            parts = [percent(one["accuracy"], 2)] if one else []
            parts += [f"{one['log_loss']:.3f}"] if "log_loss" in one else []
            row.append("; ".join(parts))
        rows.append(row)
    return table(["set", "rows", *(CLASSIFIERS[model] for model in models)], rows)


def _panels_of(models: Iterable[str]) -> dict[str, tuple[np.ndarray, list[str]]]:
    table, panels = classified(classifying.standard, models), {}
    shared = sorted(set.intersection(*(set(rows) for rows in table.values())))
    for measure in classifying.TESTED:
        found = [m for m in table if all(measure in table[m][name] for name in shared)]
        if measure == "accuracy":
            found = [m for m in found if m != classifying.TEMPERED]  # the same as the forest's
        if "resnet" in found and len(found) > 1:
            sign = -1 if measure == "accuracy" else 1
            values = [[sign * table[m][name][measure] for m in found] for name in shared]
            panels[measure.replace("_", " ")] = np.array(values), found
    return panels


TABLES: dict[str, Callable[[], str]] = {
    "classification": classification,
    "classification-peers": lambda: classification(CLASSIFIERS),
    "classification-others": classification_others,
}


def panels() -> dict[str, dict[str, tuple[np.ndarray, list[str]]]]:
    """Of each figure of ranks: values (sets x models; smaller is better) and names of models."""
    return {
        "classification_ranks.png": _panels_of(OWN_CLASSIFIERS),
        "classification_peer_ranks.png": _panels_of(CLASSIFIERS),
    }
