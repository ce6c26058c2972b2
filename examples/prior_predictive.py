# %% [markdown]
# # The weak priors before there are data
#
# `add_weak_priors` gives every hyperparameter of a kernel a log-normal prior, for standardised
# inputs and targets. This draws functions from the prior, each with its own hyperparameters; the
# share of the targets' variance that is noise; and the correlation of the function at two random
# inputs, which depends little on the number of features.
#
#     python examples/prior_predictive.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
from pathlib import Path

import pyro
import torch
from torch import Tensor

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import GPRegression, sample_hyperparameters

GRID = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)[:, None]
DIMENSIONS = (1, 5, 50)


# %%
def prior(d: int) -> GPRegression:
    """A regression with priors; its data do not matter here."""
    x = torch.zeros(2, d, dtype=torch.float64)
    return GPRegression(x, x[:, 0], ResNetLimitKernel(input_bias=True, ard_num_dims=d))


@torch.no_grad()
def functions(number: int) -> Tensor:
    """Functions drawn on the grid, `number x 201`."""
    model = prior(1).module
    drawn = []
    for _ in range(number):
        covariance = sample_hyperparameters("", model).covar_module(GRID).to_dense()
        jitter = 1e-8 * covariance.diagonal().mean() * torch.eye(len(GRID))
        factor = torch.linalg.cholesky(covariance + jitter)
        drawn.append(factor @ torch.randn(len(GRID), dtype=torch.float64))
    return torch.stack(drawn)


@torch.no_grad()
def correlations(d: int, number: int) -> Tensor:
    """Correlations of the function at two standard normal inputs."""
    model = prior(d).module
    found = []
    for _ in range(number):
        k = sample_hyperparameters("", model).covar_module(torch.randn(2, d).double()).to_dense()
        found.append(k[0, 1] / (k[0, 0] * k[1, 1]).sqrt())
    return torch.stack(found)


@torch.no_grad()
def noise_shares(number: int) -> Tensor:
    """Draws of noise variance / (noise variance + output scale)."""
    model = prior(1).module
    drawn = [sample_hyperparameters("", model) for _ in range(number)]
    noise = torch.cat([one.likelihood.noise for one in drawn])
    return noise / (noise + torch.stack([one.covar_module.outputscale for one in drawn]))


# %%
def draw(path: Path, curves: Tensor, shares: Tensor, by_dimension: dict[int, Tensor]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    left.plot(GRID[:, 0], curves[:12].mT, linewidth=1)
    left.set(title="functions", xlabel="feature, in deviations", ylim=(-5, 5))
    middle.hist(shares, 30, color="#0b5fa5", alpha=0.8)
    middle.set(title="share of the variance that is noise", yticks=[])
    for d, values in by_dimension.items():
        right.hist(values, 40, histtype="step", density=True, label=f"d = {d}", linewidth=1.5)
    right.set(title="correlation at two random inputs", yticks=[])
    right.legend(frameon=False)
    figure.savefig(path, dpi=100)


# %%
def main(arguments: list[str] | None = None) -> dict[int, Tensor]:
    parser = argparse.ArgumentParser(description="What the weak priors say before there are data")
    parser.add_argument("--quick", action="store_true", help="few draws")
    parser.add_argument("--figure", type=Path, help="where to draw them")
    options = parser.parse_args(arguments)
    number = 20 if options.quick else 1000
    pyro.set_rng_seed(0)
    curves, shares = functions(12), noise_shares(number)
    by_dimension = {d: correlations(d, number) for d in DIMENSIONS}
    levels = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    for name, values in (
        ("deviation of a function", curves.std(1)),
        ("share of noise", shares),
        *((f"correlation, d = {d}", values) for d, values in by_dimension.items()),
    ):
        low, middle, high = torch.quantile(values, levels).tolist()
        print(f"{name:24s} 5 %: {low:6.3f}   median: {middle:6.3f}   95 %: {high:6.3f}")
    if options.figure:
        draw(options.figure, curves, shares, by_dimension)
    return by_dimension


# %%
if __name__ == "__main__":
    main()
