# %% [markdown]
# # Thompson sampling with sample paths
#
# Each iteration draws one function from the posterior, finds its maximum by gradient from many
# starts, and evaluates the objective there. A draw is a function (`resnet_gp.models.pathwise`),
# so its maximum is not tied to a grid. The objective is simulated: Branin's function, negated, on
# the unit square, with noise. Regret is the maximum less the best value so far.
#
#     python examples/thompson_sampling.py [--quick]

# %%
from __future__ import annotations

import argparse
import math

import torch
from scipy.optimize import minimize
from torch import Tensor

from resnet_gp import ResNetLimitKernel
from resnet_gp.fitting import get_raw, maximise
from resnet_gp.models import ExactRegression, PosteriorPaths, draw_posterior

MAXIMUM = -0.397887  # of the negated Branin function
NOISE = 0.1  # standard deviation
BOUNDS = {  # of the logarithms
    "likelihood.noise_covar.raw_noise": (math.log(1e-6), 0.0),
    "covar_module.raw_outputscale": (math.log(1e-4), math.log(1e4)),
    "covar_module.base_kernel.raw_lengthscale": (math.log(0.05), math.log(20)),
    "covar_module.base_kernel.raw_weight_variance": (math.log(1e-2), math.log(1e3)),
}


# %%
def objective(x: Tensor) -> Tensor:
    """The negated Branin function on the unit square, `n x 2` to `n`."""
    a, b = 15 * x[..., 0] - 5, 15 * x[..., 1]
    valley = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return -(valley**2 + 10 * (1 - 1 / (8 * math.pi)) * a.cos() + 10)


# %% [markdown]
# The model sees standardised targets and inputs in [-1, 1]. The output scale replaces the
# growth of the variance with depth, and the input bias keeps the variance from vanishing at 0.


# %%
def fitted_model(x: Tensor, y: Tensor) -> ExactRegression:
    kernel = ResNetLimitKernel(input_bias=True, variance="no_growth", ard_num_dims=2)
    model = ExactRegression(2 * x - 1, (y - y.mean()) / y.std(), kernel)
    kernel.raw_input_bias_variance.requires_grad_(False)  # confounded with the lengthscales
    kernel.weight_variance = 5.0
    maximise(model.log_marginal_likelihood, model, BOUNDS, [get_raw(model)])
    return model


# %% [markdown]
# The sum over all starts has the gradient of each value, so one run optimises all of them.


# %%
def maximiser(paths: PosteriorPaths, generator: torch.Generator, num_starts: int) -> Tensor:
    """The best point of the unit square that L-BFGS-B finds for one path, of shape `2`."""
    candidates = torch.rand(50 * num_starts, 2, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        start = candidates[paths(2 * candidates - 1)[0].topk(num_starts).indices]

    def negative(flat):
        x = torch.from_numpy(flat).reshape(-1, 2).requires_grad_()
        value = -paths(2 * x - 1).sum()
        (gradient,) = torch.autograd.grad(value, x)
        return value.item(), gradient.numpy().ravel()

    box = [(0.0, 1.0)] * start.numel()
    found = minimize(negative, start.numpy().ravel(), jac=True, method="L-BFGS-B", bounds=box)
    ends = torch.from_numpy(found.x).reshape(-1, 2)
    with torch.no_grad():
        return ends[paths(2 * ends - 1)[0].argmax()]


# %%
def thompson_sampling(seed: int, initial: int, iterations: int, num_features: int) -> list[float]:
    """Regret of the best point so far (without its noise) after each iteration."""
    generator = torch.Generator().manual_seed(seed)

    def noise(count: int) -> Tensor:
        return NOISE * torch.randn(count, dtype=torch.float64, generator=generator)

    x = torch.rand(initial, 2, dtype=torch.float64, generator=generator)
    y = objective(x) + noise(initial)
    regrets = []
    for _ in range(iterations):
        model = fitted_model(x, y)
        paths = draw_posterior(model, num_features=num_features, generator=generator)
        new = maximiser(paths, generator, num_starts=8)[None]
        x, y = torch.cat([x, new]), torch.cat([y, objective(new) + noise(1)])
        regrets.append(MAXIMUM - objective(x).max().item())
    return regrets


# %%
def main(arguments: list[str] | None = None) -> list[list[float]]:
    parser = argparse.ArgumentParser(description="Thompson sampling with sample paths")
    parser.add_argument("--quick", action="store_true", help="two short runs")
    quick = parser.parse_args(arguments).quick
    runs, iterations, num_features = (2, 3, 256) if quick else (10, 30, 1024)
    regrets = [thompson_sampling(seed, 8, iterations, num_features) for seed in range(runs)]
    print(f"regret of the best point so far, over {runs} runs\niteration   median    worst")
    for step in range(0, iterations, 1 if quick else 3):
        at_step = torch.tensor([run[step] for run in regrets])
        print(f"{step + 1:9d} {at_step.median():8.4f} {at_step.max():8.4f}")
    return regrets


# %%
if __name__ == "__main__":
    main()
