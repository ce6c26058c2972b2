# %% [markdown]
# # A million rows
#
# How warm is it here? A million simulated readings of thermometers: kilometres east and north,
# height, and hour of the day. Readings in the mountains are less certain than those in the plain,
# and some thermometers stand in the sun. An exact Gaussian process would need a matrix of 8
# terabytes; the default conditions each prediction on the nearest readings instead. The table has
# the error against the true temperature, the share of new readings in 90 % intervals, among all and
# among the highest tenth, the mean width of the intervals, and seconds, beside gradient-boosted
# trees that learn two quantiles.
#
#     python examples/million_rows.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from resnet_gp import ResNetGPRegressor

LEVEL = 0.9
SIZE = 300.0  # of the country, in kilometres


# %%
def temperature(x: np.ndarray) -> np.ndarray:
    """Degrees at `n x 4` places and hours: colder with height, warm in the afternoon."""
    east, north, height, hour = x.T
    weather = 3 * np.sin(east / 40 + np.cos(north / 55)) + 2 * np.cos(north / 30 - east / 90)
    return 18 - 6.5 * height + weather + (4 - height) * np.sin(2 * np.pi * (hour - 9) / 24)


def readings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features `count x 4` and degrees `count`; errors grow with height and have heavy tails."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, SIZE, (count, 2))
    height = rng.gamma(1.5, 0.4, count)  # kilometres
    x = np.column_stack([place, height, rng.uniform(0, 24, count)])
    return x, temperature(x) + 0.4 * (1 + height) * rng.standard_t(5, count)


# %%
class Intervals(NamedTuple):
    """Predicted means and bounds of intervals, `n` each."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


Predict = Callable[[np.ndarray], Intervals]


def gaussian_process(x: np.ndarray, y: np.ndarray) -> Predict:
    model = ResNetGPRegressor().fit(x, y)

    def predict(new: np.ndarray) -> Intervals:
        law = model.predict_law(new)
        return Intervals(law.mean, *law.interval(LEVEL))

    return predict


def boosted_trees(x: np.ndarray, y: np.ndarray) -> Predict:
    """One model for the mean, and one for each end of the intervals."""
    mean = HistGradientBoostingRegressor(random_state=0).fit(x, y)
    ends = [
        HistGradientBoostingRegressor(loss="quantile", quantile=q, random_state=0).fit(x, y)
        for q in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
    ]
    return lambda new: Intervals(mean.predict(new), *(end.predict(new) for end in ends))


MODELS = {"resnet-gp": gaussian_process, "boosted trees": boosted_trees}


# %%
def scores(found: Intervals, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    truth = temperature(x)
    held = (found.low < y) & (y < found.high)
    return {
        "error": float(np.sqrt(np.mean((found.mean - truth) ** 2))),
        "held": float(held.mean()),
        "held, mountains": float(held[x[:, 2] > np.quantile(x[:, 2], 0.9)].mean()),
        "width": float(np.mean(found.high - found.low)),
    }


def compare(rows: int, new: int) -> tuple[dict[str, dict[str, float]], dict[str, Predict]]:
    """Scores of each model on new readings, and what predicts with it."""
    x, y = readings(rows, 0)
    new_x, new_y = readings(new, 1)
    found, models = {}, {}
    for name, fit in MODELS.items():
        start = time.perf_counter()
        models[name] = predict = fit(x, y)
        fitted = time.perf_counter()
        intervals = predict(new_x)
        seconds = {"fit": fitted - start, "predictions": time.perf_counter() - fitted}
        found[name] = scores(intervals, new_x, new_y) | seconds
    return found, models


# %% [markdown]
# The figure shows the temperature at noon, in the plain, along a line from west to east.


# %%
def draw(path: Path, models: dict[str, Predict]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    east = np.linspace(0, SIZE, 151)
    x = np.stack([east, *(np.full(len(east), value) for value in (SIZE / 2, 0.2, 12.0))], axis=1)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, predict) in zip(
        figure.subplots(1, 2, sharey=True), models.items(), strict=True
    ):
        mean, low, high = predict(x)
        axis.fill_between(east, low, high, color="#0b5fa5", alpha=0.2, lw=0, label="90 % interval")
        axis.plot(east, mean, color="#0b5fa5", label="mean")
        axis.plot(east, temperature(x), color="black", lw=0.9, ls="--", label="truth")
        axis.set(title=name, xlabel="kilometres east")
    figure.axes[0].set(ylabel="degrees at noon")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90)


# %%
def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description="A million rows")
    parser.add_argument("--quick", action="store_true", help="300 rows")
    parser.add_argument("--figure", type=Path, help="where to draw a line through the country")
    options = parser.parse_args(arguments)
    found, models = compare(*(300, 300) if options.quick else (1_000_000, 10_000))
    columns = list(next(iter(found.values())))
    print(f"{'':14s}" + "".join(f"{name:>18s}" for name in columns))
    for name, row in found.items():
        texts = (f"{row[c]:.1%}" if c.startswith("held") else f"{row[c]:.2f}" for c in columns)
        print(f"{name:14s}" + "".join(f"{text:>18s}" for text in texts))
    if options.figure:
        draw(options.figure, models)
    return found


# %%
if __name__ == "__main__":
    main()
