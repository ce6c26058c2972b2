"""Packages that users would take in place of ours, tuned: gradient boosting, forests, xRFM.

Each is tuned once for a set, on the training rows of its first split, and the setting is kept for
the other splits; this favours the peers a little, as the test rows of those are among these rows.
The search is random, takes the package's defaults first, and ends after ``SETTINGS`` settings or
once its seconds of the processor are over. A setting is judged on held-out rows: a fifth of all, or
below ``FOLDS_BELOW`` rows each fifth in turn. The loss is the one that the model learns: negative
log density where it has a density of its own, CRPS of the quantile forest, else squared error; of
classifiers, log-loss. Boosting stops early on the held-out rows. Then every split is fitted to all
of its training rows, with the setting and its number of trees. All have one thread.

Beyond ``SEARCH_ROWS`` rows, xRFM, NGBoost and the forests are tuned on that many of them, and what
the held-out rows say of the best setting (iterations, trees, residuals) is learned from all rows.
xRFM solves linear systems as large as its leaves, so that more than ``WHOLE`` rows are split by its
own trees into leaves of ``LEAF``; there, as in the package, a fifth of the rows stays held out in
the end, and its residuals give the deviation.

Spaces:
    CatBoost, LightGBM and XGBoost: those of Gorishniy et al. (2024), "TabR" (*-tuning.toml in
    yandex-research/tabular-dl-tabr), with learning rates of .01 to .3 and depths to 10, since there
    are at most ``TREES`` trees; for LightGBM also the least rows of a leaf, whose default, 20, is
    too many for small sets.
    xRFM: Beaglehole, Holzmueller, Radhakrishnan & Belkin (2025), "xRFM", for numerical columns.
    NGBoost: trees, learning rate and depth. Forests: features of a split and rows of a leaf.

Laws: NGBoost and "catboost_law" (CatBoost's loss RMSEWithUncertainty) predict normal laws; the
quantile forest predicts quantiles, and so has no density; the forest's variance is the spread of
its trees' predictions plus the mean squared out-of-bag residual; scikit-learn's GP, with an ARD
Matern-5/2 kernel, is for at most 2000 rows; it and GPyTorch's sparse GPs (sparse_gps.py) have
nothing to tune. The others predict means, and get a normal law whose deviation is that of the
held-out residuals.
"""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sparse_gps import sgpr, svgp

from resnet_gp.demo import matern_model
from resnet_gp.estimators.laws import law_of
from resnet_gp.predictive import Law

Array = NDArray[np.float64]
Settings = dict[str, Any]
#: The settings of a set's model.
Setting = Callable[[Any, str], Settings]

SECONDS, SETTINGS = 20.0, 30
FOLDS, FOLDS_BELOW = 5, 500
TREES, PATIENCE = 2000, 50  # of boosting; trees without gain
FOREST, FOREST_TRIAL = 500, 100
SEARCH_ROWS = 5000
WHOLE, LEAF = 10_000, 5000  # rows of xRFM without trees, and of the leaves of its trees
SLOW_TREES = 500  # of NGBoost above WHOLE rows
LEVELS = np.arange(1, 100) / 100


class Quantiles(NamedTuple):
    """Predictive laws by their quantiles at ``LEVELS``, n x levels, and their means."""

    mean: Array
    at_levels: Array

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        tail = round(100 * (1 - level) / 2)
        return self.at_levels[:, tail - 1], self.at_levels[:, -tail]

    def log_density(self, y: Any) -> Array:
        return np.full(len(self.mean), np.nan)

    def crps(self, y: Any) -> Array:
        """Twice the integral of the pinball loss over the levels; it vanishes at 0 and 1."""
        gap = np.asarray(y)[:, None] - self.at_levels
        return 2 * LEVELS[0] * np.maximum(LEVELS * gap, (LEVELS - 1) * gap).sum(1)


class Fitted(NamedTuple):
    """A fit.

    Attributes:
        predict: new inputs to means, laws, or the probabilities of classes 0, 1, ...
        kept: what the held-out rows have chosen, such as the number of trees.
    """

    predict: Callable[[Array], Any]
    kept: Settings = {}  # noqa: RUF012


class Task(NamedTuple):
    """Rows to learn from.

    Attributes:
        rows: ``n x d`` inputs and ``n`` targets; classes 0, ..., ``classes - 1``.
        held: held-out rows that choose the number of trees and the like; None for all rows.
        classes: number of classes; 0 for regression.
        until: seconds of this process at which boosting stops.
    """

    rows: tuple[Array, Any]
    held: tuple[Array, Any] | None = None
    classes: int = 0
    until: float = np.inf


