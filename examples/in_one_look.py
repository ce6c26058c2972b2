# %% [markdown]
# # In one look
#
# The kernel as a limit of networks, its accuracy, and its predictions, for one feature and a bias.
#
# - Outputs of one random network of width 1000 with 1000 blocks, a line for each of six neurons:
#   draws of a Gaussian process. The kernel expects 95 % of them in the shaded region.
# - The covariance of the outputs at 1 and at other inputs, averaged over networks of width 100 with
#   100 blocks, with two standard errors, and the kernel's formula.
# - GP regression on thirty noisy rows with this kernel and with RBF, and 90 % intervals. Outside
#   the data, the first continues in straight lines and the second returns to the mean.
#
#     python examples/in_one_look.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import gpytorch
import numpy as np
import torch

from resnet_gp import ResNetGPRegressor, kernel_matrix
from resnet_gp.networks import ResNet, SampleMoments, Samples, Simulation, simulate

LINE = np.linspace(-3, 3, 61)
AT = 40  # index of x = 1 on the line


def with_bias(x: np.ndarray) -> np.ndarray:
    """The inputs of a network whose input layer has a bias of variance 1, `m x 2`."""
    return np.sqrt(2) * np.stack([x, np.ones_like(x)], 1)


LIMIT = kernel_matrix(with_bias(LINE))


# %%
def neurons(width: int, depth: int, count: int) -> np.ndarray:
    """Outputs of the first neurons of one network, `count x m`."""

    def first(layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return hidden[:, :, :count].flatten(1)

    one = Simulation(
        "neurons", ResNet(width, depth), torch.tensor(with_bias(LINE)), 1, first, keep=True
    )
    found = simulate(one, np.random.SeedSequence(1))[depth]
    assert isinstance(found, Samples)
    return np.asarray(found.values).reshape(len(LINE), count).T


def covariances(width: int, depth: int, networks: int) -> SampleMoments:
    """Covariances with the output at x = 1, and their standard errors."""

    def with_one(layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return (hidden[:, AT : AT + 1] * hidden).double().mean(-1)

    many = Simulation(
        "covariances", ResNet(width, depth), torch.tensor(with_bias(LINE)), networks, with_one
    )
    found = simulate(many, np.random.SeedSequence(2))[depth]
    assert isinstance(found, SampleMoments)
    return found


# %%
class Fitted(NamedTuple):
    """Predictions on a line, ``m``, and their error outside the data."""

    mean: np.ndarray
    std: np.ndarray
    error_outside: float


WIDE = np.linspace(-5, 6, 111)


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x) + 0.8 * x


def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 3, 30)
    return x, truth(x) + 0.2 * rng.normal(size=30)


def fitted() -> dict[str, Fitted]:
    x, y = rows()
    outside = (WIDE < -2) | (WIDE > 3)
    found = {}
    for name, kernel in {"ResNet": "limit", "RBF": gpytorch.kernels.RBFKernel()}.items():
        model = ResNetGPRegressor(kernel=kernel).fit(x[:, None], y)
        mean, std = model.predict(WIDE[:, None], return_std=True)
        error = np.sqrt(np.mean((mean - truth(WIDE))[outside] ** 2))
        found[name] = Fitted(mean, std, float(error))
    return found


# %%
def draw(path: Path, lines: np.ndarray, moments: SampleMoments, fits: dict[str, Fitted]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    blue, red = "#0b5fa5", "#d1495b"
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    first, second, third = figure.subplots(1, 3)
    band = 1.96 * np.sqrt(np.diag(LIMIT))
    first.fill_between(LINE, -band, band, color=blue, alpha=0.15, lw=0)
    first.plot(LINE, lines.T, color="0.3", lw=1)
    first.set(title="neurons of one random ResNet", xlabel="input")
    second.plot(LINE, LIMIT[AT], color=blue, label="kernel")
    second.errorbar(
        LINE[::3], moments.mean[::3], 2 * moments.standard_error[::3], fmt=".", color="0.3", ms=4,
        label="random networks",
    )  # fmt: skip
    second.set(title="covariance with the output at 1", xlabel="input")
    second.legend(frameon=False)
    for (name, fit), colour in zip(fits.items(), (blue, red), strict=True):
        third.fill_between(
            WIDE, fit.mean - 1.645 * fit.std, fit.mean + 1.645 * fit.std, color=colour, alpha=0.15,
            lw=0,
        )  # fmt: skip
        third.plot(WIDE, fit.mean, color=colour, label=name)
    third.plot(WIDE, truth(WIDE), color="0.3", lw=1, ls=":", label="truth")
    third.plot(*rows(), ".", color="black", ms=5)
    third.set(title="regression with 90 % intervals", xlabel="input", ylim=(-6, 8))
    third.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=110)


# %%
def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="In one look")
    parser.add_argument("--quick", action="store_true", help="small networks")
    parser.add_argument("--figure", type=Path, help="where to draw")
    options = parser.parse_args(arguments)
    wide, small, networks = (50, 20, 20) if options.quick else (1000, 100, 1000)
    lines = neurons(wide, wide, 6)
    moments = covariances(small, small, networks)
    z = (moments.mean - kernel_matrix(with_bias(LINE), depth=small)[AT]) / moments.standard_error
    fits = fitted()
    found = {
        "neurons in the 95 % band": float(np.mean(np.abs(lines) < 1.96 * np.sqrt(np.diag(LIMIT)))),
        "largest z-score of a covariance": float(np.abs(z).max()),
        **{f"error outside of the data, {name}": fit.error_outside for name, fit in fits.items()},
    }
    for name, value in found.items():
        print(f"{name:34s} {value:.3f}")
    if options.figure:
        draw(options.figure, lines, moments, fits)
    return found


# %%
if __name__ == "__main__":
    main()
