# %% [markdown]
# # Training dynamics at three residual scales
#
# A deep ResNet learns scikit-learn's diabetes set at three scales, by full-batch gradient descent
# with the step sizes of each scale (Chizat 2025, arXiv 2509.10167): at sqrt(D)/(LM), which
# `advise_scale` recommends; at sqrt(D)/(LM)^(3/4), the lazy scale, where the loss falls but
# features hardly move; and at 1/sqrt(LM), outside the theory, where the blocks swamp their input at
# the start. The figure has the loss and the movement of the features: the change of the hidden
# units' inputs at the initial states, relative to their initial size.
#
#     python examples/training_dynamics.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale as standardise
from torch import Tensor

from resnet_gp.mean_ode import ResidualMLP, advise_scale

D, M = 10, 8
SCALES = ("complete", "lazy", "1/sqrt(LM)")


# %%
def diabetes() -> tuple[Tensor, Tensor]:
    """Standardised inputs `442 x 10`, and targets `442 x 1`."""
    X, y = load_diabetes(return_X_y=True)
    return torch.tensor(standardise(X)).float(), torch.tensor(standardise(y)).float()[:, None]


# %% [markdown]
# The residual stream has as many dimensions as the set has features. Its first coordinate is the
# prediction; the targets of the others are their inputs, so that all D outputs have a target.


# %%
def features(network: ResidualMLP, states: Tensor) -> Tensor:
    """Inputs of the hidden units at these states of the stream, `L x n x M`."""
    return states @ network.U / D


def train(scale: str | float, L: int, steps: int, seed: int) -> tuple[list[float], list[float]]:
    """Mean squared error of the prediction and movement of the features, at each step."""
    X, y = diabetes()
    targets = torch.cat([y, X[:, 1:]], 1)
    network = ResidualMLP(D, M, L, scale=scale, generator=torch.Generator().manual_seed(seed))
    optimiser = torch.optim.SGD(network.parameter_groups())
    with torch.no_grad():
        states = torch.stack(network.states(X)[:-1])
        start = features(network, states)
    losses, movements = [], []
    for _ in range(steps):
        output = network(X)
        losses.append((output[:, :1] - y).square().mean().item())
        with torch.no_grad():
            moved = (features(network, states) - start).square().mean() / start.square().mean()
        movements.append(moved.sqrt().item())
        optimiser.zero_grad()
        ((output - targets).square().mean() / 2).backward()
        optimiser.step()
    return losses, movements


# %%
def draw(path: Path, results: dict[str, tuple[list[float], list[float]]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for axis, column, label in zip(axes, (0, 1), ("loss", "movement of features"), strict=True):
        for name, curves in results.items():
            axis.plot(curves[column], label=name)
        axis.set(xlabel="step", ylabel=label, yscale="log" if column == 0 else "linear")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


# %%
def main(arguments: list[str] | None = None) -> dict[str, tuple[list[float], list[float]]]:
    parser = argparse.ArgumentParser(description="Training dynamics at three residual scales")
    parser.add_argument("--quick", action="store_true", help="a shallow network, few steps")
    parser.add_argument("--figure", type=Path, help="where to draw the curves")
    options = parser.parse_args(arguments)
    L, steps = (16, 20) if options.quick else (100, 150)
    results = {}
    print("scale        alpha  regime                      loss before, after   features moved by")
    for name in SCALES:
        scale = 1 / math.sqrt(L * M) if name == "1/sqrt(LM)" else name
        advice = advise_scale(D, M, L, scale)
        losses, movements = train(scale, L, steps, seed=0)
        results[name] = losses, movements
        print(
            f"{name:11s} {advice.alpha:6.2f}  {advice.regime:26s} {losses[0]:9.3f} "
            f"{losses[-1]:7.3f} {movements[-1]:17.1%}"
        )
    if options.figure:
        draw(options.figure, results)
    return results


# %%
if __name__ == "__main__":
    main()
