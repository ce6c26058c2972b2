"""How well does the classifier predict, against other kernels in the same code, and other packages?

    python benchmarks/classification.py --data DIR [--sets iris wine] [--models resnet forest]
    python benchmarks/classification.py --data DIR --sets others     # all but the standard ones
    python benchmarks/classification.py --quick          # simulated data, seconds

DIR holds .npz sets (keys X, y, n_splits, train_0, test_0, ...). The standard sets are those of 4
splits and at most 5000 rows. Models: "resnet" is the classifier as it comes, "rbf" the same with
RBF kernels; "forest" has 500 trees, "svc" an RBF kernel and no probabilities; the others are
packages, tuned, of the extra "peers": see peers.py. Seconds are those of the processor, all threads
together.

Every cell (set, split, model) is saved once it is done, and a run that was stopped resumes. Sets
and models of the file that are not run again stay. Prints means and paired tests over sets.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import peers
import torch
from gpytorch.kernels import Kernel, RBFKernel
from harness import Cell, Cells, fill, output, parsed, parser_of, print_table
from peers import CLASSIFIERS as PEERS
from ranks import mean_ranks
from scipy.optimize import minimize_scalar
from scipy.stats import wilcoxon
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from resnet_gp import ResNetGPClassifier
from resnet_gp.estimators.encode import Inputs
from resnet_gp.fitting.classifier_search import ExactMemberFit, Problem
from resnet_gp.fitting.kernel_settings import KernelSetting
from resnet_gp.models.calibration import class_scores
from resnet_gp.progress import progress_bar

MEASURES = ("accuracy", "log_loss", "brier", "seconds")
TESTED = ("accuracy", "log_loss", "brier", "calibration_error")
STANDARD_ROWS, STANDARD_SPLITS = 5000, 4
BINS = 20
TREES = 500
SEARCH_ROWS = 1500
SVC_GRID = {"svc__C": 10.0 ** np.arange(-1, 4), "svc__gamma": 10.0 ** np.arange(-2, 1.5, 0.5)}
# No forest is sure beyond half a tree.
LEAST = 0.5 / TREES
TEMPERED = "forest, temperature"


class DataSet(NamedTuple):
    """A classification set with its train/test splits (row indices)."""

    name: str
    X: np.ndarray
    y: np.ndarray
    splits: list[tuple[np.ndarray, np.ndarray]]


class Prediction(NamedTuple):
    """Predicted classes and, from models that have them, the probabilities of all classes."""

    label: np.ndarray
    probability: np.ndarray | None
    classes: np.ndarray


Model = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, Prediction]]


def forest(X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> dict[str, Prediction]:
    """500 trees, as they are and with a temperature fitted to their out-of-bag probabilities."""
    model = RandomForestClassifier(TREES, oob_score=True, random_state=0).fit(X, y)
    raw = np.clip(model.predict_proba(X_test), LEAST, 1)
    seen = np.isfinite(model.oob_decision_function_).all(1)
    logits = np.log(np.clip(model.oob_decision_function_[seen], LEAST, 1))
    index = np.searchsorted(model.classes_, y[seen])

    def loss(log_temperature: float) -> float:
        p = softmax(logits / np.exp(log_temperature))
        return -float(np.log(p[np.arange(len(p)), index]).mean())

    temperature = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    label, tempered = model.predict(X_test), softmax(np.log(raw) / temperature)
    return {
        "forest": Prediction(label, raw / raw.sum(1, keepdims=True), model.classes_),
        TEMPERED: Prediction(label, tempered, model.classes_),
    }


def svc(X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> dict[str, Prediction]:
    """RBF kernel, C and gamma by 5-fold cross-validation on at most 1500 rows."""
    rows = np.random.default_rng(0).permutation(len(y))[:SEARCH_ROWS]
    grid = SVC_GRID | {"svc__gamma": SVC_GRID["svc__gamma"] / X.shape[1]}
    folds = min(5, int(np.unique(y[rows], return_counts=True)[1].max()))
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, cv=folds, error_score=0.0)
    search.fit(X[rows], y[rows])
    model = search.best_estimator_.fit(X, y)
    return {"svc": Prediction(model.predict(X_test), None, model.classes_)}


class RBFProblem(Problem):
    """The same with RBF kernels in place of ours, all else equal."""

    def kernel(self, index: int) -> Kernel:
        """Lengthscales are in root mean squared distances from the centre."""
        setting = self.settings[index]
        count = len(setting.active_dims)
        kernel = RBFKernel(active_dims=setting.active_dims).double()
        kernel.lengthscale = setting.horizon * count**0.5
        return kernel.requires_grad_(False)


def rbf(X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> dict[str, Prediction]:
    """The classifier's exact inference with RBF kernels."""
    classes, labels = np.unique(y, return_inverse=True)
    inputs = Inputs(X, [], tries_categories=True)
    settings = [
        KernelSetting("rbf", scale, 0.0, block)
        for block in inputs.blocks
        for scale in 2.0 ** np.arange(-3, 4.5, 0.5)
    ]
    with progress_bar("fitting", False) as bar:
        problem = RBFProblem(
            inputs(X), torch.from_numpy(labels), settings, None, np.random.RandomState(0), bar
        )
        solution = ExactMemberFit().solve(problem)
    scores = class_scores(solution.posterior.mean(inputs(X_test)))
    p = torch.softmax(solution.link.logits(scores), 1).numpy()
    return {"rbf": Prediction(classes[p.argmax(1)], p, classes)}