class Peer(NamedTuple):
    """A model with its space of settings.

    Attributes:
        fit: fits a task with a setting.
        draw: a random setting; None if nothing is tuned.
        package: what has to be installed.
        search_rows: settings are compared on at most this many rows.
        holds_out: above this number of rows, the fit of all rows holds out a fifth itself.
        most_rows: the model is for sets that are no larger.
    """

    fit: Callable[[Settings, Task], Fitted]
    draw: Callable[[np.random.Generator], Settings] | None
    package: str = "sklearn"
    search_rows: float = np.inf
    holds_out: float = np.inf
    most_rows: float = np.inf


def optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f'{name} is needed: pip install "resnet-gp[peers]"') from error


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _or_zero(rng: np.random.Generator, low: float, high: float) -> float:
    return _log_uniform(rng, low, high) if rng.random() < 0.5 else 0.0


def _integer(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high, endpoint=True))


def _catboost_space(rng: np.random.Generator) -> Settings:
    return {
        "learning_rate": _log_uniform(rng, 0.01, 0.3),
        "depth": _integer(rng, 3, 10),
        "l2_leaf_reg": rng.uniform(0.1, 10),
        "bagging_temperature": rng.uniform(0, 1),
        "leaf_estimation_iterations": _integer(rng, 1, 10),
    }


def _lightgbm_space(rng: np.random.Generator) -> Settings:
    return {
        "learning_rate": _log_uniform(rng, 0.01, 0.3),
        "num_leaves": _integer(rng, 4, 768),
        "colsample_bytree": rng.uniform(0.5, 1),
        "subsample": rng.uniform(0.5, 1),
        "subsample_freq": 1,
        "reg_lambda": _or_zero(rng, 0.1, 10),
        "min_child_weight": _log_uniform(rng, 1e-4, 100),
        "min_child_samples": round(_log_uniform(rng, 1, 40)),
    }


def _xgboost_space(rng: np.random.Generator) -> Settings:
    return {
        "learning_rate": _log_uniform(rng, 0.01, 0.3),
        "max_depth": _integer(rng, 3, 10),
        "colsample_bytree": rng.uniform(0.5, 1),
        "subsample": rng.uniform(0.5, 1),
        "gamma": _or_zero(rng, 1e-3, 100),
        "reg_lambda": _or_zero(rng, 0.1, 10),
        "min_child_weight": _log_uniform(rng, 1e-4, 100),
    }


def _xrfm_space(rng: np.random.Generator) -> Settings:
    return {
        "kernel": str(rng.choice(["l1", "l2"])),
        "bandwidth": _log_uniform(rng, 1, 200),
        "exponent": rng.uniform(0.7, 1.3),
        "diag": bool(rng.random() < 0.5),
        "reg": _log_uniform(rng, 1e-6, 10),
    }


def _ngboost_space(rng: np.random.Generator) -> Settings:
    return {"learning_rate": _log_uniform(rng, 0.01, 0.1), "depth": _integer(rng, 2, 5)}


def _forest_space(rng: np.random.Generator) -> Settings:
    return {
        "max_features": rng.uniform(0.2, 1),
        "min_samples_leaf": round(_log_uniform(rng, 1, 20)),
    }


class _CatBoostClock(NamedTuple):
    until: float

    def after_iteration(self, _: Any) -> bool:
        """Whether to go on."""
        return time.process_time() < self.until


def _catboost(loss: str, settings: Settings, task: Task) -> Fitted:
    package = optional("catboost")
    make = package.CatBoostClassifier if task.classes else package.CatBoostRegressor
    if task.classes:
        loss = "Logloss" if task.classes == 2 else "MultiClass"
    options = {"iterations": TREES if settings else 1000} | settings
    model = make(
        loss_function=loss, random_seed=0, verbose=False, allow_writing_files=False, thread_count=1,
        **options,
    )  # fmt: skip
    if task.held is None:
        model.fit(*task.rows)
    else:
        model.fit(
            *task.rows, eval_set=task.held, early_stopping_rounds=PATIENCE,
            callbacks=[_CatBoostClock(task.until)],
        )  # fmt: skip
    # The automatic learning rate depends on the number of trees.
    kept = {"learning_rate": model.learning_rate_, "iterations": int(model.tree_count_)}

    def law(new: Array) -> Law:
        mean, variance = model.predict(new).T
        return Law.normal(mean, np.sqrt(variance))

    if loss == "RMSEWithUncertainty":
        return Fitted(law, kept)
    return Fitted(_predict(model, task), kept)


