"""Are predictions calibrated on data that come from the model itself?

    python benchmarks/calibration.py [--sets 200]
    python benchmarks/calibration.py --quick

Hyperparameters are drawn from the weak priors of the regressor, a function and noisy targets from
the process that they describe, and every combination below is fitted to 60 of the rows: one network
or two weighed against one; hyperparameters at their mode ("map") or averaged over ("laplace");
Gaussian law or residual law; exact inference or 30 nearest neighbours. The cumulative probabilities
(PIT) of 20 further targets of each set are counted in ten bins. Targets of one set depend on each
other, so the shares of the bins are tested for uniformity by Hotelling's T-squared, with one vector
for each set. Prints p-values, and the coverage of 50, 90 and 98 % intervals with standard errors.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from gpytorch.kernels import ScaleKernel
from harness import Cell, Cells, fill, mean_and_error, output, parser_of, print_table
from scipy.stats import f as fisher

from resnet_gp import ResNetGPRegressor, ResNetLimitKernel
from resnet_gp.models.priors import add_weak_priors

ROWS, NEW, D, BINS = 60, 20, 2, 10
LEVELS = (0.5, 0.9, 0.98)
SETTINGS = {
    "one, map, gaussian": {"n_components": 1, "hyperparameters": "map", "residuals": "gaussian"},
    "one, map, student": {"n_components": 1, "hyperparameters": "map"},
    "one, laplace, gaussian": {"n_components": 1, "residuals": "gaussian"},
    "one, laplace, student": {"n_components": 1},
    "auto, laplace, gaussian": {"residuals": "gaussian"},
    "the defaults": {},
    "nearest, gaussian": {"inference": "nearest", "n_neighbors": 30, "residuals": "gaussian"},
    "nearest, student": {"inference": "nearest", "n_neighbors": 30},
}


def simulate(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of one set, and of its new rows behind them."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    kernel = ScaleKernel(
        ResNetLimitKernel(
            input_bias=True, variance="no_growth", contrast=True, ard_num_dims=D
        ).double()
    ).double()
    kernel.base_kernel.get_parameter("raw_input_bias_variance").requires_grad_(False)
    add_weak_priors(kernel)
    with torch.no_grad():
        for _, module, prior, value, set_value in kernel.named_priors():
            set_value(module, prior.expand(value(module).shape).sample().double())
        x = rng.normal(size=(ROWS + NEW, D))
        covariance = kernel(torch.from_numpy(x)).to_dense().numpy()
    noise = 0.05 * math.exp(2 * rng.normal())
    root = np.linalg.cholesky(covariance + noise * np.eye(len(x)))
    return x, root @ rng.normal(size=len(x))


def cells(seed: int) -> list[Cell]:
    (x, y), found = simulate(seed), []
    for name, settings in SETTINGS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = ResNetGPRegressor(**settings, verbose=False).fit(x[:ROWS], y[:ROWS])
        pit = model.predict_law(x[ROWS:]).cdf(y[ROWS:])
        found.append({"seed": seed, "setting": name, "pit": [round(float(p), 6) for p in pit]})
    return found


def uniformity(pits: np.ndarray) -> float:
    """p-value of equal shares in all bins; ``sets x targets``."""
    bins = np.minimum((pits * BINS).astype(int), BINS - 1)
    shares = np.stack([(bins == b).mean(1) for b in range(BINS - 1)], 1)
    n, k = shares.shape
    gap = shares.mean(0) - 1 / BINS
    squared = n * gap @ np.linalg.solve(np.cov(shares.T), gap)
    return float(fisher.sf(squared * (n - k) / (k * (n - 1)), k, n - k))


def summary(done: Cells) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table."""
    rows = []
    for name in SETTINGS:
        pits = np.array([cell["pit"] for cell in done.where(setting=name)])
        if not len(pits):
            continue
        inside = [(np.abs(pits - 0.5) < level / 2).mean(1) for level in LEVELS]
        p = f"{uniformity(pits):.2g}" if len(pits) > BINS + 1 else ""
        shares = [mean_and_error(100 * share, ".1f") for share in inside]
        rows.append([name, str(len(pits)), p, *shares])
    heads = [f"in {100 * level:g} % intervals" for level in LEVELS]
    return ["", "sets", "p, uniform", *heads], rows


def report(done: Cells) -> None:
    print_table("PIT of data from the model", *summary(done))


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, resumes=True)
    parser.add_argument("--sets", type=int, default=200, help="simulated sets")
    options = parser.parse_args(arguments)
    done = Cells(output(options, "calibration"), ["seed", "setting"])
    seeds = range(1 if options.quick else options.sets)
    last = list(SETTINGS)[-1]
    fill(done, [(s,) for s in seeds], cells, options.seconds, lambda seed: (seed, last))
    report(done)
    return done


if __name__ == "__main__":
    main()
