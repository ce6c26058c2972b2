# %% [markdown]
# # Groups that share a kernel
#
# Eight machines were measured seven times each. Their curves differ but have the same smoothness:
# all share one kernel, whose hyperparameters are drawn once. Each machine has its own level, and
# the spread of the levels is learned as well. `sample_hyperparameters` makes a `pyro.sample`
# statement for every hyperparameter of a kernel, so it combines with any other statements of a Pyro
# model. The result is compared with a separate regression for each machine.
#
#     python examples/hierarchical.py [--quick] [--figure FILE]

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

GROUPS, ROWS = 8, 7
GRID = torch.linspace(-2, 2, 81, dtype=torch.float64)[:, None]


# %%
def truth(x: Tensor, level: float, phase: float) -> Tensor:
    return level + torch.sin(2 * x[:, 0] + phase)


def simulated(seed: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each machine: inputs `ROWS x 1`, noisy targets, and the true curve on the grid."""
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(GROUPS):
        level, phase = 2 * rng.normal(), rng.uniform(-1, 1)
        x = torch.from_numpy(rng.uniform(-2, 2, (ROWS, 1)))
        y = truth(x, level, phase) + 0.1 * torch.from_numpy(rng.normal(size=ROWS))
        groups.append((x, y, truth(GRID, level, phase)))
    return groups


# %% [markdown]
# The model. The output scale has its own site. The growth factor of the kernel and the input bias
# are confounded with it: the former is left out, the latter is fixed. Rows of different machines
# are independent given the hyperparameters. The levels are normal and are integrated in closed
# form: they add the variance of the spread to covariances within a machine.


# %%
class Machines:
    def __init__(self, groups: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        self.groups = groups
        self.x, self.y = (torch.cat(parts) for parts in list(zip(*groups, strict=True))[:2])
        machine = torch.arange(GROUPS).repeat_interleave(ROWS)
        self.same = (machine[:, None] == machine).double()
        self.kernel = ResNetLimitKernel(input_bias=True, variance="no_growth").double()
        self.kernel.raw_input_bias_variance.requires_grad_(False)
        add_weak_priors(self.kernel)

    def __call__(self) -> None:
        one = torch.ones((), dtype=torch.float64)
        kernel = sample_hyperparameters("kernel", self.kernel)
        laws = {
            "centre": dist.Normal(0 * one, 5.0),
            "spread": dist.LogNormal(0 * one, 1.0),
            "scale": dist.LogNormal(0 * one, 1.0),
            "noise": dist.LogNormal(-3 * one, 1.5),
        }
        at = {name: pyro.sample(name, law) for name, law in laws.items()}
        pyro.sample("y", self.law(kernel, at), obs=self.y - at["centre"])

    def law(self, kernel: ResNetLimitKernel, at: dict[str, Tensor]) -> GaussianVector:
        """The law of all targets minus the centre."""
        within = at["scale"] * kernel(self.x).to_dense() + at["spread"] ** 2
        return GaussianVector(self.same * within, noise=at["noise"].expand(len(self.x)))

    @torch.no_grad()
    def predict(self, draws: Draws) -> list[Law]:
        """The curves of the machines on the grid, averaged over draws."""
        values = draws.pooled(100)
        laws: list[list[Law]] = [[] for _ in self.groups]
        for k in range(len(values["scale"])):
            at = {name: value[k] for name, value in values.items()}
            kernel = with_hyperparameters("kernel", self.kernel, at)
            law = self.law(kernel, at)
            cross = at["scale"] * kernel(self.x, GRID).to_dense() + at["spread"] ** 2
            variance = at["scale"] * kernel(GRID, diag=True) + at["spread"] ** 2
            for i, own in enumerate(self.same[::ROWS]):
                mean, left = law.conditional(self.y - at["centre"], own[:, None] * cross, variance)
                laws[i].append(Law.normal(at["centre"] + mean, left.sqrt()))
        return [Law.mixture(one) for one in laws]


# %%
def draw(path: Path, machines: Machines, found: list[Law], alone: list) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for i, axis in enumerate(figure.subplots(2, 4, sharex=True, sharey=True).flat):
        x, y, curve = machines.groups[i]
        low, high = found[i].interval(0.9)
        axis.fill_between(GRID[:, 0], low, high, color="#0b5fa5", alpha=0.25)
        axis.plot(GRID[:, 0], found[i].mean, color="#0b5fa5", label="shared kernel")
        axis.plot(GRID[:, 0], alone[i], color="#d1495b", ls="--", label="alone")
        axis.plot(GRID[:, 0], curve, color="black", lw=0.8, label="truth")
        axis.plot(x[:, 0], y, "k.", ms=5)
        axis.set_title(f"machine {i + 1}", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=120)


# %%
def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Groups that share a kernel")
    parser.add_argument("--quick", action="store_true", help="a few draws")
    parser.add_argument("--figure", type=Path, help="where to draw the curves")
    options = parser.parse_args(arguments)
    machines = Machines(simulated())
    draws, depth, jobs = (4, 3, 1) if options.quick else (100, 10, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        chains = run_nuts(
            machines,
            num_chains=2,
            num_draws=draws,
            num_warmup=draws,
            max_tree_depth=depth,
            n_jobs=jobs,
        )
    found = machines.predict(chains)
    alone = [
        ResNetGPRegressor().fit(x.numpy(), y.numpy()).predict(GRID.numpy())
        for x, y, _ in machines.groups
    ]
    curves = [curve.numpy() for *_, curve in machines.groups]
    inside = []
    for mixture, curve in zip(found, curves, strict=True):
        low, high = mixture.interval(0.9)
        inside.append(np.mean((low < curve) & (curve < high)))
    result = {
        "error, shared kernel": rms([m.mean for m in found], curves),
        "error, each alone": rms(alone, curves),
        "share of the curves in 90 % intervals": float(np.mean(inside)),
    }
    for name, value in result.items():
        print(f"{name}: {value:.3f}")
    if options.figure:
        draw(options.figure, machines, found, alone)
    return result


def rms(means: list[np.ndarray], curves: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean((np.stack(means) - np.stack(curves)) ** 2)))


# %%
if __name__ == "__main__":
    main()
