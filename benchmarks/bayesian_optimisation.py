"""How fast do kernels find a maximum? Bayesian optimisation through BoTorch.

    python benchmarks/bayesian_optimisation.py [--problems hartmann6 ackley10 hartmann6-in-50]
    python benchmarks/bayesian_optimisation.py --quick

Compares SingleTaskGP with our covariance module, with BoTorch's InfiniteWidthBNNKernel of depth 3
and an output scale, and with BoTorch's ARD Matern-5/2 kernel and its dimension-scaled prior. Log
expected improvement, 30 steps after 2 d + 2 Sobol points (at most 24), five seeds. The problems are
noiseless; in the 50-dimensional one, 44 variables have no effect. Prints the regret of the best
point after 10, 20 and 30 steps, median and quartiles over seeds. Draws
docs/images/bayesian_optimisation.png.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import gpytorch
import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels import InfiniteWidthBNNKernel
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.optim import optimize_acqf
from botorch.test_functions import Ackley, Hartmann
from gpytorch.kernels import Kernel, MaternKernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from harness import IMAGES, Cell, Cells, fill, output, parser_of, print_table, subplots
from torch import Tensor

from resnet_gp.models.botorch import get_covar_module_with_resnet_prior

STEPS, SEEDS, SHOWN = 30, 5, (10, 20, 30)


def hartmann(x: Tensor) -> Tensor:
    return -Hartmann(6).evaluate_true(x[..., :6])


def ackley(x: Tensor) -> Tensor:
    """Ackley's function on a cube of the usual size, its maximum 0 moved off the centre."""
    return -Ackley(10, bounds=[(-50.0, 50.0)] * 10).evaluate_true(65.536 * (x - 0.37))


#: Dimensions, maximum and function on the unit cube, to be maximised.
PROBLEMS: dict[str, tuple[int, float, Callable[[Tensor], Tensor]]] = {
    "hartmann6": (6, 3.32237, hartmann),
    "ackley10": (10, 0.0, ackley),
    "hartmann6-in-50": (50, 3.32237, hartmann),
}


def ours(d: int) -> Kernel:
    return get_covar_module_with_resnet_prior(ard_num_dims=d)


def infinite_width_bnn(d: int) -> Kernel:
    return ScaleKernel(InfiniteWidthBNNKernel(depth=3))


def matern(d: int) -> Kernel:
    kernel = get_covar_module_with_dim_scaled_prior(ard_num_dims=d, use_rbf_kernel=False)
    assert isinstance(kernel, MaternKernel)
    return kernel


KERNELS: dict[str, Callable[[int], Kernel]] = {
    "ours": ours,
    "InfiniteWidthBNN": infinite_width_bnn,
    "Matern": matern,
}


def step(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """The next point to evaluate, ``1 x d``."""
    model = SingleTaskGP(x, y[:, None], covar_module=kernel)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    acquisition = LogExpectedImprovement(model, y.max())
    cube = torch.stack([torch.zeros(x.shape[1]), torch.ones(x.shape[1])]).to(x)
    point, _ = optimize_acqf(acquisition, cube, q=1, num_restarts=4, raw_samples=128)
    return point


def run(problem: str, kernel: str, seed: int, steps: int = STEPS) -> Cell:
    """Run one seed and return the regret of the best point after 0, 1, ... steps."""
    d, maximum, function = PROBLEMS[problem]
    torch.manual_seed(seed)
    count = min(2 * d + 2, 24)
    x = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed).draw(count).double()
    y, start, failures = function(x), time.perf_counter(), 0
    regrets = [maximum - float(y.max())]
    for _ in range(steps):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                new = step(x, y, KERNELS[kernel](d).double())
            except (RuntimeError, gpytorch.utils.errors.NotPSDError):
                new, failures = torch.rand(1, d, dtype=torch.float64), failures + 1
        x, y = torch.cat([x, new]), torch.cat([y, function(new)])
        regrets.append(maximum - float(y.max()))
    return {
        "problem": problem, "kernel": kernel, "seed": seed, "regrets": regrets,
        "failures": failures, "seconds": time.perf_counter() - start,
    }  # fmt: skip


def report(cells: Cells, problems: list[str], shown: tuple[int, ...]) -> None:
    for problem in problems:
        rows = []
        for kernel in KERNELS:
            own = cells.where(problem=problem, kernel=kernel)
            if own:
                regrets = np.array([cell["regrets"] for cell in own])[:, list(shown)]
                quartiles = np.quantile(regrets, [0.25, 0.5, 0.75], axis=0).T
                texts = (f"{q[1]:.3g} ({q[0]:.3g} to {q[2]:.3g})" for q in quartiles)
                seconds = np.mean([cell["seconds"] for cell in own])
                failures = sum(cell["failures"] for cell in own)
                rows.append([kernel, len(own), *texts, f"{seconds:.0f}", failures])
        headings = ["", "seeds", *(f"after {k}" for k in shown), "seconds", "failures"]
        print_table(f"{problem}: regret, median (quartiles)", headings, rows)


def draw(cells: Cells, problems: list[str]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = subplots((11, 3.4), 1, len(problems), squeeze=False)
    for axis, problem in zip(axes.flat, problems, strict=True):
        for kernel in KERNELS:
            own = cells.where(problem=problem, kernel=kernel)
            if own:
                low, middle, high = np.quantile(
                    np.array([cell["regrets"] for cell in own]), [0.25, 0.5, 0.75], axis=0
                )
                (line,) = axis.plot(middle, label=kernel)
                axis.fill_between(range(len(low)), low, high, alpha=0.2, color=line.get_color())
        axis.set(title=problem, xlabel="step", ylabel="regret", yscale="log")
        axis.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
        axis.yaxis.set(minor_locator=NullLocator())
    axes[0, 0].legend(frameon=False)
    figure.savefig(IMAGES / "bayesian_optimisation.png", dpi=110)


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, resumes=True)
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    steps, shown = STEPS, SHOWN
    if options.quick:
        options.problems, options.seeds, steps, shown = ["hartmann6"], 1, 2, (1, 2)
    cells = Cells(output(options, "bayesian_optimisation"), ["problem", "kernel", "seed"])
    todo = [
        (problem, kernel, seed)
        for seed in range(options.seeds)
        for problem in options.problems
        for kernel in KERNELS
    ]
    fill(cells, todo, lambda *work: run(*work, steps), options.seconds)
    report(cells, options.problems, shown)
    if not options.quick:
        draw(cells, options.problems)
    return cells


if __name__ == "__main__":
    main()
