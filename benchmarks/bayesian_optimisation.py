"""How fast do kernels find a maximum? Bayesian optimisation through BoTorch.

    python benchmarks/bayesian_optimisation.py [--problems shekel4 levy8] [--kernels ours matern]
    python benchmarks/bayesian_optimisation.py --quick

Compares BoTorch's SingleTaskGP with our covariance module; with BoTorch's own ARD kernels and their
dimension-scaled priors, "rbf", its default, and "matern"; with its InfiniteWidthBNNKernel of depth
3 and an output scale, "ibnn"; and with its model of sparse axes, "saas" (Eriksson & Jankowiak
2021), as an ensemble of four posterior modes: draws by NUTS take half a minute for each step.
Thirty steps after 2 d + 2 Sobol points (at most 24), ten seeds; log expected improvement, its noisy
form where there is noise.

The problems are twelve of BoTorch's synthetic functions in 2 to 20 dimensions, two of them with
noise of a twentieth of their deviation over the cube. Maxima at the centre of the cube, where our
kernel has its origin, are moved away from it. None was used when our module was made: that was done
on Hartmann's function of six variables, Ackley's of ten and Branin's.

Regret is the maximum less the best noiseless value of a point so far, in deviations of the function
over the cube. Prints medians and quartiles over seeds, and mean ranks of the mean regret of each
problem, with Friedman's p. Draws docs/images/bayesian_optimisation.png.
"""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gpytorch
import numpy as np
import torch
from botorch import test_functions
from botorch.acquisition import LogExpectedImprovement
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels import InfiniteWidthBNNKernel
from botorch.models.map_saas import EnsembleMapSaasSingleTaskGP
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.optim import optimize_acqf
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from harness import IMAGES, Cell, Cells, fill, output, parser_of, print_table, subplots
from ranks import friedman, mean_ranks
from torch import Tensor

from resnet_gp.models.botorch import get_covar_module_with_resnet_prior

STEPS, SEEDS, SHOWN = 30, 10, (10, 20, 30)
NOISE = 0.05  # deviations of the function
_FIXED = ("SixHumpCamel", "DropWave", "Shekel")  # in their dimensions
_SAMPLE = 2**14  # points from which the deviation of a function is computed


