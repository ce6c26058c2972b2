"""The tables of regression: kernels, packages and published figures, set by set."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import ablation
import numpy as np
from harness import Cell
from page_format import (
    COVERAGE,
    difference,
    number,
    p_value,
    percent,
    results,
    table,
)
from published import BEST, DEEP_ENSEMBLES, MC_DROPOUT
from ranks import critical_distance, friedman, mean_ranks
from regression import SMALL
from scipy.stats import wilcoxon

KERNELS = {"one": "ours", "matern": "Matérn", "rbf": "RBF", "ibnn": "I-BNN"}
PEERS = {
    "catboost": "CatBoost",
    "catboost_law": "CatBoost, law",
    "lightgbm": "LightGBM",
    "xgboost": "XGBoost",
    "ngboost": "NGBoost",
    "xrfm": "xRFM",
    "forest": "forest",
    "quantile_forest": "quantile forest",
    "sklearn": "scikit-learn's GP",
}
RIVALS = {"resnet": "ours", **PEERS}
STRONG = ("resnet", "catboost", "catboost_law", "lightgbm", "xgboost", "xrfm")
RANKED = ("rmse", "nlpd", "crps")
OLD_MEASURES = ("rmse", "nlpd")  # of the papers of 2016 and 2017


class Splits:
    """Results of regression by set and model, on the splits that these models have finished.

    Args:
        models: names.
        absent: take sets that only some models have finished, the first one among them.
    """

    def __init__(self, models: Iterable[str], absent: bool = False) -> None:
        self.models = list(models)
        found: dict[str, dict[str, dict[int, Cell]]] = {}
        for cell in results("regression").all:
            found.setdefault(cell["data"], {}).setdefault(cell["model"], {})[cell["split"]] = cell
        self.cells: dict[str, dict[str, list[Cell]]] = {}
        for name, by_model in found.items():
            here = [m for m in self.models if m in by_model or not absent]
            done = [set(by_model.get(model, {})) for model in here]
            if self.models[0] in here and (shared := sorted(set.intersection(*done))):
                self.cells[name] = {
                    model: [by_model[model][split] for split in shared] for model in here
                }

    @property
    def names(self) -> list[str]:
        """Names of the sets, small ones first."""
        return sorted(self.cells, key=lambda name: self.cells[name][self.models[0]][0]["rows"])

    def values(self, name: str, model: str, measure: str) -> np.ndarray:
        return np.array([cell[measure] for cell in self.cells[name][model]])

    def having(self, name: str, measure: str) -> list[str]:
        """The models with this measure: the quantile forest has no density."""
        return [model for model, cells in self.cells[name].items() if measure in cells[0]]

    def means(self, measure: str) -> np.ndarray:
        """Means over the splits, sets x models."""
        return np.array(
            [[self.values(n, m, measure).mean() for m in self.models] for n in self.names]
        )

    def rows_and_splits(self, name: str) -> list[str]:
        cells = self.cells[name][self.models[0]]
        return [f"{cells[0]['rows']:,}", str(len(cells))]


def regression(measure: str) -> str:
    """A row for each set that all four kernels have finished; for densities, with our coverage."""
    splits = Splits(KERNELS)
    with_coverage = measure == "nlpd"
    rows = []
    for name in splits.names:
        ours, matern, _, ibnn = (splits.values(name, model, measure) for model in splits.models)
        means = [number(float(splits.values(name, m, measure).mean())) for m in splits.models]
        rows.append(
            [name, *splits.rows_and_splits(name), *means, difference(ours - matern),
             difference(ours - ibnn)]
        )  # fmt: skip
        if with_coverage:
            rows[-1].append(percent(float(splits.values(name, "one", "coverage").mean())))
    means = splits.means(measure)
    ranks = [f"{rank:.2f}" for rank in mean_ranks(means)]
    rows.append(["mean rank", "", "", *ranks, f"p = {friedman(means):.2g}", ""])
    headings = ["set", "rows", "splits", *KERNELS.values(), "ours less Matérn", "ours less I-BNN"]
    if with_coverage:
        headings.append(COVERAGE)
        rows[-1].append(percent(float(splits.means("coverage")[:, 0].mean())))
    return table(headings, rows)


def law() -> str:
    """The default beside one kernel at its mode with a Gaussian law."""
    models = ["resnet", "one"]
    splits = Splits(models)
    rows = []
    for name in splits.names:
        row = [name, *splits.rows_and_splits(name)]
        for measure in ("rmse", "nlpd", "crps"):
            row += [number(float(splits.values(name, m, measure).mean())) for m in models]
        row += [percent(float(splits.values(name, m, "coverage").mean())) for m in models]
        rows.append(row)
    pairs = ([heading, "before"] for heading in ("RMSE", "NLPD", "CRPS", "in 90 % intervals"))
    return table(["set", "rows", "splits", *itertools.chain(*pairs)], rows)


def law_ranks() -> str:
    """Mean ranks of the default and of four kernels at their modes."""
    models = {
        "resnet": "the default", "one": "one limit kernel", "matern": "ARD Matérn-5/2",
        "rbf": "ARD RBF", "ibnn": "BoTorch's I-BNN",
    }  # fmt: skip
    splits = Splits(models)
    rows = []
    for measure in ("rmse", "nlpd", "crps"):
        means = splits.means(measure)
        own = (f"{rank:.2f}" for rank in mean_ranks(means))
        name = f"mean rank by {measure.upper()}, {len(means)} sets"
        rows.append([name, *own, f"{friedman(means):.2g}"])
    covered = splits.means("coverage").mean(0)
    rows.append(["in 90 % intervals", *(percent(float(one)) for one in covered), ""])
    return table(["", *models.values(), "Friedman's p"], rows)


def parts() -> str:
    """Mean ranks of the parts of the predictive law, with coverage and time."""
    done = results("ablation")
    columns = [ablation.means(done, measure) for measure in ablation.MEASURES]
    ranks, rows = [mean_ranks(values) for values in columns[:3]], []
    for k, (components, hyperparameters, residuals) in enumerate(ablation.WAYS):
        covered, seconds = (float(values[:, k].mean()) for values in columns[3:])
        numbers = [*(f"{rank[k]:.2f}" for rank in ranks), percent(covered), number(seconds, 2)]
        rows.append([str(components), hyperparameters, residuals, *numbers])
    headings = [f"rank by {measure.upper()}" for measure in ablation.MEASURES[:3]]
    names = ["networks", "hyperparameters", "residuals", *headings, COVERAGE, "seconds"]
    return table(names, rows, text=3)


def standard() -> str:
    """The nine standard sets, beside the best published figures, one row for each of these."""
    splits = Splits(["resnet"])
    rows = []
    for one in BEST:
        if one.data not in splits.cells:
            continue
        own = float(splits.values(one.data, "resnet", one.measure).mean())
        old = [""] * 2
        if one.measure in OLD_MEASURES:
            place = OLD_MEASURES.index(one.measure)
            old = [number(source[one.data][place]) for source in (DEEP_ENSEMBLES, MC_DROPOUT)]
        rows.append(
            [one.data, one.measure.upper(), one.model, ", ".join(filter(None, one[4:])),
             str(len(splits.cells[one.data]["resnet"])), number(own), number(one.value), *old]
        )  # fmt: skip
    headings = ["set", "measure", "published", "source", "our splits", "ours", "published"]
    return table([*headings, "deep ensembles", "MC dropout"], rows, text=4)


def peers() -> str:
    """Every set: ours, the best of the tuned packages by each measure, and our rank."""
    splits = Splits(RIVALS, absent=True)
    rows = []
    for name in splits.names:
        if len(splits.cells[name]) == 1:
            continue
        row = [name, *splits.rows_and_splits(name)]
        for measure in RANKED:
            models = splits.having(name, measure)
            means = np.array([splits.values(name, m, measure).mean() for m in models])
            best = 1 + int(np.argmin(means[1:]))
            row += [number(means[0]), f"{number(means[best])} {RIVALS[models[best]]}"]
            row.append(f"{1 + int((means[1:] < means[0]).sum())} of {len(models)}")
        rows.append(row)
    headings = itertools.chain(*([m.upper(), "best other", "our rank"] for m in RANKED))
    return table(["set", "rows", "splits", *headings], rows)


def peer_ranks(models: Iterable[str] = STRONG) -> str:
    """Mean ranks of packages over the sets that all of them have finished."""
    splits, rows = Splits(models), []
    if not splits.names:
        return "No set is finished.\n"
    columns = [_peer_tests(splits, measure) for measure in RANKED]
    for model in splits.models:
        row = [RIVALS[model]]
        for ranks, p in columns:
            row += [f"{ranks[model]:.2f}", p_value(p.get(model))] if model in ranks else ["", ""]
        cells = [cell for name in splits.names for cell in splits.cells[name][model]]
        covered = np.mean([splits.values(n, model, "coverage").mean() for n in splits.names])
        tuning = [c["setting"]["search_seconds"] for c in cells if "setting" in c]
        row.append(percent(float(covered)))
        row.append(number(float(np.median([cell["seconds"] for cell in cells])), 2))
        rows.append([*row, number(float(np.median(tuning)), 2) if tuning else ""])
    friedmans = [p_value(friedman(_means(splits, measure))) for measure in RANKED]
    distances = [f"{critical_distance(len(ranks), len(splits.names)):.2f}" for ranks, _ in columns]
    rows.append(["Friedman's p", *itertools.chain(*([p, ""] for p in friedmans)), "", "", ""])
    rows.append(["critical distance", *itertools.chain(*([d, ""] for d in distances)), "", "", ""])
    headings = itertools.chain(*([f"rank by {m.upper()}", "p"] for m in RANKED))
    names = [f"{len(splits.names)} sets", *headings, COVERAGE, "s, a fit", "s, tuning"]
    return table(names, rows)


def sparse_gps() -> str:
    """The sets above 2000 rows: ours beside GPyTorch's sparse Gaussian processes."""
    models = ("resnet", "sgpr", "svgp")
    splits, rows = Splits(models), []
    for name in splits.names:
        if splits.cells[name]["resnet"][0]["rows"] > SMALL:
            means = [
                number(float(splits.values(name, model, measure).mean()))
                for measure in RANKED
                for model in models
            ]
            seconds = [f"{splits.values(name, model, 'seconds').mean():.0f}" for model in models]
            rows.append([name, *splits.rows_and_splits(name), *means, *seconds])
    headings = itertools.chain(
        *([f"{name}: ours", "SGPR", "SVGP"] for name in ("RMSE", "NLPD", "CRPS", "s"))
    )
    return table(["set", "rows", "splits", *headings], rows)


