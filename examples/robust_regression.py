# %% [markdown]
# # Robust regression, and a trend in the same model
#
# Every tenth target is spoiled by a gross error. Student-t noise gives such targets little weight.
# It is written as a mixture of normal laws with one precision for each row, so the function is
# still integrated out in closed form: `GaussianVector` takes a variance for each row. A straight
# line with normal priors is part of the same model; the Gaussian process only has to explain the
# rest.
#
#     python examples/robust_regression.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from resnet_gp import ResNetGPRegressor, ResNetLimitKernel
from resnet_gp.bayes import (
    Draws,
    GaussianVector,
    Law,
    add_weak_priors,
    run_nuts,
    sample_hyperparameters,
    with_hyperparameters,
)

ROWS = 40
FREEDOM = 3.0
GRID = torch.linspace(-2, 2, 101, dtype=torch.float64)[:, None]


# %%
def truth(x: Tensor) -> Tensor:
    return 1.5 * x[:, 0] + torch.sin(3 * x[:, 0])


def simulated() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = 4 * torch.rand(ROWS, 1, dtype=torch.float64, generator=generator) - 2
    y = truth(x) + 0.15 * torch.randn(ROWS, dtype=torch.float64, generator=generator)
    y[::10] += torch.tensor([4.0, -5.0, 6.0, -4.0])
    return x, y


# %% [markdown]
# A Student-t law with nu degrees of freedom is a normal law whose precision is drawn from a gamma
# law of shape and rate nu / 2. The site of the precisions has an entry for each row.


# %%
class Robust:
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.kernel = ResNetLimitKernel(input_bias=True, variance="no_growth").double()
        self.kernel.raw_input_bias_variance.requires_grad_(False)
        add_weak_priors(self.kernel)

    def __call__(self) -> None:
        one = torch.ones((), dtype=torch.float64)
        half = torch.full((len(self.x),), FREEDOM / 2, dtype=torch.float64)
        kernel = sample_hyperparameters("kernel", self.kernel)
        laws = {
            "slope": dist.Normal(0 * one, 3.0),
            "level": dist.Normal(0 * one, 3.0),
            "scale": dist.LogNormal(0 * one, 1.0),
            "noise": dist.LogNormal(-3 * one, 1.5),
            "precision": dist.Gamma(half, half).to_event(1),
        }
        at = {name: pyro.sample(name, law) for name, law in laws.items()}
        pyro.sample("y", self.law(kernel, at), obs=self.y - self.line(at, self.x))

    def law(self, kernel: ResNetLimitKernel, at: dict[str, Tensor]) -> GaussianVector:
        """The law of the targets, less the line."""
        covariance = at["scale"] * kernel(self.x).to_dense()
        return GaussianVector(covariance, noise=at["noise"] / at["precision"])

    def line(self, at: dict[str, Tensor], x: Tensor) -> Tensor:
        return at["level"] + at["slope"] * x[:, 0]

    @torch.no_grad()
    def predict(self, draws: Draws) -> Law:
        """The law of the function on the grid, averaged over draws."""
        values = draws.pooled(100)
        laws = []
        for k in range(len(values["scale"])):
            at = {name: value[k] for name, value in values.items()}
            kernel = with_hyperparameters("kernel", self.kernel, at)
            mean, variance = self.law(kernel, at).conditional(
                self.y - self.line(at, self.x),
                at["scale"] * kernel(self.x, GRID).to_dense(),
                at["scale"] * kernel(GRID, diag=True),
            )
            laws.append(Law.normal(self.line(at, GRID) + mean, variance.sqrt()))
        return Law.mixture(laws)


# %%
def draw(path: Path, model: Robust, found: Law, plain: np.ndarray, weights: Tensor) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    low, high = found.interval(0.9)
    axis.fill_between(GRID[:, 0], low, high, color="#0b5fa5", alpha=0.25)
    axis.plot(GRID[:, 0], found.mean, color="#0b5fa5", label="Student-t noise")
    axis.plot(GRID[:, 0], plain, color="#d1495b", ls="--", label="normal noise")
    axis.plot(GRID[:, 0], truth(GRID), color="black", lw=0.8, label="truth")
    rows = axis.scatter(model.x[:, 0], model.y, c=weights, cmap="viridis", s=22, zorder=3)
    figure.colorbar(rows, label="precision of the row")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


# %%
def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Robust regression, and a trend")
    parser.add_argument("--quick", action="store_true", help="a few draws")
    parser.add_argument("--figure", type=Path, help="where to draw the curve")
    options = parser.parse_args(arguments)
    model = Robust(*simulated())
    draws, depth, jobs = (6, 3, 1) if options.quick else (100, 10, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        chains = run_nuts(
            model,
            num_chains=2,
            num_draws=draws,
            num_warmup=draws,
            max_tree_depth=depth,
            target_acceptance=0.8,
            dense_mass=False,  # most unknowns are precisions, nearly independent
            n_jobs=jobs,
        )
    found = model.predict(chains)
    plain = ResNetGPRegressor().fit(model.x.numpy(), model.y.numpy()).predict(GRID.numpy())
    curve = truth(GRID).numpy()
    precision = chains.pooled()["precision"].mean(0)
    slopes = chains.pooled()["slope"]
    result = {
        "error, Student-t noise": rms(found.mean - curve),
        "error, normal noise": rms(plain - curve),
        "mean precision of spoiled rows": float(precision[::10].mean()),
        "mean precision of all rows": float(precision.mean()),
        "slope": float(slopes.mean()),
        "its deviation": float(slopes.std()),
    }
    for name, value in result.items():
        print(f"{name}: {value:.3f}")
    if options.figure:
        draw(options.figure, model, found, plain, precision)
    return result


def rms(gaps: np.ndarray) -> float:
    return float(np.sqrt(np.mean(gaps**2)))


# %%
if __name__ == "__main__":
    main()