def _lightgbm(settings: Settings, task: Task) -> Fitted:
    package = optional("lightgbm")
    make = package.LGBMClassifier if task.classes else package.LGBMRegressor
    model = make(random_state=0, n_jobs=1, verbose=-1, **({"n_estimators": TREES} | settings))
    if task.held is None:
        return Fitted(_predict(model.fit(*task.rows), task))

    def clock(state: Any) -> None:
        if time.process_time() > task.until:
            raise package.callback.EarlyStopException(state.iteration, state.evaluation_result_list)

    stop = package.early_stopping(PATIENCE, verbose=False)
    held = dict(zip(("eval_X", "eval_y"), task.held, strict=True))
    model.fit(*task.rows, **held, callbacks=[stop, clock])
    return Fitted(_predict(model, task), {"n_estimators": max(1, model.best_iteration_)})


def _xgboost(settings: Settings, task: Task) -> Fitted:
    package = optional("xgboost")
    make = package.XGBClassifier if task.classes else package.XGBRegressor
    options = {"n_estimators": TREES, "random_state": 0, "n_jobs": 1} | settings
    if task.held is None:
        return Fitted(_predict(make(**options).fit(*task.rows), task))

    class Clock(package.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, *_: Any) -> bool:
            """Whether to stop."""
            return time.process_time() > task.until

    model = make(early_stopping_rounds=PATIENCE, callbacks=[Clock()], **options)
    model.fit(*task.rows, eval_set=[task.held], verbose=False)
    best = model.get_booster().attr("best_iteration")  # none if the clock stops the first tree
    return Fitted(_predict(model, task), {"n_estimators": 1 + int(best or 0)})


def _ngboost(settings: Settings, task: Task) -> Fitted:
    from sklearn.tree import DecisionTreeRegressor

    trees = TREES if len(task.rows[0]) <= WHOLE else SLOW_TREES
    options = {"n_estimators": trees} | settings
    base = DecisionTreeRegressor(max_depth=options.pop("depth", 3), random_state=0)
    model = optional("ngboost").NGBRegressor(Base=base, verbose=False, random_state=0, **options)
    kept = {}
    if task.held is None:
        model.fit(*task.rows)
    else:
        model.fit(*task.rows, *task.held, early_stopping_rounds=PATIENCE)
        kept["n_estimators"] = 1 + int(model.best_val_loss_itr)

    def law(new: Array) -> Law:
        normal = model.pred_dist(new, max_iter=kept.get("n_estimators"))
        return Law.normal(normal.loc, normal.scale)

    return Fitted(law, kept)


def _forest(settings: Settings, task: Task) -> Fitted:
    from sklearn.ensemble import RandomForestRegressor

    make = partial(RandomForestRegressor, random_state=0, **settings)
    if task.held is not None:
        return Fitted(make(FOREST_TRIAL).fit(*task.rows).predict)
    model = make(FOREST, oob_score=True).fit(*task.rows)
    noise = np.square(task.rows[1] - model.oob_prediction_).mean()

    def law(new: Array) -> Law:
        each = np.stack([tree.predict(new) for tree in model.estimators_])
        return Law.normal(each.mean(0), np.sqrt(each.var(0) + noise))

    return Fitted(law)


