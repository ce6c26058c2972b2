"""How do the estimators read tables whose columns hold categories?

    python benchmarks/nominal.py --data DIR             # figures of test rows
    python benchmarks/nominal.py --data DIR --choose    # what the prior's spread was chosen by
    python benchmarks/nominal.py --quick

Columns of 3 to 25 different numbers are the codes of categories here. "numbers": the estimator sees
the codes. "frame": it sees a data frame with texts in their place. "unrelated": indicators, as an
array of numbers; each is standardised. "skrub": the data frame through skrub.tabular_pipeline. The
regressor is also given labels of classes, as numbers. Up to 200 training rows and 1000 test rows of
each split. Scores of regressions are in standard deviations of the training targets.

With --choose, rows of the training parts alone are fitted and predicted, with different spreads of
the lengthscales of one column under the weak prior, one component and "map".
"""

from __future__ import annotations

import time
import warnings
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from harness import Cell, Cells, fill, mean_and_error, output, parsed, parser_of, print_table
from sklearn.metrics import log_loss

from resnet_gp import ResNetGPClassifier, ResNetGPRegressor
from resnet_gp.columns import Columns
from resnet_gp.columns.values import columns_of
from resnet_gp.predictive.scores import scores_of

REGRESSION = ("autos", "solar", "simulated-1", "simulated-2", "forest")
LABELS = ("car", "cylinder-bands", "tic-tac-toe")
MORE_LABELS = ("credit-approval", "mammographic", "flags", "breast-cancer", "heart-cleveland")
CLASSIFICATION = (*LABELS, "credit-approval", "flags", "mammographic", "breast-cancer")
WAYS = ("numbers", "frame", "unrelated", "skrub")
SPREADS = ("0.01", "0.25", "0.5", "1", "unrelated")
SPLITS, TRAIN, TEST = 2, 200, 1000
FEWEST, MOST = 3, 25


@cache
def data_of(folder: Path | None, name: str) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Inputs, targets, and the training rows of each split."""
    if name.startswith("simulated"):
        X, y = simulated(int(name[-1]))
        rng = np.random.default_rng(0)
        return X, y, [rng.permutation(len(y))[:TRAIN] for _ in range(SPLITS)]
    kind = "regression" if name in REGRESSION else "classification"
    with np.load(folder / kind / f"{name}.npz") as file:
        parts = [file[f"train_{i}"].astype(int) for i in range(SPLITS)]
        return file["X"], file["y"], parts


def simulated(seed: int, n: int = 1300) -> tuple[np.ndarray, np.ndarray]:
    """Ten and four categories; each has a level, or a slope, of its own."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(10, size=n), rng.integers(4, size=n)
    x, z = rng.normal(size=(2, n))
    y = rng.normal(size=10)[first] + rng.normal(size=10)[first] * x
    y += np.sin(2 * z) * rng.normal(size=4)[second] + 0.3 * rng.normal(size=n)
    return np.column_stack([first, second, x, z]), y


def frame_of(X: np.ndarray) -> pd.DataFrame:
    """Texts in the place of codes."""
    columns = {}
    for i, column in enumerate(X.T):
        different = np.unique(column)
        is_nominal = FEWEST <= len(different) <= MOST
        codes = np.searchsorted(different, column)
        columns[f"c{i}"] = [f"kind {code}" for code in codes] if is_nominal else column
    return pd.DataFrame(columns)


def rows(parts: list[np.ndarray], n: int, split: int, choose: bool) -> list[np.ndarray]:
    """Training rows and test rows; both of the training part to choose."""
    rng = np.random.default_rng(split)
    train = rng.permutation(parts[split])
    count = min(TRAIN, int(0.7 * len(train))) if choose else TRAIN
    others = train[count:] if choose else np.setdiff1d(np.arange(n), train)
    return [train[:count], rng.permutation(others)[:TEST]]


def fitted_and_new(model, way: str, X: np.ndarray, y: np.ndarray, train, test):
    """A fitted model and the test rows as it takes them."""
    if way == "numbers":
        return model.fit(X[train], y[train]), X[test]
    frame = frame_of(X)
    before, after = frame.iloc[train], frame.iloc[test]
    if way == "unrelated":
        columns = Columns.learn(columns_of(before))
        features = [columns.encode(columns_of(part))[0] for part in (before, after)]
        return model.fit(features[0], y[train]), features[1]
    if way == "skrub":
        import skrub

        *encoder, _ = [step for _, step in skrub.tabular_pipeline(model).steps]
        for step in encoder:
            before, after = step.fit_transform(before), step.transform(after)
        return model.fit(np.asarray(before), y[train]), np.asarray(after)
    spread = float(way) if way[0].isdigit() else 0.5
    with patch("resnet_gp.models.priors._RELATED", spread):
        return model.fit(before, y[train]), after


def measure(folder: Path | None, task: str, name: str, split: int, way: str, choose: bool) -> Cell:
    X, y, parts = data_of(folder, name)
    train, test = rows(parts, len(y), split, choose)
    cell = {"task": task, "set": name, "split": split, "way": way}
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if task == "classification":
            known = np.isin(y[test], y[train])
            model = ResNetGPClassifier(random_state=0, verbose=False)
            model, new = fitted_and_new(model, way, X, y, train, test[known])
            found = model.predict_proba(new)
            truth = y[test[known]]
            accuracy = float((model.classes_[found.argmax(1)] == truth).mean())
            loss = float(log_loss(truth, found, labels=model.classes_))
            taken = time.perf_counter() - start
            return cell | {"accuracy": accuracy, "log_loss": loss, "seconds": taken}
        targets = y / y[train].std()
        how = {"hyperparameters": "map", "n_components": 1} if choose else {}
        model = ResNetGPRegressor(verbose=False, **how)
        model, new = fitted_and_new(model, way, X, targets, train, test)
        found = scores_of(model.predict_law(new), targets[test])
        return cell | found._asdict() | {"seconds": time.perf_counter() - start}


def text(values: np.ndarray) -> str:
    return mean_and_error(values) if len(values) else "-"


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, "classification and regression sets", resumes=True)
    parser.add_argument("--choose", action="store_true", help="compare spreads on training rows")
    options = parsed(parser, arguments)
    ways, tasks = WAYS, {"regression": (*REGRESSION, *LABELS), "classification": CLASSIFICATION}
    if options.choose:
        ways, tasks = SPREADS, {"regression": (*REGRESSION, *LABELS, *MORE_LABELS)}
    splits = SPLITS
    if options.quick:
        tasks, splits, ways = {"regression": ["simulated-1"]}, 1, ways[:2]
    name = "nominal_choice" if options.choose else "nominal"
    cells = Cells(output(options, name), ["task", "set", "split", "way"])
    todo = [
        (task, one, split, way)
        for split in range(splits)
        for task, sets in tasks.items()
        for one in sets
        for way in ways
        if (task, way) != ("classification", "unrelated")
    ]
    fill(cells, todo, lambda *key: measure(options.data, *key, options.choose), options.seconds)
    measures = {"regression": ("rmse", "nlpd", "crps"), "classification": ("accuracy", "log_loss")}
    for task, sets in tasks.items():
        for what in (*measures[task], "seconds"):
            table = [
                [
                    one,
                    *(text(cells.values(what, set=one, way=w, task=task)) for w in ways),
                ]
                for one in sets
                if cells.where(task=task, set=one, way=ways[-1])
            ]
            print_table(f"{task}: {what}", ["set", *ways], table)
    return cells


if __name__ == "__main__":
    main()