class Problem(NamedTuple):
    """A function on the unit cube, to be maximised.

    Attributes:
        name: of BoTorch's class.
        d: dimensions.
        bounds: of every input, in place of the function's own.
        noisy: whether observations have noise.
    """

    name: str
    d: int
    bounds: tuple[float, float] | None = None
    noisy: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Noiseless values, ``n``, at ``n x d`` points of the unit cube."""
        low, high = self.function.bounds
        values: Tensor = -self.function.evaluate_true(low + (high - low) * x)
        return values

    @property
    def maximum(self) -> float:
        return -float(self.function.optimal_value)

    @property
    def function(self) -> Any:
        return _function(self)

    @property
    def deviation(self) -> float:
        return _deviation(self)


@functools.cache
def _function(problem: Problem) -> Any:
    new = getattr(test_functions, problem.name)
    options: dict[str, Any] = {"dtype": torch.float64}
    if problem.bounds is not None:
        options["bounds"] = [problem.bounds] * problem.d
    if problem.name not in _FIXED:
        options["dim"] = problem.d
    return new(**options)


@functools.cache
def _deviation(problem: Problem) -> float:
    x = torch.quasirandom.SobolEngine(problem.d, scramble=True, seed=0).draw(_SAMPLE)
    return float(problem(x.double()).std())


PROBLEMS = {
    "camel2": Problem("SixHumpCamel", 2),
    "dropwave2": Problem("DropWave", 2, (-3.0, 7.0)),
    "hartmann3": Problem("Hartmann", 3),
    "shekel4": Problem("Shekel", 4),
    "michalewicz5": Problem("Michalewicz", 5),
    "griewank6, noise": Problem("Griewank", 6, (-4.0, 9.0), noisy=True),
    "rosenbrock6": Problem("Rosenbrock", 6, (-2.0, 3.0)),
    "powell8, noise": Problem("Powell", 8, noisy=True),
    "levy8": Problem("Levy", 8),
    "styblinski10": Problem("StyblinskiTang", 10),
    "rastrigin12": Problem("Rastrigin", 12, (-2.0, 4.0)),
    "ackley20": Problem("Ackley", 20, (-10.0, 22.0)),
}


def ours(d: int) -> Kernel:
    return get_covar_module_with_resnet_prior(ard_num_dims=d)


def infinite_width_bnn(d: int) -> Kernel:
    return ScaleKernel(InfiniteWidthBNNKernel(depth=3))


def matern(d: int) -> Kernel:
    return get_covar_module_with_dim_scaled_prior(ard_num_dims=d, use_rbf_kernel=False)


def rbf(d: int) -> Kernel:
    return get_covar_module_with_dim_scaled_prior(ard_num_dims=d)


KERNELS: dict[str, Callable[[int], Kernel]] = {
    "ours": ours,
    "matern": matern,
    "rbf": rbf,
    "ibnn": infinite_width_bnn,
}
SAAS = "saas"
MODELS = (*KERNELS, SAAS)
USUAL = [model for model in MODELS if model != "ibnn"]  # it searches corners


def fitted(x: Tensor, y: Tensor, model: str) -> Any:
    """A fitted model of ``n x d`` points and ``n`` values, which it standardises."""
    if model == SAAS:
        own = EnsembleMapSaasSingleTaskGP(x, y[:, None])
    else:
        own = SingleTaskGP(x, y[:, None], covar_module=KERNELS[model](x.shape[1]).double())
    fit_gpytorch_mll(ExactMarginalLogLikelihood(own.likelihood, own))
    return own


def step(x: Tensor, y: Tensor, model: str, noisy: bool) -> Tensor:
    """The next point to evaluate, ``1 x d``."""
    own = fitted(x, y, model)
    if noisy:
        acquisition: Any = qLogNoisyExpectedImprovement(own, x, prune_baseline=True)
    else:
        acquisition = LogExpectedImprovement(own, y.max())
    cube = torch.stack([torch.zeros(x.shape[1]), torch.ones(x.shape[1])]).to(x)
    point, _ = optimize_acqf(acquisition, cube, q=1, num_restarts=4, raw_samples=128)
    return point


def run(name: str, model: str, seed: int, steps: int = STEPS) -> Cell:
    """Run one seed and return the regret of the best point after 0, 1, ... steps."""
    problem = PROBLEMS[name]
    torch.manual_seed(seed)
    count = min(2 * problem.d + 2, 24)
    x = torch.quasirandom.SobolEngine(problem.d, scramble=True, seed=seed).draw(count).double()
    errors = torch.Generator().manual_seed(seed)
    spread = NOISE * problem.deviation if problem.noisy else 0.0

    def observed(points: Tensor) -> Tensor:
        noise = torch.randn(len(points), generator=errors, dtype=torch.float64)
        return problem(points) + spread * noise

    y, start, failures = observed(x), time.process_time(), 0
    best = [float(problem(x).max())]
    for _ in range(steps):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                new = step(x, y, model, problem.noisy)
            except (RuntimeError, gpytorch.utils.errors.NotPSDError):
                new, failures = torch.rand(1, problem.d, dtype=torch.float64), failures + 1
        x, y = torch.cat([x, new]), torch.cat([y, observed(new)])
        best.append(max(best[-1], float(problem(new))))
    regrets = [(problem.maximum - value) / problem.deviation for value in best]
    return {
        "problem": name, "kernel": model, "seed": seed, "regrets": regrets,
        "failures": failures, "seconds": time.process_time() - start,
    }  # fmt: skip


def regrets_of(cells: Cells, problem: str, model: str, seeds: set[int] | None = None) -> np.ndarray:
    """Regrets of all runs, or of these seeds, ``seeds x (steps + 1)``."""
    own = cells.where(problem=problem, kernel=model)
    return np.array([one["regrets"] for one in own if seeds is None or one["seed"] in seeds])


def final_means(cells: Cells, models: list[str]) -> tuple[list[str], np.ndarray]:
    """Names of the problems that all models have run, and mean last regrets over common seeds."""
    names, rows = [], []
    for problem in dict.fromkeys(one["problem"] for one in cells.all):
        done = [{c["seed"] for c in cells.where(problem=problem, kernel=m)} for m in models]
        if shared := set.intersection(*done):
            names.append(problem)
            rows.append([regrets_of(cells, problem, m, shared)[:, -1].mean() for m in models])
    return names, np.array(rows)


def report(cells: Cells, shown: tuple[int, ...]) -> None:
    models = [m for m in MODELS if cells.where(kernel=m)]
    for problem in dict.fromkeys(one["problem"] for one in cells.all):
        rows = []
        for model in models:
            own = cells.where(problem=problem, kernel=model)
            if own:
                quartiles = np.quantile(
                    regrets_of(cells, problem, model)[:, list(shown)], [0.25, 0.5, 0.75], axis=0
                ).T
                texts = (f"{q[1]:.3g} ({q[0]:.3g} to {q[2]:.3g})" for q in quartiles)
                seconds = np.mean([cell["seconds"] for cell in own])
                failures = sum(cell["failures"] for cell in own)
                rows.append([model, len(own), *texts, f"{seconds:.0f}", failures])
        headings = ["", "seeds", *(f"after {k}" for k in shown), "seconds", "failures"]
        print_table(f"{problem}: regret, median (quartiles)", headings, rows)
    names, means = final_means(cells, models)
    if len(names) > 1:
        row = [*(f"{rank:.2f}" for rank in mean_ranks(means)), f"{friedman(means):.2g}"]
        title = f"mean rank of the last regret, {len(names)} problems"
        print_table(title, [*models, "Friedman's p"], [row])


def draw(cells: Cells) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    problems = list(dict.fromkeys(one["problem"] for one in cells.all))
    rows = math.ceil(len(problems) / 4)
    figure, axes = subplots((11, 2.6 * rows), rows, 4, squeeze=False)
    for axis, problem in zip(axes.flat, problems, strict=False):
        for model in MODELS:
            regrets = regrets_of(cells, problem, model)
            if len(regrets):
                low, middle, high = np.quantile(regrets, [0.25, 0.5, 0.75], axis=0)
                (line,) = axis.plot(middle, label=model)
                axis.fill_between(range(len(low)), low, high, alpha=0.2, color=line.get_color())
        axis.set(title=problem, xlabel="step", ylabel="regret", yscale="log")
        axis.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
        axis.yaxis.set(minor_locator=NullLocator())
    for axis in axes.flat[len(problems) :]:
        axis.axis("off")
    axes[0, 0].legend(frameon=False)
    figure.savefig(IMAGES / "bayesian_optimisation.png", dpi=110)


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, resumes=True)
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--kernels", nargs="+", choices=MODELS, default=USUAL)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    steps, shown = STEPS, SHOWN
    if options.quick:
        options.problems, options.seeds, steps, shown = ["levy8"], 1, 2, (1, 2)
    cells = Cells(output(options, "bayesian_optimisation"), ["problem", "kernel", "seed"])
    todo = [
        (problem, kernel, seed)
        for seed in range(options.seeds)
        for problem in options.problems
        for kernel in options.kernels
    ]
    fill(cells, todo, lambda *work: run(*work, steps), options.seconds)
    report(cells, shown)
    if not options.quick:
        draw(cells)
    return cells


if __name__ == "__main__":
    main()
