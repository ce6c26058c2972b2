# %% [markdown]
# # Fifty thousand rows
#
# Simulated rows of a known function with kinks and noise, and 200 inducing points. The table has
# the error against the function without noise, the share of new targets and of function values in
# 90 % intervals, and seconds. Intervals of targets are about right: detail that the inducing points
# cannot represent is counted as noise. Intervals of the function are too narrow, because they leave
# that error out. For comparison: an exact fit to 500 of the rows, and gradient-boosted trees, which
# need a hundredth of the time for nearly the same error, but have no intervals. Last, new rows
# arrive: a refit that keeps the hyperparameters is one pass over them.
#
#     python examples/sparse_regression.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning

from resnet_gp import ResNetGPRegressor

D, NOISE = 4, 0.3
HALF = norm.ppf(0.95)  # half a 90 % interval, in deviations


# %%
def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) + np.abs(x[:, 1]) + np.cos(x[:, 2] + x[:, 3])


def simulated(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `rows x 4` and noisy targets `rows`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, D))
    return x, truth(x) + NOISE * rng.normal(size=rows)


# %%
def scores(model: ResNetGPRegressor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Error against the truth, and coverage of 90 % intervals of targets and of the function."""
    mean, std = model.predict(x, return_std=True)
    _, latent = model.predict(x, return_std=True, observation_noise=False)
    error = np.abs(mean - truth(x))
    return {
        "error": float(np.sqrt(np.mean(error**2))),
        "targets": float(np.mean(np.abs(y - mean) < HALF * std)),
        "function": float(np.mean(error < HALF * latent)),
        "noise": float(np.sqrt(model.noise_variance_)),
    }


def timed_fit(model, x: np.ndarray, y: np.ndarray) -> float:
    """Fit, and return the seconds it took."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter ends the fit on purpose
        model.fit(x, y)
    return time.perf_counter() - start


# %%
def compare(
    rows: int, few: int, n_inducing: int, max_iter: int
) -> tuple[dict[str, dict[str, float]], ResNetGPRegressor]:
    """Scores of each model, and the sparse model."""
    x, y = simulated(rows, 0)
    new_x, new_y = simulated(rows, 1)  # another day's rows
    test_x, test_y = simulated(5000, 2)
    found = {}

    exact = ResNetGPRegressor(inference="exact")
    seconds = timed_fit(exact, x[:few], y[:few])
    found[f"exact, {few} rows"] = {"seconds": seconds} | scores(exact, test_x, test_y)

    model = ResNetGPRegressor(
        inference="sparse",
        n_inducing=n_inducing,
        hyperparameter_samples=few,
        max_iter=max_iter,
        random_state=0,
    )
    seconds = timed_fit(model, x, y)
    found[f"sparse, {rows} rows"] = {"seconds": seconds} | scores(model, test_x, test_y)

    model.set_params(hyperparameters="fixed", warm_start=True)
    seconds = timed_fit(model, new_x, new_y)
    found["refit to new rows"] = {"seconds": seconds} | scores(model, test_x, test_y)

    trees = HistGradientBoostingRegressor(random_state=0)
    seconds = timed_fit(trees, x, y)
    error = np.sqrt(np.mean((trees.predict(test_x) - truth(test_x)) ** 2))
    found[f"boosting, {rows} rows"] = {"seconds": seconds, "error": float(error)}
    return found, model


# %% [markdown]
# The figure shows the function and its intervals along two features, the others at 0.


# %%
def draw(path: Path, model: ResNetGPRegressor) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, feature in zip(figure.subplots(1, 2), (0, 1), strict=True):
        grid = np.linspace(-4, 4, 161)
        x = np.zeros((len(grid), D))
        x[:, feature] = grid
        mean, std = model.predict(x, return_std=True)
        _, latent = model.predict(x, return_std=True, observation_noise=False)
        for deviation, alpha, name in ((std, 0.15, "target"), (latent, 0.35, "function")):
            ends = mean - HALF * deviation, mean + HALF * deviation
            axis.fill_between(grid, *ends, color="#0b5fa5", alpha=alpha, lw=0, label=name)
        axis.plot(grid, mean, color="#0b5fa5", label="mean")
        axis.plot(grid, truth(x), color="black", lw=0.9, label="truth")
        axis.set(xlabel=f"feature {feature + 1}, the others 0")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90)


# %%
def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description="Fifty thousand rows")
    parser.add_argument("--quick", action="store_true", help="1500 rows, 60 inducing points")
    parser.add_argument("--figure", type=Path, help="where to draw the function")
    options = parser.parse_args(arguments)
    found, model = compare(*(1500, 150, 60, 3) if options.quick else (50_000, 500, 200, 12))
    print(f"{'':22s} seconds  error   90 %: targets  function   noise ({NOISE})")
    for name, row in found.items():
        text = f"{name:22s} {row['seconds']:7.1f} {row['error']:6.3f}"
        if "targets" in row:
            text += f" {row['targets']:15.1%} {row['function']:9.1%} {row['noise']:7.3f}"
        print(text)
    if options.figure:
        draw(options.figure, model)
    return found


# %%
if __name__ == "__main__":
    main()
