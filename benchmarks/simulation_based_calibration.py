"""Do the chains draw from the posterior? Simulation-based calibration (Talts et al. 2018).

    python benchmarks/simulation_based_calibration.py [--sets 100]
    python benchmarks/simulation_based_calibration.py --quick

Hyperparameters are drawn from their priors, data from the model, and a chain from the posterior.
If the chain is right, the rank of each true value among the draws is uniform, and so is that of any
function of parameters and data: here the log likelihood (Modrak et al. 2023), which shows errors
that single parameters hide. Ranks are counted in bins and tested by chi-square. Writes
docs/images/calibration_ranks.png.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyro
import torch
from harness import IMAGES, Cell, Cells, fill, output, parser_of, print_table, subplots
from scipy.stats import chi2, chisquare

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import GPRegression, run_nuts
from resnet_gp.bayes.chain import seeded
from resnet_gp.threads import torch_threads

ROWS, D = 20, 2
DRAWS, BINS = 31, 16  # ranks are 0 ... 31: two in each bin
THIN, WARMUP = 3, 200
LIKELIHOOD = "log likelihood"


def model_of(x: torch.Tensor, y: torch.Tensor) -> GPRegression:
    return GPRegression(x, y, ResNetLimitKernel(input_bias=True, ard_num_dims=x.shape[1]))


def simulate(seed: int) -> tuple[GPRegression, dict[str, torch.Tensor]]:
    """A model of simulated data, and the hyperparameters that simulated them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, D, dtype=torch.float64, generator=generator)
    with seeded(seed), torch.no_grad():
        prior = pyro.poutine.uncondition(model_of(x, x[:, 0]))
        nodes = pyro.poutine.trace(prior).get_trace().nodes
    truth = {
        name: node["value"]
        for name, node in nodes.items()
        if node["type"] == "sample" and name != "y"
    }
    return model_of(x, nodes["y"]["value"]), truth


@torch_threads(1)
def ranks(
    seed: int, draws: int = DRAWS, thin: int = THIN, warmup: int = WARMUP, max_tree_depth: int = 10
) -> Cell:
    """Ranks of the true values among the draws."""
    model, truth = simulate(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run_nuts(
            model, num_chains=1, num_draws=draws * thin, num_warmup=warmup, seed=seed,
            max_tree_depth=max_tree_depth, verbose=False,
        )  # fmt: skip
    pooled = {name: values[thin - 1 :: thin] for name, values in found.pooled().items()}
    cell: Cell = {"seed": seed, "divergences": found.num_divergences, "draws": draws}
    for name, true in truth.items():
        below = (pooled[name] < true).sum(0).reshape(-1).tolist()
        short = name.rpartition(".")[2]
        cell |= {f"{short} {i}" if len(below) > 1 else short: v for i, v in enumerate(below)}
    with torch.no_grad():
        likelihoods = [
            model.at({name: values[i] for name, values in pooled.items()}).log_marginal_likelihood()
            for i in range(draws)
        ]
        true = model.at(truth).log_marginal_likelihood()
    cell[LIKELIHOOD] = int((torch.stack(likelihoods) < true).sum())
    return cell


def names_of(cells: Cells) -> list[str]:
    return [name for name in cells.all[0] if name not in ("seed", "divergences", "draws")]


def histogram(values: np.ndarray, draws: int, bins: int) -> np.ndarray:
    return np.histogram(values, bins, (-0.5, draws + 0.5))[0]


def tests(cells: Cells, draws: int, bins: int) -> dict[str, float]:
    """The p-value of each name's ranks and, by Bonferroni, of all."""
    found = {
        name: float(chisquare(histogram(cells.values(name), draws, bins)).pvalue)
        for name in names_of(cells)
    }
    return found | {"all": min(1.0, len(found) * min(found.values()))}


def draw(cells: Cells, path: Path) -> None:
    names, expected = names_of(cells), len(cells.all) / BINS
    figure, axes = subplots((10, 4.5), 2, 3)
    low, high = chi2.ppf([0.025, 0.975], 2 * expected) / 2  # of a Poisson count, nearly
    for axis, name in zip(axes.flat, names, strict=True):
        axis.axhspan(low, high, color="0.9")
        axis.bar(range(BINS), histogram(cells.values(name), DRAWS, BINS), width=0.9)
        axis.set(title=name.replace("_", " "), xlabel="bin of the rank", ylabel="simulations")
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = parser_of(__doc__, resumes=True)
    parser.add_argument("--sets", type=int, default=100, help="simulations")
    options = parser.parse_args(arguments)
    draws, bins, settings = DRAWS, BINS, {}
    if options.quick:
        options.sets, draws, bins = 2, 7, 2
        settings = {"draws": draws, "thin": 1, "warmup": 20, "max_tree_depth": 3}
    cells = Cells(output(options, "simulation_based_calibration"), ["seed"])
    todo = [(seed,) for seed in range(options.sets)]
    fill(cells, todo, lambda seed: ranks(seed, **settings), options.seconds)
    found = tests(cells, draws, bins)
    print_table(
        f"ranks of {len(cells.all)} simulations in {bins} bins, "
        f"{int(cells.values('divergences').sum())} divergences",
        ["", "p of chi-square", "counts"],
        [
            [name, f"{p:.3f}", "" if name == "all" else histogram(
                cells.values(name), draws, bins)]
            for name, p in found.items()
        ],
    )  # fmt: skip
    if not options.quick:
        draw(cells, IMAGES / "calibration_ranks.png")
    return found


if __name__ == "__main__":
    main()
