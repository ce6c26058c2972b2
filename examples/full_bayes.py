# %% [markdown]
# # Full Bayes where rows are few
#
# Train on forty patients of scikit-learn's diabetes set (ten features) and predict the other 402.
# The regressor takes the hyperparameters of maximum likelihood ("ml") or the mode of their
# posterior under weak priors ("map"), or averages over draws from this posterior ("nuts"). The
# script prints the root mean squared error, the negative log predictive density and the coverage of
# 90 % intervals, averaged over training sets (one by default: each takes a minute), and a summary
# of the draws.
#
#     python examples/full_bayes.py [--sets 3] [--draws 150] [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

from resnet_gp import ResNetGPRegressor
from resnet_gp.bayes import summary

ROWS = 40
WAYS = ("ml", "map", "nuts")


# %%
def regressor(way: str, draws: int, jobs: int) -> ResNetGPRegressor:
    return ResNetGPRegressor(
        hyperparameters=way, n_chains=2, n_draws=draws, n_jobs=jobs, random_state=0
    )


def scores(model: ResNetGPRegressor, X: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Root mean squared error, negative log predictive density, coverage."""
    low, high = model.predict_quantiles(X, (0.05, 0.95)).T
    error = np.sqrt(np.mean((model.predict(X) - y) ** 2))
    density = -model.predict_log_density(X, y).mean()
    return error, density, np.mean((low < y) & (y < high))


# %% [markdown]
# Two short chains may be too few; the warning about that is silenced here.


# %%
def compare(sets: int, draws: int, jobs: int) -> tuple[dict[str, np.ndarray], ResNetGPRegressor]:
    X, y = load_diabetes(return_X_y=True)
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for seed in range(sets):
        order = np.random.default_rng(seed).permutation(len(y))
        few, rest = order[:ROWS], order[ROWS:]
        for way in WAYS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model = regressor(way, draws, jobs).fit(X[few], y[few])
            found[way].append(scores(model, X[rest], y[rest]))
    return {way: np.array(rows) for way, rows in found.items()}, model


# %% [markdown]
# The figure shows the draws of the horizon and of the noise, and their modes. With forty rows both
# are uncertain by a factor of several, which a single best value hides.


# %%
def draw(path: Path, model: ResNetGPRegressor) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = model.draws_.pooled()
    sites = {
        "weight variance w": "covar_module.base_kernel.weight_variance",
        "noise variance (standardised)": "likelihood.noise_covar.noise",
    }
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, site) in zip(figure.subplots(1, 2), sites.items(), strict=True):
        logarithms = np.log10(values[site].flatten().numpy())
        mode = model.model_
        for part in site.split("."):
            mode = getattr(mode, part)
        axis.hist(logarithms, 24, color="#0b5fa5", alpha=0.8)
        axis.axvline(np.log10(mode.detach().item()), color="black", label="mode")
        axis.set(title=title, xlabel="logarithm to base 10", ylabel="draws")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


# %%
def main(arguments: list[str] | None = None) -> dict[str, np.ndarray]:
    parser = argparse.ArgumentParser(description="Full Bayes where rows are few")
    parser.add_argument("--sets", type=int, default=1, help="of forty patients")
    parser.add_argument("--draws", type=int, default=100, help="of each of two chains")
    parser.add_argument("--quick", action="store_true", help="one set, a few draws")
    parser.add_argument("--figure", type=Path, help="where to draw the posterior")
    options = parser.parse_args(arguments)
    sets, draws, jobs = (1, 8, 1) if options.quick else (options.sets, options.draws, 2)
    found, model = compare(sets, draws, jobs)
    print("          RMSE    NLPD   in 90 % intervals")
    for way, rows in found.items():
        error, density, coverage = rows.mean(0)
        print(f"{way:6s} {error:7.2f} {density:7.3f}   {coverage:.1%}")
    print(summary(model.draws_).iloc[:, :4])
    if options.figure:
        draw(options.figure, model)
    return found


# %%
if __name__ == "__main__":
    main()