def resnet(X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> dict[str, Prediction]:
    """The classifier as it comes."""
    fitted = ResNetGPClassifier(random_state=0).fit(X, y)
    p = fitted.predict_proba(X_test)
    return {"resnet": Prediction(fitted.classes_[p.argmax(1)], p, fitted.classes_)}


def peer(name: str, setting: peers.Settings) -> Model:
    def model(X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> dict[str, Prediction]:
        classes, codes = np.unique(y, return_inverse=True)
        p = peers.fit(PEERS[name], setting, X, codes, len(classes))(X_test)
        return {name: Prediction(classes[p.argmax(1)], p, classes)}

    return model


MODELS: dict[str, Model] = {
    "resnet": resnet,
    "rbf": rbf,
    "forest": forest,
    "svc": svc,
}


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def calibration_error(confidence: np.ndarray, hit: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the top class, in bins of equal mass."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [len(part) * abs(confidence[part].mean() - hit[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))


def load_set(path: Path) -> DataSet:
    with np.load(path, allow_pickle=False) as archive:
        splits = [
            (archive[f"train_{i}"].astype(np.int64), archive[f"test_{i}"].astype(np.int64))
            for i in range(int(archive["n_splits"]))
        ]
        return DataSet(path.stem, archive["X"], archive["y"], splits)


def load_sets(folder: Path, names: list[str] | None, others: bool = False) -> list[DataSet]:
    """Load the named sets, or all standard ones, of a folder or its folder ``classification``.

    Args:
        others: all but the standard ones, if there are no names.

    Raises:
        FileNotFoundError: a set is missing, or there are none.
    """
    inner = folder / "classification"
    folder = inner if inner.is_dir() else folder
    known = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if missing := sorted(set(names or ()) - set(known)) or not known:
        raise FileNotFoundError(f"--sets: {folder} lacks {missing if known else 'any .npz set'}")
    loaded = [load_set(known[name]) for name in names or known]
    return [one for one in loaded if names or is_standard(one) != others]


def is_standard(data: DataSet) -> bool:
    return len(data.splits) == STANDARD_SPLITS and len(data.y) <= STANDARD_ROWS


def simulated(n: int = 90) -> DataSet:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    X = rng.normal(size=(n, 2)) + 3 * np.eye(3)[y][:, :2]
    orders = [rng.permutation(n) for _ in range(2)]
    return DataSet("simulated", X, y, [(order[30:], order[:30]) for order in orders])


def run(data: DataSet, split: int, model: str, setting: peers.Setting) -> list[Cell]:
    """The cells of one fit, with confidences for the calibration error over all splits of a set."""
    train, test = data.splits[split]
    truth, about = data.y[test], {}
    if model in PEERS:
        chosen = setting(data, model)
        predict = peer(model, chosen)
        if split == 0:
            about["setting"] = chosen
    else:
        predict = MODELS[model]
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer members than folds
        predictions = predict(data.X[train], data.y[train], data.X[test])
    seconds = time.process_time() - start
    cells = []
    for name, (label, p, classes) in predictions.items():
        cell = {"set": data.name, "split": split, "model": name, "fit": model, "n": len(train)}
        cell |= {"accuracy": float((label == truth).mean()), "seconds": round(seconds, 3)}
        if p is not None:
            cell["log_loss"] = log_loss(truth, p, classes)
            cell["brier"] = brier(truth, p, classes)
            cell["confidence"] = p.max(1).round(5).tolist()
            cell["hit"] = (classes[p.argmax(1)] == truth).astype(int).tolist()
        cells.append(cell | about)
    return cells


def searched(cells: Cells, seconds: float) -> peers.Setting:
    """A search on the rows of a set's first split, unless its cell has the setting."""

    def search(data: DataSet, model: str) -> peers.Settings:
        train = data.splits[0][0]
        classes, codes = np.unique(data.y[train], return_inverse=True)
        return peers.search(PEERS[model], data.X[train], codes, seconds, len(classes))

    return peers.once(search, cells.all, "set")


def brier(truth: np.ndarray, p: np.ndarray, classes: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the true class, between 0 and 2."""
    hit = truth[:, None] == classes
    absent = ~hit.any(1)  # a class without training rows has probability 0
    return float((np.square(p - hit).sum(1) + absent).mean())


def log_loss(truth: np.ndarray, p: np.ndarray, classes: np.ndarray) -> float:
    """Mean of -log p(truth), with p = 1e-15 for a class without training rows."""
    of_truth = (p * (truth[:, None] == classes)).sum(1)
    return -float(np.log(np.maximum(of_truth, 1e-15)).mean())


Table = dict[str, dict[str, dict[str, float]]]  # by model and set


def by_set(cells: list[Cell]) -> list[Cell]:
    """Means over splits and the pooled calibration error, a row for each set and model."""
    rows = []
    for model, name in dict.fromkeys((c["model"], c["set"]) for c in cells):
        own = [c for c in cells if (c["model"], c["set"]) == (model, name)]
        row = {"set": name, "model": model, "rows": own[0]["n"], "splits": len(own)}
        row |= {m: round(float(np.mean([c[m] for c in own])), 5) for m in MEASURES if m in own[0]}
        if "confidence" in own[0]:
            pooled = (np.concatenate([c[key] for c in own]) for key in ("confidence", "hit"))
            row["calibration_error"] = round(calibration_error(*pooled), 5)
        rows.append(row)
    return rows


def standard(rows: Iterable[Cell]) -> list[Cell]:
    """The rows of the standard sets, whose training parts are three quarters."""
    return [row for row in rows if _standard(row)]


def others(rows: Iterable[Cell]) -> list[Cell]:
    return [row for row in rows if not _standard(row)]


def _standard(row: Cell) -> bool:
    return row["splits"] == STANDARD_SPLITS and row["rows"] <= 0.75 * STANDARD_ROWS


def table_of(rows: Iterable[Cell]) -> Table:
    table: Table = {}
    for row in rows:
        table.setdefault(row["model"], {})[row["set"]] = row
    return table


def summarised(table: Table) -> dict[str, dict[str, float]]:
    """Means over the sets that all models have, mean ranks, and paired tests against the first."""
    sets = [set(rows) for rows in table.values()]
    shared = sorted(set.intersection(*sets)) if sets else []
    if not shared:
        return {}
    values = {
        (model, m): np.array([rows[name].get(m, np.nan) for name in shared])
        for model, rows in table.items()
        for m in (*TESTED, "seconds")
    }
    first, summary = next(iter(table)), {}
    for model in table:
        row = {"sets": len(shared)} | {
            m: float(values[model, m].mean()) for m in (*TESTED, "seconds")
        }
        for m in TESTED:
            difference = (values[model, m] - values[first, m]).round(10)
            if np.isfinite(difference).all() and difference.any():
                row[f"{m}_p"] = float(wilcoxon(difference).pvalue)
        summary[model] = row
    for m in TESTED:
        # The forest with a temperature predicts the forest's classes.
        ranked = [
            model for model in table
            if np.isfinite(values[model, m]).all() and (m, model) != ("accuracy", TEMPERED)
        ]  # fmt: skip
        sign = -1 if m == "accuracy" else 1
        columns = [sign * values[model, m].round(10) for model in ranked]
        for model, rank in zip(
            ranked, mean_ranks(np.stack(columns, 1)) if ranked else [], strict=True
        ):
            summary[model][f"{m}_rank"] = float(rank)
    return summary


def report(rows: list[Cell]) -> None:
    table = table_of(rows)
    summary = summarised(table)
    if not summary:
        return
    lines = [
        [model, f"{100 * one['accuracy']:.2f}", *(f"{one[m]:.4f}" for m in TESTED[1:]),
         *(f"{one.get(f'{m}_rank', np.nan):.2f}" for m in TESTED),
         *(f"{one.get(f'{m}_p', np.nan):.2g}" for m in TESTED), f"{one['seconds']:.1f}"]
        for model, one in summary.items()
    ]  # fmt: skip
    count = next(iter(summary.values()))["sets"]
    names = ["accuracy", "log-loss", "Brier", "calibration"]
    headings = ["model", *names, *(f"rank: {n}" for n in names), *(f"p: {n}" for n in names), "s"]
    print_table(f"means over {count} sets; p of Wilcoxon's test against the first", headings, lines)


def write(path: Path, cells: list[Cell]) -> list[Cell]:
    """Write rows of sets and cells without confidences; return all rows of sets.

    Those of the file that are not among ``cells`` stay.
    """
    new = {(c["set"], c["model"]) for c in cells}
    old = json.loads(path.read_text()) if path.exists() else {"sets": [], "cells": []}
    kept = {
        key: [one for one in rows if (one["set"], one["model"]) not in new]
        for key, rows in old.items()
    }
    short = [{k: v for k, v in c.items() if k not in ("confidence", "hit")} for c in cells]
    parts = []
    for key, rows in (("sets", kept["sets"] + by_set(cells)), ("cells", kept["cells"] + short)):
        parts.append(f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    return kept["sets"] + by_set(cells)


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, ".npz classification sets", resumes=True)
    parser.add_argument("--sets", nargs="+", help='names, or "others"; default: the standard ones')
    parser.add_argument("--max-rows", type=int, help="leave out larger sets")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of a peer's search")
    choices = [*MODELS, *PEERS]
    parser.add_argument("--models", nargs="+", choices=choices, default=list(MODELS))
    options = parsed(parser, arguments)
    for one in (PEERS[name] for name in options.models if name in PEERS):
        peers.optional(one.package)
    rest = options.sets == ["others"]
    data_sets = (
        [simulated()]
        if options.quick
        else load_sets(options.data, None if rest else options.sets, rest)
    )
    if options.max_rows is not None:
        data_sets = [one for one in data_sets if len(one.y) <= options.max_rows]
    data_sets.sort(key=lambda one: len(one.y))
    out = output(options, "classification")
    # Cells with all confidences, too long to be kept with the results.
    cells = Cells(out and out.with_suffix(".cells.jsonl"), ["set", "split", "fit"])
    todo = [
        (data, split, model)
        for data in data_sets
        for model in options.models
        for split in range(len(data.splits))
    ]
    setting = searched(cells, 1.0 if options.quick else options.budget)
    measure = partial(run, setting=setting)
    fill(cells, todo, measure, options.seconds, lambda data, *rest: (data.name, *rest))
    rows = write(out, cells.all) if out else by_set(cells.all)
    rows.sort(key=lambda row: choices.index(row["model"].partition(",")[0]))
    report(rows if options.quick else standard(rows))
    return cells.all


if __name__ == "__main__":
    main()
