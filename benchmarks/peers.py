"""Packages that users would take in place of ours, tuned: gradient boosting, forests, xRFM.

Each is tuned once for a set, on the training rows of its first split, and the setting is kept for
the other splits; this favours the peers a little, for the other splits' test rows are among those.
The search is random, takes the package's defaults first, and ends after ``SETTINGS`` settings or
once its seconds of the processor are over. A setting is judged on rows that were held out: a fifth,
or below ``FOLDS_BELOW`` rows each fifth in turn. The loss is the one that the model learns: negative
log density where it has a density of its own, CRPS of the quantile forest, else squared error; of
classifiers, log-loss. Boosting stops early on the held-out rows. Then every split is fitted to all
of its training rows, with the setting and its number of trees. One thread each.

Spaces:
    CatBoost, LightGBM and XGBoost: those of Gorishniy et al. (2024), "TabR" (the files *-tuning.toml
    of yandex-research/tabular-dl-tabr), with learning rates of .01 to .3 and depths to 10, since
    there are at most ``TREES`` trees; for LightGBM also the least rows of a leaf, whose default 20
    is too many for small sets.
    xRFM: Beaglehole, Holzmueller, Radhakrishnan & Belkin (2025), "xRFM", for numerical columns.
    NGBoost: trees, learning rate and depth. Forests: features of a split and rows of a leaf.

Laws: NGBoost and "catboost_law" (CatBoost's loss RMSEWithUncertainty) predict normal laws; the
quantile forest predicts quantiles, and so has no density; the forest's variance is the spread of
its trees' predictions plus the mean squared out-of-bag residual; scikit-learn's GP, an ARD Matern-5/2
kernel for at most 2000 rows, is not tuned; the others predict means, and get a normal law whose
deviation is that of the held-out residuals.
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

from resnet_gp.demo import matern_model
from resnet_gp.estimators.laws import law_of
from resnet_gp.predictive import Law

Array = NDArray[np.float64]
Settings = dict[str, Any]
Rows = tuple[Array, Array]  # inputs and targets

SECONDS, SETTINGS = 20.0, 30
FOLDS, FOLDS_BELOW = 5, 500
TREES, PATIENCE = 2000, 50  # of boosting; trees without gain
FOREST, FOREST_TRIAL = 500, 100
LEAF = 10_000  # rows of a leaf of xRFM, which solves a linear system of this size
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
        """Twice the mean pinball loss over the levels."""
        gap = np.asarray(y)[:, None] - self.at_levels
        return 2 * np.maximum(LEVELS * gap, (LEVELS - 1) * gap).mean(1)


class Fitted(NamedTuple):
    """A fit.

    Attributes:
        predict: new inputs to means, laws, or the probabilities of classes 0, 1, ...
        kept: what the held-out rows have chosen, such as the number of trees.
    """

    predict: Callable[[Array], Any]
    kept: Settings = {}  # noqa: RUF012


class Peer(NamedTuple):
    """A model with its space of settings.

    Attributes:
        fit: settings, rows, held-out rows or None, and the number of classes (0 for regression).
        draw: a random setting; None if nothing is tuned.
        package: what has to be installed.
        most_rows: the model is for sets that are no larger.
    """

    fit: Callable[[Settings, Rows, Rows | None, int], Fitted]
    draw: Callable[[np.random.Generator], Settings] | None
    package: str = "sklearn"
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


def _catboost(loss: str, settings: Settings, rows: Rows, held: Rows | None, classes: int) -> Fitted:
    package = optional("catboost")
    make = package.CatBoostClassifier if classes else package.CatBoostRegressor
    if classes:
        loss = "Logloss" if classes == 2 else "MultiClass"
    options = {"iterations": TREES if settings else 1000} | settings
    if held is not None:
        options["early_stopping_rounds"] = PATIENCE
    model = make(
        loss_function=loss, random_seed=0, verbose=False, allow_writing_files=False, thread_count=1,
        **options,
    ).fit(*rows, eval_set=held)  # fmt: skip
    # The automatic learning rate depends on the number of trees.
    kept = {"learning_rate": model.learning_rate_, "iterations": int(model.tree_count_)}

    def law(new: Array) -> Law:
        mean, variance = model.predict(new).T
        return Law.normal(mean, np.sqrt(variance))

    own_law = loss == "RMSEWithUncertainty"
    return Fitted(model.predict_proba if classes else law if own_law else model.predict, kept)


def _lightgbm(settings: Settings, rows: Rows, held: Rows | None, classes: int) -> Fitted:
    package = optional("lightgbm")
    make = package.LGBMClassifier if classes else package.LGBMRegressor
    model = make(random_state=0, n_jobs=1, verbose=-1, **({"n_estimators": TREES} | settings))
    if held is None:
        return Fitted(_predict(model.fit(*rows), classes))
    stop = package.early_stopping(PATIENCE, verbose=False)
    model.fit(*rows, eval_set=[held], callbacks=[stop])
    return Fitted(_predict(model, classes), {"n_estimators": max(1, model.best_iteration_)})


def _xgboost(settings: Settings, rows: Rows, held: Rows | None, classes: int) -> Fitted:
    package = optional("xgboost")
    make = package.XGBClassifier if classes else package.XGBRegressor
    options = {"n_estimators": TREES} | settings
    if held is None:
        return Fitted(_predict(make(random_state=0, n_jobs=1, **options).fit(*rows), classes))
    model = make(random_state=0, n_jobs=1, early_stopping_rounds=PATIENCE, **options)
    model.fit(*rows, eval_set=[held], verbose=False)
    return Fitted(_predict(model, classes), {"n_estimators": model.best_iteration + 1})


def _ngboost(settings: Settings, rows: Rows, held: Rows | None, _: int) -> Fitted:
    from sklearn.tree import DecisionTreeRegressor

    options = {"n_estimators": TREES} | settings
    base = DecisionTreeRegressor(
        criterion="friedman_mse", max_depth=options.pop("depth", 3), random_state=0
    )
    model = optional("ngboost").NGBRegressor(Base=base, verbose=False, random_state=0, **options)
    kept = {}
    if held is None:
        model.fit(*rows)
    else:
        model.fit(*rows, *held, early_stopping_rounds=PATIENCE)
        kept["n_estimators"] = 1 + int(model.best_val_loss_itr)

    def law(new: Array) -> Law:
        normal = model.pred_dist(new, max_iter=kept.get("n_estimators"))
        return Law.normal(normal.loc, normal.scale)

    return Fitted(law, kept)


def _forest(settings: Settings, rows: Rows, held: Rows | None, _: int) -> Fitted:
    from sklearn.ensemble import RandomForestRegressor

    if held is not None:
        model = RandomForestRegressor(FOREST_TRIAL, random_state=0, **settings).fit(*rows)
        return Fitted(model.predict)
    model = RandomForestRegressor(FOREST, oob_score=True, random_state=0, **settings).fit(*rows)
    noise = np.square(rows[1] - model.oob_prediction_).mean()

    def law(new: Array) -> Law:
        each = np.stack([tree.predict(new) for tree in model.estimators_])
        return Law.normal(each.mean(0), np.sqrt(each.var(0) + noise))

    return Fitted(law)


def _quantile_forest(settings: Settings, rows: Rows, held: Rows | None, _: int) -> Fitted:
    trees = FOREST if held is None else FOREST_TRIAL
    make = optional("quantile_forest").RandomForestQuantileRegressor
    model = make(trees, random_state=0, **settings).fit(*rows)

    def law(new: Array) -> Quantiles:
        parts = np.array_split(new, 1 + len(new) // 1000)
        means, found = (
            np.concatenate([model.predict(part, quantiles=q) for part in parts])
            for q in ("mean", list(LEVELS))
        )
        return Quantiles(means, found)

    return Fitted(law)


def _xrfm(settings: Settings, rows: Rows, held: Rows | None, classes: int) -> Fitted:
    """Standardised inputs and targets, as its authors do. Beyond a leaf, a fifth validates."""
    package = optional("xrfm")
    model = {"bandwidth": 10.0, "exponent": 1.0, "diag": False, "kernel": "l2"} | settings
    iterations, regularisation = model.pop("iterations", None), model.pop("reg", 1e-3)
    several = len(rows[0]) > LEAF
    if held is None and several:
        keep = folds(len(rows[0]), rows[1] if classes else None) != 0
        rows, held = tuple(r[keep] for r in rows), tuple(r[~keep] for r in rows)
    fit = {"reg": regularisation, "iters": 5 if held is not None else iterations}
    if held is None:
        fit |= {"return_best_params": False, "early_stop_rfm": False}
    centre, scale = rows[0].mean(0), rows[0].std(0)
    scale[scale < 1e-12 * np.abs(rows[0]).max(0) + 1e-300] = 1
    middle, spread = (0.0, 1.0) if classes else (rows[1].mean(), rows[1].std())

    def inputs(x: Array) -> NDArray[np.float32]:
        return ((x - centre) / scale).astype(np.float32)

    def targets(y: Array) -> Any:
        return y.astype(np.int64) if classes else ((y - middle) / spread).astype(np.float32)

    judges = (rows[0][:32], rows[1][:32]) if held is None else held
    fitted = package.xRFM(
        {"model": model, "fit": fit}, device="cpu", max_leaf_size=LEAF, random_state=0, verbose=False,
        tuning_metric="logloss" if classes else "mse",
    )  # fmt: skip
    fitted.fit(inputs(rows[0]), targets(rows[1]), inputs(judges[0]), targets(judges[1]))
    if classes:
        return Fitted(lambda new: fitted.predict_proba(inputs(new)), _iterations(fitted))

    def predict(new: Array) -> Array:
        found = np.asarray(fitted.predict(inputs(new)), dtype=np.float64).reshape(len(new))
        return middle + spread * found

    return Fitted(predict, _iterations(fitted))


def _iterations(fitted: Any) -> Settings:
    found = [one for one in fitted._collect_attr("best_iter") if one is not None]
    return {"iterations": int(np.median(found))} if found else {}


def _sklearn(_: Settings, rows: Rows, held: Rows | None, classes: int) -> Fitted:
    return Fitted(partial(law_of, matern_model(rows[0].shape[1]).fit(*rows)))


def _predict(model: Any, classes: int) -> Callable[[Array], Array]:
    return model.predict_proba if classes else model.predict


REGRESSORS = {
    "catboost": Peer(partial(_catboost, "RMSE"), _catboost_space, "catboost"),
    "catboost_law": Peer(partial(_catboost, "RMSEWithUncertainty"), _catboost_space, "catboost"),
    "lightgbm": Peer(_lightgbm, _lightgbm_space, "lightgbm"),
    "xgboost": Peer(_xgboost, _xgboost_space, "xgboost"),
    "ngboost": Peer(_ngboost, _ngboost_space, "ngboost"),
    "xrfm": Peer(_xrfm, _xrfm_space, "xrfm"),
    "forest": Peer(_forest, _forest_space),
    "quantile_forest": Peer(_quantile_forest, _forest_space, "quantile_forest"),
    "sklearn": Peer(_sklearn, None, most_rows=2000),
}
CLASSIFIERS = {
    "catboost": Peer(partial(_catboost, ""), _catboost_space, "catboost"),
    "lightgbm": Peer(_lightgbm, _lightgbm_space, "lightgbm"),
    "xgboost": Peer(_xgboost, _xgboost_space, "xgboost"),
    "xrfm": Peer(_xrfm, _xrfm_space, "xrfm"),
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


def search(peer: Peer, X: Array, y: Array, seconds: float = SECONDS, classes: int = 0) -> Settings:
    """The best setting: what ``fit`` takes, with "deviation" where the model predicts means.

    Args:
        X: ``n x d`` inputs.
        y: ``n`` targets; classes 0, ..., ``classes - 1``.
        seconds: no setting starts after these seconds of the processor.
        classes: number of classes; 0 for regression.

    Raises:
        RuntimeError: no setting could be fitted.
    """
    if peer.draw is None:
        return {}
    rng, start = np.random.default_rng(0), time.process_time()
    parts = folds(len(y), y if classes else None)
    held = range(FOLDS if len(y) < FOLDS_BELOW else 1)
    best, least, problem = None, np.inf, None
    for trial in range(SETTINGS):
        settings = peer.draw(rng) if trial else {}
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found, loss = _judged(peer, settings, X, y, [parts == i for i in held], classes)
        except Exception as error:  # a setting that a package cannot fit
            problem = error
        else:
            if loss < least:
                best, least = found, loss
        if time.process_time() - start > seconds:
            break
    if best is None:
        raise RuntimeError(f"no setting could be fitted: {problem}") from problem
    return best | {"settings_tried": trial + 1, "search_seconds": time.process_time() - start}


def _judged(
    peer: Peer, settings: Settings, X: Array, y: Array, held: list[Any], classes: int
) -> tuple[Settings, float]:
    """The setting with what the held-out rows chose, and the mean loss of these rows."""
    losses, kept, residuals = [], [], []
    for out in held:
        fitted = peer.fit(settings, (X[~out], y[~out]), (X[out], y[out]), classes)
        found = fitted.predict(X[out])
        if classes:
            p = np.maximum(found[np.arange(len(found)), y[out]], 1e-15)
            losses.append(-np.log(p))
        elif isinstance(found, np.ndarray):
            residuals.append(y[out] - found)
            losses.append(np.square(residuals[-1]))
        else:
            losses.append(
                found.crps(y[out]) if isinstance(found, Quantiles) else -found.log_density(y[out])
            )
        kept.append(fitted.kept)
    chosen = {
        name: type(value)(np.mean([one[name] for one in kept]).round(6 if value % 1 else 0))
        for name, value in kept[0].items()
    }
    if residuals and peer.fit is not _forest:
        chosen["deviation"] = float(np.sqrt(np.square(np.concatenate(residuals)).mean()))
    return settings | chosen, float(np.concatenate(losses).mean())


def fit(peer: Peer, settings: Settings, X: Array, y: Array, classes: int = 0) -> Any:
    """Fit all rows with a setting of ``search``; what predicts laws, or probabilities."""
    about = ("deviation", "settings_tried", "search_seconds")
    own = {name: value for name, value in settings.items() if name not in about}
    predict = peer.fit(own, (X, y), None, classes).predict
    if "deviation" not in settings:
        return predict
    deviation = settings["deviation"]
    return lambda new: Law.normal(predict(new), np.full(len(new), deviation))
