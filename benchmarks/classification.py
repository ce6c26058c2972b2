"""How well does the classifier predict, against a forest, an SVM and a GP with an RBF kernel?

    python benchmarks/classification.py --data DIR [--sets iris wine] [--models resnet forest]
    python benchmarks/classification.py --quick          # simulated data, seconds

DIR holds .npz sets (keys X, y, n_splits, train_0, test_0, ...). Without --sets, all sets with 4
splits and at most 5000 rows are used. Every cell (set, split, model) is saved once it is done, and
a run that was stopped resumes. Prints means and paired tests over sets.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gpytorch.kernels import Kernel, RBFKernel
from harness import Cell, Cells, fill, output, parsed, parser_of, print_table, timed
from ranks import mean_ranks
from scipy.optimize import minimize_scalar
from scipy.stats import wilcoxon
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from resnet_gp import ResNetGPClassifier
from resnet_gp.fitting.kernel_settings import KernelSetting

MEASURES = ("accuracy", "log_loss", "seconds")
BINS = 20
TREES = 500
SEARCH_ROWS = 1500
SVC_GRID = {"svc__C": 10.0 ** np.arange(-1, 4), "svc__gamma": 10.0 ** np.arange(-2, 1.5, 0.5)}
# No forest is sure beyond half a tree.
LEAST = 0.5 / TREES


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
    about: dict[str, object] = {}  # noqa: RUF012


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
        "forest, temperature": Prediction(label, tempered, model.classes_),
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


class RBFGPClassifier(ResNetGPClassifier):
    """The classifier with RBF kernels in place of ours, all else equal."""

    def _settings(self) -> list[KernelSetting]:
        """Lengthscales in root mean squared distances from the centre."""
        scales = 2.0 ** np.arange(-3, 4.5, 0.5)
        blocks = self._inputs.blocks
        return [KernelSetting("rbf", scale, 0.0, block) for block in blocks for scale in scales]

    def _make(self, setting: KernelSetting) -> Kernel:
        kernel = RBFKernel(active_dims=setting.active_dims).double()
        kernel.lengthscale = setting.horizon * len(setting.active_dims) ** 0.5
        return kernel.requires_grad_(False)


def gp(name: str, make: type[ResNetGPClassifier]) -> Model:
    def model(X: np.ndarray, y: np.ndarray, X_test: np.ndarray) -> dict[str, Prediction]:
        fitted = make(random_state=0).fit(X, y)
        p = fitted.predict_proba(X_test)
        return {name: Prediction(fitted.classes_[p.argmax(1)], p, fitted.classes_)}

    return model


MODELS: dict[str, Model] = {
    "resnet": gp("resnet", ResNetGPClassifier),
    "rbf": gp("rbf", RBFGPClassifier),
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


def load_sets(folder: Path, names: list[str] | None) -> list[DataSet]:
    """Load the named sets, or all standard ones, of a folder or its folder ``classification``.

    Raises:
        FileNotFoundError: a set is missing, or there are none.
    """
    inner = folder / "classification"
    folder = inner if inner.is_dir() else folder
    known = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if missing := sorted(set(names or ()) - set(known)) or not known:
        raise FileNotFoundError(f"--sets: {folder} lacks {missing if known else 'any .npz set'}")
    loaded = [load_set(known[name]) for name in names or known]
    return [s for s in loaded if names or (len(s.splits) == 4 and len(s.y) <= 5000)]


def simulated(n: int = 90) -> DataSet:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    X = rng.normal(size=(n, 2)) + 3 * np.eye(3)[y][:, :2]
    orders = [rng.permutation(n) for _ in range(2)]
    return DataSet("simulated", X, y, [(order[30:], order[:30]) for order in orders])


def run(data: DataSet, split: int, model: str) -> list[Cell]:
    """The cells of one fit, with confidences for the calibration error over all splits of a set."""
    train, test = data.splits[split]
    truth = data.y[test]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer members than folds
        predictions, seconds = timed(
            lambda: MODELS[model](data.X[train], data.y[train], data.X[test])
        )
    cells = []
    for name, (label, p, classes, about) in predictions.items():
        cell = {"set": data.name, "split": split, "model": name, "fit": model, "n": len(train)}
        cell |= {"accuracy": float((label == truth).mean()), "seconds": round(seconds, 3)}
        if p is not None:
            cell["log_loss"] = log_loss(truth, p, classes)
            cell["confidence"] = p.max(1).round(5).tolist()
            cell["hit"] = (classes[p.argmax(1)] == truth).astype(int).tolist()
        cells.append(cell | about)
    return cells


def log_loss(truth: np.ndarray, p: np.ndarray, classes: np.ndarray) -> float:
    """Mean of -log p(truth), with p = 1e-15 for a class without training rows."""
    of_truth = (p * (truth[:, None] == classes)).sum(1)
    return -float(np.log(np.maximum(of_truth, 1e-15)).mean())


def by_set(cells: list[Cell]) -> dict[str, dict[str, dict[str, float]]]:
    """Means over splits and the pooled calibration error, by model and set."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for model, name in dict.fromkeys((c["model"], c["set"]) for c in cells):
        own = [c for c in cells if (c["model"], c["set"]) == (model, name)]
        row = {m: float(np.mean([c[m] for c in own])) for m in MEASURES if m in own[0]}
        if "confidence" in own[0]:
            pooled = (np.concatenate([c[key] for c in own]) for key in ("confidence", "hit"))
            row["calibration_error"] = calibration_error(*pooled)
        table.setdefault(model, {})[name] = row
    return table


