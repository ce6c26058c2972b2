"""Does the posterior of a finite Bayesian ResNet approach that of the Gaussian process?

    python benchmarks/finite_posterior.py [--widths 8 16 32 64]
    python benchmarks/finite_posterior.py --quick

Regression on five points with networks of four blocks. Chains of NUTS draw all hidden weights of
``BayesianResNet``, the readout is exact given these; means and second moments of the posterior
predictive at three inputs come with standard errors over independent chains. They are compared with
importance sampling of the same posterior (``resnet_gp.verification.network_posterior``) by z-tests,
and with the Gaussian process: the error's slope in the width is fitted by weighted least squares.
Writes docs/images/finite_posterior.png.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from harness import IMAGES, Cell, Cells, fill, output, parser_of, print_table, subplots
from scipy.stats import t as student

from resnet_gp.bayes import BayesianResNet, run_nuts
from resnet_gp.networks import Simulation, simulate
from resnet_gp.report.fits import power_law
from resnet_gp.threads import torch_threads
from resnet_gp.verification import network_posterior as posterior
from resnet_gp.verification.observables import values

DRAWS = {"nuts": 250, "importance": 400_000}  # of each chain, of each width
WARMUP, CHAINS, TREE_DEPTH = 150, 6, 6
LABELS = [f"{what} at {float(x):g}" for what in ("mean", "variance") for x in posterior.TEST[:, 0]]


@torch_threads(1)
def nuts(width: int, chain: int, draws: int, warmup: int, depth: int) -> Cell:
    """First and second moments at the test inputs, from one chain."""
    model = BayesianResNet(
        posterior.network(width), posterior.TRAIN, posterior.TARGETS, posterior.NOISE
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run_nuts(
            model, num_chains=1, num_draws=draws, num_warmup=warmup, start="prior",
            seed=1000 * width + chain, dense_mass=False, target_acceptance=0.8,
            max_tree_depth=depth, verbose=False,
        )  # fmt: skip
    mixture = model.predict(posterior.TEST, found, observation_noise=False)
    square = mixture.variance + mixture.mean**2
    return {
        "way": "nuts", "width": width, "chain": chain, "seconds": found.seconds,
        "mean": mixture.mean.tolist(), "square": square.tolist(),
        "divergences": found.num_divergences,
    }  # fmt: skip


def importance(width: int, networks: int) -> Cell:
    """Means and variances with standard errors, from hidden weights drawn from the prior."""
    inputs = torch.cat([posterior.TRAIN, posterior.TEST])
    network = posterior.network(width)
    simulation = Simulation(
        f"n{width}", network, inputs, networks, posterior.conditional, keep=True
    )
    found = simulate(simulation, np.random.SeedSequence(width))
    rows = values(found[posterior.DEPTH])
    estimates, errors, effective = posterior.weighted_posterior(rows)
    return {
        "way": "importance", "width": width, "chain": 0, "estimates": estimates.tolist(),
        "errors": errors.tolist(), "effective": effective,
    }  # fmt: skip


def by_chains(cells: Cells, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances with standard errors (delta method) over chains."""
    own = cells.where(way="nuts", width=width)
    first, second = (np.array([cell[name] for cell in own]) for name in ("mean", "square"))
    mean = first.mean(0)
    variance = second.mean(0) - mean**2
    each = np.concatenate([first, second - 2 * mean * first], 1)  # linear in the chain's moments
    errors = each.std(0, ddof=1) / len(own) ** 0.5
    return np.concatenate([mean, variance]), errors


def gaussian_process() -> np.ndarray:
    inputs = torch.cat([posterior.TRAIN, posterior.TEST])
    covariance = torch.from_numpy(posterior.covariance(posterior.network(1), inputs))
    return torch.cat(posterior.regression(covariance[None])[1:], 1)[0].numpy()