def _means(splits: Splits, measure: str) -> np.ndarray:
    """Sets x the models that have the measure on all sets."""
    models = splits.having(splits.names[0], measure)
    return np.array([[splits.values(n, m, measure).mean() for m in models] for n in splits.names])


def _peer_tests(splits: Splits, measure: str) -> tuple[dict[str, float], dict[str, float]]:
    """Mean ranks, and p of Wilcoxon's test against ours; of logarithms, but for densities."""
    models, means = splits.having(splits.names[0], measure), _means(splits, measure)
    scale = means if measure == "nlpd" else np.log(means)
    p = {
        model: float(wilcoxon(scale[:, i] - scale[:, 0]).pvalue)
        for i, model in enumerate(models) if i
    }  # fmt: skip
    return dict(zip(models, mean_ranks(means).tolist(), strict=True)), p


def losses() -> str:
    """Where another package is ahead of ours by more than a standard error of the difference.

    On sets with one split so far, where it is ahead at all.
    """
    rows = []
    pairs = {model: Splits(["resnet", model]) for model in PEERS}
    names = Splits(["resnet"]).names
    for name, measure in itertools.product(names, RANKED):
        ahead = []
        for model, splits in pairs.items():
            if name not in splits.cells or model not in splits.having(name, measure):
                continue
            gap = splits.values(name, "resnet", measure) - splits.values(name, model, measure)
            error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else 0.0
            if gap.mean() > error:
                ahead.append((float(gap.mean()), f"{PEERS[model]} ({difference(gap)})"))
        if ahead:
            best_first = [text for _, text in sorted(ahead, reverse=True)]
            rows.append([name, measure.upper(), "; ".join(best_first)])
    return table(["set", "measure", "ahead, and our loss less theirs"], rows, text=3)


TABLES: dict[str, Callable[[], str]] = {
    "regression-rmse": lambda: regression("rmse"),
    "regression-nlpd": lambda: regression("nlpd"),
    "regression-law": law,
    "regression-law-ranks": law_ranks,
    "parts-of-the-law": parts,
    "regression-standard": standard,
    "regression-peers": peers,
    "regression-peer-ranks": peer_ranks,
    "regression-peer-ranks-all": lambda: peer_ranks(RIVALS),
    "regression-losses": losses,
    "sparse-gps": sparse_gps,
}


def panels() -> dict[str, dict[str, tuple[np.ndarray, list[str]]]]:
    """Of each figure of ranks: values (sets x models; smaller is better) and names of models."""
    kernels, rivals = Splits(KERNELS), Splits(STRONG)
    peer_panels = {}
    for measure in RANKED if rivals.names else ():
        models = rivals.having(rivals.names[0], measure)
        peer_panels[measure.upper()] = _means(rivals, measure), [RIVALS[m] for m in models]
    return {
        "regression_ranks.png": {
            measure.upper(): (kernels.means(measure), [*KERNELS.values()])
            for measure in ("rmse", "nlpd")
        },
        "regression_peer_ranks.png": peer_panels,
    }
