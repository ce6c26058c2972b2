# %% [markdown]
# # Conformal intervals
#
# A predictive law is right if the model is. Conformal intervals hold their level without a model,
# as long as new rows are like the training rows, and MAPIE makes them around any regressor of
# scikit-learn. Here the noise has heavy tails and a deviation that depends on x, neither of which
# the regressor knows. Split conformal intervals keep a part of the rows aside; CV+ and the
# jackknife+ (Barber et al. 2021) use all of them, and fit once for each fold. With the score
# "std_normalized", widths follow the deviation of the law (Jaber et al. 2025).
#
#     python examples/conformal_intervals.py [--quick] [--figure FILE] [--out FILE]

# %%
from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor

from resnet_gp import ResNetGPRegressor

ROWS, NEW_ROWS, DRAWS = 100, 400, 20
LEVEL = 0.9
BINS = np.linspace(-2, 2, 9)
Bounds = tuple[np.ndarray, np.ndarray]


def regressor() -> ResNetGPRegressor:
    """One kernel at its mode: cross-conformal intervals take many fits."""
    return ResNetGPRegressor(
        n_components=1, hyperparameters="map", residuals="gaussian", verbose=False
    )


def simulated(rows: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `rows x 2` and targets with Student-t noise, which grows with the first input."""
    random = np.random.default_rng(draw)
    X = random.uniform(-2, 2, (rows, 2))
    noise = np.exp(X[:, 0] / 2) * random.standard_t(3, rows)
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2 / 2 + 0.2 * noise


# %%
def predictive_law(X: np.ndarray, y: np.ndarray, new: np.ndarray) -> Bounds:
    return regressor().fit(X, y).predict_law(new).interval(LEVEL)


def split(X: np.ndarray, y: np.ndarray, new: np.ndarray, score: str) -> Bounds:
    """Fit to two thirds of the rows; the others say how wide intervals must be."""
    part = 2 * len(X) // 3
    model = regressor().fit(X[:part], y[:part])
    conformal = SplitConformalRegressor(model, LEVEL, conformity_score=score)
    return bounds(conformal.conformalize(X[part:], y[part:]), new)


def cross(X: np.ndarray, y: np.ndarray, new: np.ndarray, score: str, folds: int = 5) -> Bounds:
    """CV+: each row is judged by the fit to the other folds; of one row each, the jackknife+."""
    model = regressor()
    conformal = CrossConformalRegressor(
        model, LEVEL, conformity_score=score, cv=folds, random_state=0
    )
    return bounds(conformal.fit_conformalize(X, y), new)


def bounds(conformal, new: np.ndarray) -> Bounds:
    _, intervals = conformal.predict_interval(new)
    return intervals[:, 0, 0], intervals[:, 1, 0]


WAYS = {
    "predictive law": predictive_law,
    "split": lambda *data: split(*data, "absolute"),
    "split, by deviation": lambda *data: split(*data, "std_normalized"),
    "CV+": lambda *data: cross(*data, "absolute"),
    "CV+, by deviation": lambda *data: cross(*data, "std_normalized"),
}


# %% [markdown]
# Coverage is that of new rows, over all and over those whose noise is largest; it is averaged over
# training sets, and its standard error is that of this average.


# %%
class Found(NamedTuple):
    """Of each training set: mean width, coverage, and coverage in `BINS` along the first input."""

    width: np.ndarray
    coverage: np.ndarray
    by_input: np.ndarray


def judged(X: np.ndarray, y: np.ndarray, intervals: Bounds) -> Found:
    low, high = intervals
    inside, place = (low <= y) & (y <= high), np.digitize(X[:, 0], BINS[1:-1])
    by_input = np.array([inside[place == k].mean() for k in range(len(BINS) - 1)])
    return Found(np.mean(high - low), np.mean(inside), by_input)


def measured(draws: int, rows: int, new_rows: int) -> dict[str, Found]:
    found = {way: [] for way in WAYS}
    for draw in range(draws):
        X, y = simulated(rows, draw)
        new, truth = simulated(new_rows, draws + draw)
        for way, intervals in WAYS.items():
            found[way].append(judged(new, truth, intervals(X, y, new)))
    return {way: Found(*map(np.stack, zip(*each, strict=True))) for way, each in found.items()}


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def summary(of: Found) -> dict[str, tuple[float, float]]:
    """Means over training sets, and their standard errors."""
    measures = {
        "coverage": of.coverage,
        "coverage where x_0 > 1": of.by_input[:, BINS[:-1] >= 1].mean(1),
        "width": of.width,
    }
    return {name: tuple(map(float, mean_and_error(one))) for name, one in measures.items()}


def draw_figure(path: Path, found: dict[str, Found]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    middle = (BINS[1:] + BINS[:-1]) / 2
    for k, (way, of) in enumerate(found.items()):
        mean, error = mean_and_error(of.by_input)
        axis.errorbar(middle + 0.03 * (k - 2), mean, error, fmt=".-", lw=1, label=way)
    axis.axhline(LEVEL, color="0.3", lw=1)
    axis.set(xlabel="$x_0$, with which the noise grows", ylabel="targets in the interval")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=100)


# %%
def main(arguments: list[str] | None = None) -> dict[str, Found]:
    parser = argparse.ArgumentParser(description="Conformal intervals around the regressor")
    parser.add_argument("--quick", action="store_true", help="two training sets of 40 rows")
    parser.add_argument("--figure", type=Path, help="where to draw coverage along x_0")
    parser.add_argument("--out", type=Path, help="where to save the table, as JSON")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lengthscales at a bound
        found = measured(*(2, 40, 200) if options.quick else (DRAWS, ROWS, NEW_ROWS))
    table = {way: summary(of) for way, of in found.items()}
    print(f"{'':22s}{'coverage':>16s}{'where x_0 > 1':>16s}{'mean width':>16s}")
    for way, of in table.items():
        shares = [of["coverage"], of["coverage where x_0 > 1"]]
        cells = [f"{100 * mean:.1f} ± {100 * error:.1f} %" for mean, error in shares]
        cells.append("{:.2f} ± {:.2f}".format(*of["width"]))
        print(f"{way:22s}" + "".join(f"{cell:>16s}" for cell in cells))
    if options.out:
        options.out.write_text(json.dumps(table, indent=1) + "\n")
    if options.figure:
        draw_figure(options.figure, found)
    return found


# %%
if __name__ == "__main__":
    main()