def _quantile_forest(settings: Settings, task: Task) -> Fitted:
    trees = FOREST if task.held is None else FOREST_TRIAL
    make = optional("quantile_forest").RandomForestQuantileRegressor
    model = make(trees, random_state=0, **settings).fit(*task.rows)

    def law(new: Array) -> Quantiles:
        parts = np.array_split(new, 1 + len(new) // 1000)
        means, found = (
            np.concatenate([model.predict(part, quantiles=q) for part in parts])
            for q in ("mean", list(LEVELS))
        )
        return Quantiles(means, found)

    return Fitted(law)


def _xrfm(settings: Settings, task: Task) -> Fitted:
    """Standardised inputs and targets, as its authors do."""
    package = optional("xrfm")
    model = {"bandwidth": 10.0, "exponent": 1.0, "diag": False, "kernel": "l2"} | settings
    iterations, regularisation = model.pop("iterations", None), model.pop("reg", 1e-3)
    (X, y), held = task.rows, task.held
    trees = len(X) > WHOLE
    if held is None and trees:
        keep = folds(len(X), y if task.classes else None) != 0
        (X, y), held = (X[keep], y[keep]), (X[~keep], y[~keep])
    fit = {"reg": regularisation, "iters": 5}
    if held is None:
        fit |= {"iters": iterations, "return_best_params": False, "early_stop_rfm": False}
        held = X[:32], y[:32]  # without effect
    centre, scale = X.mean(0), np.where(X.max(0) > X.min(0), X.std(0), 1.0)
    middle, spread = (0.0, 1.0) if task.classes else (y.mean(), y.std())

    def inputs(x: Array) -> NDArray[np.float32]:
        return ((x - centre) / scale).astype(np.float32)

    def targets(t: Array) -> Any:
        return t.astype(np.int64) if task.classes else ((t - middle) / spread).astype(np.float32)

    fitted = package.xRFM(
        {"model": model, "fit": fit}, max_leaf_size=LEAF if trees else WHOLE, device="cpu",
        tuning_metric="logloss" if task.classes else "mse", random_state=0, verbose=False,
    )  # fmt: skip
    fitted.fit(inputs(X), targets(y), inputs(held[0]), targets(held[1]))
    best = [one for one in fitted._collect_attr("best_iter") if one is not None]
    kept = {"iterations": int(np.median(best))} if best else {}
    if task.classes:
        return Fitted(lambda new: fitted.predict_proba(inputs(new)), kept)

    def predict(new: Array) -> Array:
        found = np.asarray(fitted.predict(inputs(new)), dtype=np.float64).reshape(len(new))
        return middle + spread * found

    if trees:
        kept["deviation"] = float(np.sqrt(np.square(held[1] - predict(held[0])).mean()))
    return Fitted(predict, kept)


def _sklearn(_: Settings, task: Task) -> Fitted:
    return Fitted(partial(law_of, matern_model(task.rows[0].shape[1]).fit(*task.rows)))


def _sparse(way: Callable[..., Any], _: Settings, task: Task) -> Fitted:
    return Fitted(way(*task.rows))


def _predict(model: Any, task: Task) -> Callable[[Array], Array]:
    return model.predict_proba if task.classes else model.predict


REGRESSORS = {
    "catboost": Peer(partial(_catboost, "RMSE"), _catboost_space, "catboost"),
    "catboost_law": Peer(partial(_catboost, "RMSEWithUncertainty"), _catboost_space, "catboost"),
    "lightgbm": Peer(_lightgbm, _lightgbm_space, "lightgbm"),
    "xgboost": Peer(_xgboost, _xgboost_space, "xgboost"),
    "ngboost": Peer(_ngboost, _ngboost_space, "ngboost", SEARCH_ROWS),
    "xrfm": Peer(_xrfm, _xrfm_space, "xrfm", SEARCH_ROWS, WHOLE),
    "forest": Peer(_forest, _forest_space, search_rows=SEARCH_ROWS),
    "quantile_forest": Peer(_quantile_forest, _forest_space, "quantile_forest", SEARCH_ROWS),
    "sklearn": Peer(_sklearn, None, most_rows=2000),
    "sgpr": Peer(partial(_sparse, sgpr), None, "gpytorch"),
    "svgp": Peer(partial(_sparse, svgp), None, "gpytorch"),
}
CLASSIFIERS = {
    "catboost": Peer(partial(_catboost, ""), _catboost_space, "catboost"),
    "lightgbm": Peer(_lightgbm, _lightgbm_space, "lightgbm"),
    "xgboost": Peer(_xgboost, _xgboost_space, "xgboost"),
    "xrfm": Peer(_xrfm, _xrfm_space, "xrfm", SEARCH_ROWS, WHOLE),
}


def folds(n: int, y: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The fifth, 0 to 4, of each of ``n`` rows.

    Args:
        y: classes, spread evenly over the fifths; a class of one row is in none (-1), so that each
            class is left when a fifth is held out.
    """
    order = np.random.default_rng(0).permutation(n)
    if y is not None:
        order = order[np.argsort(y[order], kind="stable")]
    found = np.empty(n, dtype=np.int64)
    found[order] = np.arange(n) % FOLDS
    if y is not None:
        found[np.bincount(y)[y] == 1] = -1
    return found


def once(search: Setting, cells: list[dict[str, Any]], name: str) -> Setting:
    """A search that is made once for a set and a model, and not if a cell has its setting.

    Args:
        search: called with a set and the name of a model.
        cells: finished ones.
        name: their entry with the name of the set.
    """
    known = {(cell[name], cell["model"]): cell["setting"] for cell in cells if "setting" in cell}

    def setting(data: Any, model: str) -> Settings:
        if (data.name, model) not in known:
            known[data.name, model] = search(data, model)
        return known[data.name, model]

    return setting


def search(peer: Peer, X: Array, y: Any, seconds: float = SECONDS, classes: int = 0) -> Settings:
    """The best setting: what ``fit`` takes, with "deviation" where the model predicts means.

    Args:
        X: ``n x d`` inputs.
        y: ``n`` targets; classes 0, ..., ``classes - 1``.
        seconds: no setting starts after these seconds of the processor, and the defaults take at
            most twice as long; 0 for the defaults alone.
        classes: number of classes; 0 for regression.

    Raises:
        RuntimeError: no setting could be fitted.
    """
    if peer.draw is None:
        return {}
    start, limit = time.process_time(), 2 * seconds or np.inf
    rows = np.arange(len(y))
    if few := len(y) > peer.search_rows:
        rows = _some(peer.search_rows, y if classes else None, len(y))
    held = _held_out(y[rows], classes)
    rng, best, least, problem = np.random.default_rng(0), None, np.inf, None
    for trial in range(SETTINGS):
        settings = peer.draw(rng) if trial else {}
        until = start + seconds if trial else np.inf
        try:
            found = _judged(peer, settings, X[rows], y[rows], held, classes, until, limit)
        except Exception as error:  # a setting that a package cannot fit
            problem = error
        else:
            if found[1] < least:
                best, least = (settings, found[0]), found[1]
        if time.process_time() - start > seconds:
            break
    if best is None:
        raise RuntimeError(f"no setting could be fitted: {problem}") from problem
    settings, chosen = best
    if few and len(y) <= peer.holds_out:
        chosen, _ = _judged(peer, settings, X, y, _held_out(y, classes), classes)
    about = {"settings_tried": trial + 1, "search_seconds": time.process_time() - start}
    return settings | chosen | about


def _some(count: float, y: Any, n: int) -> NDArray[np.int64]:
    """About ``count`` of ``n`` rows; of each class, at least three, or all."""
    order = np.random.default_rng(1).permutation(n)
    if y is None:
        return order[: int(count)]
    number = np.empty(n, dtype=np.int64)  # of the row in its class
    for one in np.unique(y):
        number[order[y[order] == one]] = np.arange((y == one).sum())
    share = np.ceil(np.bincount(y) * count / n).astype(np.int64)
    return np.flatnonzero(number < np.maximum(3, share)[y])


def _held_out(y: Any, classes: int) -> list[NDArray[np.bool_]]:
    parts = folds(len(y), y if classes else None)
    return [parts == i for i in range(FOLDS if len(y) < FOLDS_BELOW else 1)]


def _judged(
    peer: Peer,
    settings: Settings,
    X: Array,
    y: Any,
    held: list[NDArray[np.bool_]],
    classes: int,
    until: float = np.inf,
    at_most: float = np.inf,
) -> tuple[Settings, float]:
    """What the held-out rows chose, and their mean loss.

    Args:
        until, at_most: boosting stops then, and after so many seconds.
    """
    losses, kept, residuals = [], [], []
    for out in held:
        end = min(until, time.process_time() + at_most)
        task = Task((X[~out], y[~out]), (X[out], y[out]), classes, end)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fitted = peer.fit(settings, task)
            found = fitted.predict(X[out])
        if classes:
            losses.append(-np.log(np.maximum(found[np.arange(len(found)), y[out]], 1e-15)))
        elif isinstance(found, np.ndarray):
            residuals.append(y[out] - found)
            losses.append(np.square(residuals[-1]))
        elif isinstance(found, Quantiles):
            losses.append(found.crps(y[out]))
        else:
            losses.append(-found.log_density(y[out]))
        kept.append(fitted.kept)
    chosen = {
        name: type(value)(np.mean([one[name] for one in kept]).round(6 if value % 1 else 0))
        for name, value in kept[0].items()
    }
    if residuals and peer.fit is not _forest:
        chosen["deviation"] = float(np.sqrt(np.square(np.concatenate(residuals)).mean()))
    return chosen, float(np.concatenate(losses).mean())


def fit(peer: Peer, settings: Settings, X: Array, y: Any, classes: int = 0) -> Callable[..., Any]:
    """Fit all rows with a setting of ``search``; what predicts laws, or probabilities."""
    about = ("deviation", "settings_tried", "search_seconds")
    own = {name: value for name, value in settings.items() if name not in about}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predict, kept = peer.fit(own, Task((X, y), classes=classes))
    if "deviation" not in settings:
        return predict
    deviation = kept.get("deviation", settings["deviation"])
    return lambda new: Law.normal(predict(new), np.full(len(new), deviation))