def slope(widths: list[int], gaps: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Slope of the root mean squared gap (less its noise) in the width, and its standard error.

    Widths whose gap is below its noise are left out; NaN with fewer than two others.
    """
    square = np.square(gaps).sum(1) - np.square(errors).sum(1)
    noise = 2 * np.sqrt(np.square(gaps * errors).sum(1))
    seen = square > 0
    if seen.sum() < 2:
        return math.nan, math.nan
    root = np.sqrt(square[seen])
    fit = power_law(np.array(widths, float)[seen], root, noise[seen] / (2 * root))
    return float(fit.parameters[1]), float(fit.standard_errors[1])


def draw(widths: list[int], found: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    limit = gaussian_process()
    figure, axes = subplots((9, 3.6), 1, 2)
    for axis, part, name in zip(axes, (slice(3), slice(3, 6)), ("mean", "variance"), strict=True):
        for (way, (estimates, errors)), marker in zip(found.items(), "os", strict=True):
            gaps, spread = estimates - limit, 2 * errors
            for j, x in enumerate(posterior.TEST[:, 0]):
                column = range(6)[part][j]
                axis.errorbar(
                    np.array(widths) * (1.04 if way == "importance" else 1), gaps[:, column],
                    spread[:, column], fmt=marker, ms=4, color=f"C{j}", capsize=2,
                    markerfacecolor="white" if way == "importance" else f"C{j}",
                    label=f"x = {float(x):g}" if way == "nuts" else None,
                )  # fmt: skip
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(xscale="log", xlabel="width n", title=f"posterior {name} less the GP's")
        axis.set_xticks(widths, [str(n) for n in widths], minor=False)
        axis.minorticks_off()
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def summary(cells: Cells, widths: list[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Estimates and standard errors of each way, ``widths x 6``."""
    weighted = [cells.where(way="importance", width=n)[0] for n in widths]
    chains = [by_chains(cells, n) for n in widths]
    return {
        "nuts": (np.array([e for e, _ in chains]), np.array([s for _, s in chains])),
        "importance": (
            np.array([cell["estimates"] for cell in weighted]),
            np.array([cell["errors"] for cell in weighted]),
        ),
    }


def report(cells: Cells, widths: list[int]) -> dict[str, float]:
    found, limit = summary(cells, widths), gaussian_process()
    (mine, mine_errors), (theirs, their_errors) = found.values()
    z = (mine - theirs) / np.hypot(mine_errors, their_errors)
    rows = [
        [
            f"n = {n}, {label}",
            f"{mine[i, j]:.4f} ± {mine_errors[i, j]:.4f}",
            f"{theirs[i, j]:.4f} ± {their_errors[i, j]:.4f}",
            f"{z[i, j]:+.2f}",
            f"{limit[j]:.4f}",
        ]
        for i, n in enumerate(widths)
        for j, label in enumerate(LABELS)
    ]
    headings = ["", "chains", "importance sampling", "z", "Gaussian process"]
    print_table("posterior of the function", headings, rows)
    largest = float(np.abs(z).max())
    freedom = min(len(cells.where(way="nuts", width=n)) for n in widths) - 1
    p = min(1.0, z.size * 2 * float(student.sf(largest, freedom)))
    print(f"largest |z| of {z.size}: {largest:.2f}, p (Student, Bonferroni) {p:.3f}")
    result = {"p": p}
    for way, (estimates, errors) in found.items():
        value, error = slope(widths, estimates - limit, errors)
        print(f"slope of the error in the width, {way}: {value:.2f} ± {error:.2f}")
        result[f"slope, {way}"] = value
    return result


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = parser_of(__doc__, resumes=True)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32, 64])
    options = parser.parse_args(arguments)
    draws, warmup, chains, depth = DRAWS, WARMUP, CHAINS, TREE_DEPTH
    if options.quick:
        options.widths, chains, warmup, depth = [2, 4], 2, 20, 3
        draws = {"nuts": 20, "importance": 5000}
    cells = Cells(output(options, "finite_posterior"), ["way", "width", "chain"])
    todo = [("importance", n, 0) for n in options.widths]
    todo += [("nuts", n, chain) for chain in range(chains) for n in options.widths]

    def measure(way: str, width: int, chain: int) -> Cell:
        if way == "nuts":
            return nuts(width, chain, draws[way], warmup, depth)
        return importance(width, draws[way])

    fill(cells, todo, measure, options.seconds)
    done = [n for n in options.widths if len(cells.where(way="nuts", width=n)) > 1]
    if not options.quick:
        draw(done, summary(cells, done), IMAGES / "finite_posterior.png")
    return report(cells, done)


if __name__ == "__main__":
    main()
