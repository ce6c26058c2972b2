# %% [markdown]
# # Bayesian optimisation with BoTorch
#
# Hartmann's function of six variables: twelve points to begin with, then one at a time, each the
# maximum of the log expected improvement. The model is BoTorch's `SingleTaskGP`, with one of two
# covariance modules: BoTorch's default (RBF with priors for the dimension), or the infinite
# ResNet's, centred and with priors. Regret is the maximum, 3.322, less the best value so far.
#
# The bare `ResNetLimitKernel` would not do: its variance grows from the origin, and the expected
# improvement sends it from one of the 64 corners to the next. The covariance module made for
# BoTorch has the same variance everywhere (`variance="unit"`). The last line shows what share of
# the new coordinates is on faces of the cube; Hartmann's maximum is inside.
#
#     python examples/bayesian_optimisation.py [--quick] [--seeds N] [--figure FILE]
#
# Importing BoTorch changes settings of GPyTorch for the whole process.

# %%
from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.test_functions import Hartmann
from botorch.utils.sampling import draw_sobol_samples
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from resnet_gp.models.botorch import get_covar_module_with_resnet_prior

OBJECTIVE = Hartmann(dim=6, negate=True)
BOUNDS = torch.stack([torch.zeros(6), torch.ones(6)]).double()
INITIAL = 12
KERNELS = ("BoTorch's default", "ResNet limit")


# %%
def fitted_model(kernel: str, x: Tensor, y: Tensor) -> SingleTaskGP:
    """Fit a model to inputs `n x 6` in the unit cube and targets `n`, which it standardises."""
    ours = kernel == "ResNet limit"
    covar_module = get_covar_module_with_resnet_prior(ard_num_dims=6) if ours else None
    model = SingleTaskGP(x, y[:, None], covar_module=covar_module)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def next_point(model: SingleTaskGP, best: Tensor, raw_samples: int) -> Tensor:
    """The point of the largest expected improvement, `1 x 6`."""
    acquisition = LogExpectedImprovement(model, best_f=best)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # starts without any expected improvement
        point, _ = optimize_acqf(
            acquisition, BOUNDS, q=1, num_restarts=4, raw_samples=raw_samples,
            options={"maxiter": 60},
        )  # fmt: skip
    return point


# %%
def regrets(x: Tensor) -> list[float]:
    """Regret of the best point so far, from the last initial point on."""
    best = OBJECTIVE(x).cummax(0).values[INITIAL - 1 :]
    return (OBJECTIVE.optimal_value - best).tolist()


def sobol(number: int, seed: int) -> Tensor:
    """Sobol points, `number x 6`; a smaller number gives the first of the same points."""
    return draw_sobol_samples(BOUNDS, number, 1, seed=seed).squeeze(1)


def optimise(kernel: str, seed: int, iterations: int, raw_samples: int) -> Tensor:
    """All evaluated points, `(INITIAL + iterations) x 6`."""
    torch.manual_seed(seed)
    x = sobol(INITIAL, seed)
    for _ in range(iterations):
        y = OBJECTIVE(x)
        model = fitted_model(kernel, x, y)
        x = torch.cat([x, next_point(model, y.max(), raw_samples)])
    return x


# %%
def draw(path: Path, found: dict[str, list[list[float]]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for colour, (name, runs) in zip(("0.6", "#d1495b", "#0b5fa5"), found.items(), strict=True):
        for k, run in enumerate(runs):
            axis.plot(run, color=colour, lw=1.3, label=None if k else name)
    axis.set(xlabel="iteration", ylabel="regret of the best point so far", yscale="log")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=90)


# %%
def main(arguments: list[str] | None = None) -> dict[str, list[list[float]]]:
    parser = argparse.ArgumentParser(description="Bayesian optimisation with BoTorch")
    parser.add_argument("--quick", action="store_true", help="one short run")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kernel")
    parser.add_argument("--figure", type=Path, help="where to draw the regrets")
    options = parser.parse_args(arguments)
    seeds, iterations, raw_samples = (1, 4, 32) if options.quick else (options.seeds, 15, 64)
    points = {"Sobol points": [sobol(INITIAL + iterations, seed) for seed in range(seeds)]}
    for kernel in KERNELS:
        points[kernel] = [optimise(kernel, seed, iterations, raw_samples) for seed in range(seeds)]
    found = {name: [regrets(x) for x in runs] for name, runs in points.items()}
    print("regret of each run\niteration " + "  ".join(f"{name:>18s}" for name in found))
    for step in range(0, iterations + 1, 1 if options.quick else 3):
        at_step = [" ".join(f"{run[step]:.3f}" for run in runs) for runs in found.values()]
        print(f"{step:9d} " + "  ".join(f"{text:>18s}" for text in at_step))
    new = {name: torch.cat([x[INITIAL:] for x in runs]) for name, runs in points.items()}
    faces = [f"{((x < 1e-3) | (x > 1 - 1e-3)).double().mean():.0%}" for x in new.values()]
    print("on faces  " + "  ".join(f"{text:>18s}" for text in faces))
    if options.figure:
        draw(options.figure, found)
    return found


# %%
if __name__ == "__main__":
    main()
