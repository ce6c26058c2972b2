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
#     python examples/conformal_intervals.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor

from resnet_gp import ResNetGPRegressor

ROWS, NEW_ROWS, DRAWS = 100, 400, 40
LEVEL = 0.9
Bounds = tuple[np.ndarray, np.ndarray]


def simulated(rows: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `rows x 2` and targets with Student-t noise, which grows with the first input."""
    random = np.random.default_rng(draw)
    X = random.uniform(-2, 2, (rows, 2))
    noise = np.exp(X[:, 0] / 2) * random.standard_t(3, rows)
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2 / 2 + 0.2 * noise


# %%
def predictive_law(X: np.ndarray, y: np.ndarray, new: np.ndarray) -> Bounds:
    return ResNetGPRegressor(verbose=False).fit(X, y).predict_law(new).interval(LEVEL)


def split(X: np.ndarray, y: np.ndarray, new: np.ndarray, score: str) -> Bounds:
    """Fit to two thirds of the rows; the others say how wide intervals must be."""
    part = 2 * len(X) // 3
    model = ResNetGPRegressor(verbose=False).fit(X[:part], y[:part])
    conformal = SplitConformalRegressor(model, LEVEL, conformity_score=score)
    return bounds(conformal.conformalize(X[part:], y[part:]), new)


def cross(X: np.ndarray, y: np.ndarray, new: np.ndarray, score: str, folds: int = 5) -> Bounds:
    """CV+: each row is judged by the fit to the other folds; of one row each, the jackknife+."""
    model = ResNetGPRegressor(verbose=False)
    conformal = CrossConformalRegressor(model, LEVEL, conformity_score=score, cv=folds)
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
def measured(draws: int, rows: int, new_rows: int) -> dict[str, np.ndarray]:
    """For each way, `draws x 3`: coverage, coverage where x_0 > 1, mean width."""
    found = {way: np.empty((draws, 3)) for way in WAYS}
    for draw in range(draws):
        X, y = simulated(rows, draw)
        new, truth = simulated(new_rows, draws + draw)
        for way, intervals in WAYS.items():
            low, high = intervals(X, y, new)
            inside = (low <= truth) & (truth <= high)
            noisy = new[:, 0] > 1
            found[way][draw] = inside.mean(), inside[noisy].mean(), np.mean(high - low)
    return found


def draw_figure(path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    X, y = simulated(ROWS, 0)
    new = np.column_stack([np.linspace(-2, 2, 200), np.zeros(200)])
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, way in zip(
        figure.subplots(1, 3, sharey=True),
        ("predictive law", "CV+", "CV+, by deviation"),
        strict=True,
    ):
        low, high = WAYS[way](X, y, new)
        axis.fill_between(new[:, 0], low, high, alpha=0.25, lw=0)
        axis.plot(new[:, 0], np.sin(2 * new[:, 0]), color="black", lw=1)
        axis.plot(X[:, 0], y - X[:, 1] ** 2 / 2, ".", color="0.4", ms=3)
        axis.set(title=way, xlabel="$x_0$", ylim=(-3, 3))
    figure.savefig(path, dpi=100)


# %%
def main(arguments: list[str] | None = None) -> dict[str, np.ndarray]:
    parser = argparse.ArgumentParser(description="Conformal intervals around the regressor")
    parser.add_argument("--quick", action="store_true", help="two training sets of 40 rows")
    parser.add_argument("--figure", type=Path, help="where to draw the intervals")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lengthscales at a bound
        found = measured(*(2, 40, 100) if options.quick else (DRAWS, ROWS, NEW_ROWS))
        if options.figure:
            draw_figure(options.figure)
    print(f"{'':22s}{'coverage':>16s}{'where x_0 > 1':>16s}{'mean width':>16s}")
    for way, values in found.items():
        mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
        cells = [f"{100 * mean[k]:.1f} ± {100 * error[k]:.1f} %" for k in (0, 1)]
        cells.append(f"{mean[2]:.2f} ± {error[2]:.2f}")
        print(f"{way:22s}" + "".join(f"{cell:>16s}" for cell in cells))
    return found


# %%
if __name__ == "__main__":
    main()
