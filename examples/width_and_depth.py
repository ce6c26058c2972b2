# %% [markdown]
# # How wide and how deep is infinite?
#
# The empirical covariance of the last layer of random ReLU networks at two inputs,
# q(a, b) = <Y(a), Y(b)> / n. Its mean over networks is tested against the kernel of infinite width
# at the same depth, and against the limit: z-scores, in standard errors. Finite depth causes a bias
# that falls like 1/L. Finite width causes a spread over networks that falls like 1/sqrt(n), and
# hardly any bias: the mean is right even at small widths, a single network is not. So a large z
# says that many networks were averaged, not that the error is large. Last, `required_width` and
# `required_depth` recommend a network for a given error, which is then measured.
#
#     python examples/width_and_depth.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from resnet_gp import kernel_matrix
from resnet_gp.networks import ResNet, SampleMoments, Simulation, simulate
from resnet_gp.verification.required_size import required_depth, required_width

ANGLE = np.deg2rad(75)
INPUTS = np.sqrt(2) * np.array([[1.0, 0.0], [np.cos(ANGLE), np.sin(ANGLE)]])  # |a|^2 / d = 1
LIMIT = kernel_matrix(INPUTS)  # 2 x 2, weight variance 1


# %%
def observed(depth: int, hidden: torch.Tensor) -> torch.Tensor:
    """q(a, a), q(a, b) and the squared error of q(a, a) for each network, `N x 3`."""
    hidden = hidden.double()
    q = (hidden[:, :1] * hidden).mean(-1)
    return torch.cat([q, (q[:, :1] - LIMIT[0, 0]).square()], 1)


def sampled(width: int, depth: int, networks: int) -> SampleMoments:
    """Means over networks, with standard errors."""
    network = ResNet(width, depth)
    simulation = Simulation("one", network, torch.from_numpy(INPUTS), networks, observed)
    found = simulate(simulation, np.random.SeedSequence([width, depth]))[depth]
    assert isinstance(found, SampleMoments)
    return found


# %%
def table(widths: list[int], depths: list[int], networks: int) -> list[dict[str, float]]:
    """A row for each size: q(a, b), its z-scores, and the error of one network's q(a, a)."""
    rows = []
    for depth in depths:
        at_depth = kernel_matrix(INPUTS, depth=depth)[0, 1]
        for width in widths:
            found = sampled(width, depth, networks)
            mean, error = found.mean[1], found.standard_error[1]
            rows.append(
                {
                    "width": width,
                    "depth": depth,
                    "mean": mean,
                    "z, this depth": (mean - at_depth) / error,
                    "z, limit": (mean - LIMIT[0, 1]) / error,
                    "bias": mean - LIMIT[0, 1],
                    "standard error": error,
                    "error of one": np.sqrt(found.mean[2]),
                }
            )
    return rows


def advised(tolerance: float, depth: int, networks: int) -> dict[str, float]:
    """The width recommended at this depth, and the error measured there."""
    width = required_width(tolerance, depth=depth).size
    found = sampled(width, depth, networks)
    error = np.sqrt(found.mean[2])
    return {
        "tolerance": tolerance,
        "depth": depth,
        "least depth": required_depth(tolerance).size,
        "width": width,
        "measured": error,
        "its standard error": found.standard_error[2] / (2 * error),
    }


# %%
def draw(path: Path, rows: list[dict[str, float]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    widest = max(row["width"] for row in rows)
    wide = [row for row in rows if row["width"] == widest]
    depths = np.array([row["depth"] for row in wide])
    bias, error = (np.array([row[name] for row in wide]) for name in ("bias", "standard error"))
    left.errorbar(depths, -bias, 2 * error, fmt="o", ms=4, color="#0b5fa5", label="networks")
    grid = np.unique(np.geomspace(depths.min(), depths.max(), 40).round().astype(int))
    exact = [LIMIT[0, 1] - kernel_matrix(INPUTS, depth=int(depth))[0, 1] for depth in grid]
    left.plot(grid, exact, color="black", lw=0.9, label="kernel of this depth")
    left.set(
        xscale="log", yscale="log", xlabel="depth L", title=f"limit less q(a, b), n = {widest}"
    )
    left.legend(frameon=False)
    for depth in sorted(set(depths)):
        of_depth = [row for row in rows if row["depth"] == depth]
        widths = [row["width"] for row in of_depth]
        right.plot(
            widths, [row["error of one"] for row in of_depth], "o-", ms=4, label=f"L = {depth}"
        )
    right.set(
        xscale="log", yscale="log", xlabel="width n", title="L2 error of q(a, a) of a network"
    )
    right.legend(frameon=False)
    figure.savefig(path, dpi=90)


# %%
def main(arguments: list[str] | None = None) -> tuple[list[dict[str, float]], dict[str, float]]:
    parser = argparse.ArgumentParser(description="How wide and how deep is infinite?")
    parser.add_argument("--quick", action="store_true", help="few sizes and networks")
    parser.add_argument("--figure", type=Path, help="where to draw the errors")
    options = parser.parse_args(arguments)
    if options.quick:
        rows, advice = table([32, 256], [1, 8], 2000), advised(0.25, 16, 1000)
    else:
        rows = table([16, 64, 256, 1024], [1, 2, 4, 8, 16, 32], 8000)
        advice = advised(0.1, 16, 4000)
    print(
        f"q(a, b): limit {LIMIT[0, 1]:.4f}\nwidth depth    mean  z, depth  z, limit  error of one"
    )
    for row in rows:
        print(
            f"{row['width']:5d} {row['depth']:5d} {row['mean']:7.4f} {row['z, this depth']:9.1f} "
            f"{row['z, limit']:9.1f} {row['error of one']:13.3f}"
        )
    print("advice: " + ", ".join(f"{name} {value:.4g}" for name, value in advice.items()))
    if options.figure:
        draw(options.figure, rows)
    return rows, advice


# %%
if __name__ == "__main__":
    main()