def report(cells: list[Cell]) -> dict[str, dict[str, float]]:
    """Means over the sets that all models have, mean ranks, and paired tests against the first."""
    table = by_set(cells)
    shared = sorted(set.intersection(*(set(rows) for rows in table.values())))
    if not shared:
        return {}
    measures = ("accuracy", "log_loss", "calibration_error")
    values = {
        (model, m): np.array([rows[name].get(m, np.nan) for name in shared])
        for model, rows in table.items()
        for m in (*measures, "seconds")
    }
    ranked = [m for m in table if m != "forest, temperature"]  # has the forest's accuracy
    ranks = mean_ranks(-np.stack([values[m, "accuracy"] for m in ranked], 1).round(10))
    first, summary, rows = next(iter(table)), {}, []
    for model in table:
        row = {m: float(values[model, m].mean()) for m in measures}
        if model in ranked:
            row["rank"] = float(ranks[ranked.index(model)])
        row["seconds"] = float(sum(c["seconds"] for c in cells if c["model"] == model))
        for m in measures:
            difference = (values[model, m] - values[first, m]).round(10)
            if np.isfinite(difference).all() and difference.any():
                row[f"{m}_p"] = float(wilcoxon(difference).pvalue)
        summary[model] = row
        texts = [f"{100 * row['accuracy']:.2f}", f"{row.get('rank', np.nan):.2f}"]
        texts += [f"{row[m]:.4f}" for m in measures[1:]] + [f"{row['seconds']:.0f}"]
        rows.append([model, *texts, *(f"{row.get(f'{m}_p', np.nan):.2g}" for m in measures)])
    print_table(
        f"means over {len(shared)} sets; p of Wilcoxon's test against {first}",
        ["model", "accuracy", "rank", "log-loss", "calibration", "s in all", "p", "p", "p"],
        rows,
    )
    return summary


def write(path: Path, cells: list[Cell], summary: dict[str, dict[str, float]]) -> None:
    """Write the summary, the sets, and one line for each cell without its confidences."""
    short = [{k: v for k, v in c.items() if k not in ("confidence", "hit")} for c in cells]
    sets = [
        {"set": name, "model": model} | {k: round(v, 5) for k, v in row.items()}
        for model, rows in by_set(cells).items()
        for name, row in rows.items()
    ]
    parts = [f'"summary": {json.dumps(summary, indent=1)}']
    for key, rows in (("sets", sets), ("cells", short)):
        parts.append(f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main(arguments: list[str] | None = None) -> list[Cell]:
    parser = parser_of(__doc__, ".npz classification sets", resumes=True)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--max-rows", type=int, help="leave out larger sets")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    options = parsed(parser, arguments)
    data_sets = [simulated()] if options.quick else load_sets(options.data, options.sets)
    if options.max_rows is not None:
        data_sets = [one for one in data_sets if len(one.y) <= options.max_rows]
    out = output(options, "classification")
    # Cells with all confidences, too long to be kept with the results.
    cells = Cells(out and out.with_suffix(".cells.jsonl"), ["set", "split", "fit"])
    todo = [
        (data, split, model)
        for data in data_sets
        for split in range(len(data.splits))
        for model in options.models
    ]
    fill(cells, todo, run, options.seconds, lambda data, *rest: (data.name, *rest))
    chosen = [c for c in cells.all if c["fit"] in options.models]
    chosen.sort(key=lambda c: options.models.index(c["fit"]))
    summary = report(chosen) if chosen else {}
    if out:
        write(out, chosen, summary)
    return cells.all


if __name__ == "__main__":
    main()
