"""How far are predictions from k neighbours from those of the exact posterior?

    python benchmarks/neighbours.py
    python benchmarks/neighbours.py --quick

Functions are drawn from the regressor's prior with 2, 4 and 8 inputs, and 2000 targets with noise
of a tenth of their variance or a thousandth. 100 further points are predicted by the process given
their k nearest rows, for k from 8 to all 2000, and given all rows exactly, both at the true
hyperparameters. Two errors: root mean square difference of the means of f, in units of f's exact
posterior deviation, and root mean square difference of log deviations. Prints them, and draws
docs/images/neighbours.png.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gpytorch.kernels import Kernel
from harness import IMAGES, Cell, Cells, fill, output, parser_of, print_table, subplots

from resnet_gp import ResNetLimitKernel
from resnet_gp.models import ExactRegression
from resnet_gp.models.nearest import NearestRegression

DIMENSIONS, NOISES = (2, 4, 8), (0.1, 0.001)
ROWS, NEW, SEEDS = 2000, 100, 3
ERRORS = {"mean": "means, in deviations of f", "log_deviation": "log deviations"}


def kernel(d: int) -> Kernel:
    """The default kernel at its initial hyperparameters."""
    return ResNetLimitKernel(
        input_bias=True, variance="no_growth", contrast=True, ard_num_dims=d
    ).double()


@torch.no_grad()
def cells(d: int, noise: float, seed: int, rows: int = ROWS) -> list[Cell]:
    generator = torch.Generator().manual_seed(1000 * d + seed)
    x = torch.randn(rows + NEW, d, generator=generator, dtype=torch.float64)
    covariance = kernel(d)(x).to_dense()
    covariance.diagonal().add_(1e-10)
    f = torch.linalg.cholesky(covariance) @ torch.randn(
        len(x), generator=generator, dtype=torch.float64
    )
    errors = math.sqrt(noise) * torch.randn(rows, generator=generator, dtype=torch.float64)
    train, y, new = x[:rows], f[:rows] + errors, x[rows:]

    def moments(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        model.likelihood.noise, model.covar_module.outputscale = torch.tensor([noise, 1.0]).double()
        mean, variance = model.posterior().mean_and_variance(new)
        return mean, variance.sqrt()

    exact_mean, exact_deviation = moments(ExactRegression(train, y, kernel(d)))
    sizes = [2**power for power in range(3, 20) if 2**power < rows] + [rows]
    found = []
    for k in sizes:
        mean, deviation = moments(NearestRegression(train, y, kernel(d), k))
        error = ((mean - exact_mean) / exact_deviation).square().mean().sqrt()
        stretch = (deviation / exact_deviation).log().square().mean().sqrt()
        about = {"d": d, "noise": noise, "seed": seed, "k": k}
        found.append({**about, "mean": error.item(), "log_deviation": stretch.item()})
    return found


def curve(done: Cells, measure: str, d: int, noise: float) -> tuple[list[int], list[float]]:
    """Numbers of neighbours, and the errors, root mean squares over the seeds."""
    sizes = sorted({cell["k"] for cell in done.where(d=d, noise=noise)})
    squares = [(done.values(measure, d=d, noise=noise, k=k) ** 2).mean() for k in sizes]
    return sizes, [math.sqrt(value) for value in squares]


def draw(done: Cells) -> None:
    figure, axes = subplots((9, 3.2), 1, 2, sharex=True)
    for axis, (measure, title) in zip(axes, ERRORS.items(), strict=True):
        for d, colour in zip(DIMENSIONS, ("C0", "C1", "C2"), strict=True):
            for noise, line in zip(NOISES, ("-", "--"), strict=True):
                sizes, errors = curve(done, measure, d, noise)
                label = f"{d} inputs, noise {noise:g}"
                axis.loglog(sizes[:-1], errors[:-1], line, color=colour, label=label)
        axis.set_title(f"error of {title}")
        axis.set_xlabel("neighbours")
    axes[0].legend(fontsize="small")
    figure.savefig(IMAGES / "neighbours.png", dpi=100)


def report(done: Cells) -> None:
    sizes = sorted({cell["k"] for cell in done.all})
    for measure, title in ERRORS.items():
        ways = sorted({(cell["d"], cell["noise"]) for cell in done.all})
        rows = []
        for d, noise in ways:
            errors = curve(done, measure, d, noise)[1]
            rows.append([f"{d} inputs, noise {noise:g}", *(f"{error:.2g}" for error in errors)])
        print_table(f"error of {title}, by neighbours", ["", *map(str, sizes)], rows)


def main(arguments: list[str] | None = None) -> Cells:
    options = parser_of(__doc__, resumes=True).parse_args(arguments)
    done = Cells(output(options, "neighbours"), ["d", "noise", "seed"])
    if options.quick:
        done.add(cells(2, 0.1, 0, 200))
    else:
        work = [(d, noise, seed) for seed in range(SEEDS) for d in DIMENSIONS for noise in NOISES]
        fill(done, work, cells, options.seconds)
        draw(done)
    report(done)
    return done


if __name__ == "__main__":
    main()
