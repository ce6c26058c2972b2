"""What has to work on any device: the list of ``test_devices``.

A case takes a device and returns tensors and arrays. Tensors have to be on that device, and all
numbers have to be those of the CPU, where compiled loops may have computed them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import gpytorch
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from resnet_gp import ResNetGPRegressor, ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.activations import Activation
from resnet_gp.bayes import (
    Draws,
    GPClassification,
    GPRegression,
    SparseGPClassification,
    SparseGPRegression,
    run_nuts,
    run_svi,
)
from resnet_gp.bayes.hyperparameters import current_hyperparameters
from resnet_gp.flow.correlation import flow
from resnet_gp.functions import correlation, kernel_matrix
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.kernels.centred_kernel import CentredKernel
from resnet_gp.mean_ode.experiments import EXPERIMENTS as TRAINING_EXPERIMENTS
from resnet_gp.mean_ode.network import ResidualMLP
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.models import ExactRegression, SparseRegression
from resnet_gp.models.botorch import get_covar_module_with_resnet_prior
from resnet_gp.models.calibration import class_scores
from resnet_gp.models.ensemble import Ensemble, ExactMember
from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.mixture import ExactMixture
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.nearest_classification import NearestClassification
from resnet_gp.models.nearest_member import NearestMember
from resnet_gp.models.pathwise import condition, draw_posterior, draw_prior
from resnet_gp.models.residual_posterior import ResidualPosterior
from resnet_gp.networks import ResNet, Simulation
from resnet_gp.networks.simulation import TangentSimulation, simulate
from resnet_gp.report import session
from resnet_gp.report.checks import judge
from resnet_gp.verification.experiments import EXPERIMENTS
from resnet_gp.verification.observables import gram
from resnet_gp.verification.simulation_lab import SimulationLab

Case: TypeAlias = Callable[[torch.device], Sequence[Any]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def data(device: torch.device, n: int = 30, d: int = 3, outputs: int = 0) -> tuple[Tensor, ...]:
    """Training inputs and targets, and test inputs."""
    x, new = numbers(n, d), numbers(7, d, seed=1)
    y = x[:, 0].sin() + 0.5 * x[:, 1] + 0.1 * numbers(n, seed=2)
    if outputs:
        y = torch.stack([y * (1 + i) for i in range(outputs)], 1)
    return x.to(device), y.to(device), new.to(device)


# Kernels: matrices of one and of two sets of inputs, diagonals, and all gradients.

SOFTPLUS = Activation(torch.nn.functional.softplus, name="softplus")


def of_short_horizon(kernel: ResNetLimitKernel) -> ResNetLimitKernel:
    """With few steps of integration, each of which is slow on a simulated device."""
    kernel.weight_variance = 0.05
    return kernel


KERNELS: dict[str, Callable[[], gpytorch.kernels.Kernel]] = {
    "limit": lambda: ResNetLimitKernel(input_bias=True, ard_num_dims=3),
    "limit, one lengthscale": lambda: ResNetLimitKernel("leaky_relu", negative_slope=0.2),
    "limit, unit, contrast": lambda: ResNetLimitKernel("abs", variance="unit", contrast=True),
    "limit, no growth": lambda: ResNetLimitKernel(variance="no_growth", ard_num_dims=3),
    "limit, active dims": lambda: ResNetLimitKernel(input_bias=True, active_dims=(0, 2)),
    "limit, batch": lambda: ResNetLimitKernel(input_bias=True, batch_shape=torch.Size([2])),
    "depth": lambda: ResNetLimitKernel(depth=20, input_bias=True),
    "depth, batch": lambda: ResNetLimitKernel(depth=5, batch_shape=torch.Size([2])),
    "tangent": lambda: ResNetTangentKernel(input_bias=True),
    "tangent, depth": lambda: ResNetTangentKernel(depth=20, layers="blocks"),
    "sum": lambda: ResNetSumKernel(input_bias=True, variance="no_growth", ard_num_dims=3),
    "sum, contrast": lambda: ResNetSumKernel(
        n_components=3, variance="no_growth", contrast=True, batch_shape=torch.Size([2])
    ),
    "sum, tangent": lambda: ResNetSumKernel(depth=10, kind="tangent"),
    "sum, erf": lambda: ResNetSumKernel("erf", depth=2),
    "centred": lambda: CentredKernel(ResNetLimitKernel(input_bias=True)),
    "scaled": lambda: gpytorch.kernels.ScaleKernel(ResNetLimitKernel(input_bias=True)),
    "botorch": lambda: get_covar_module_with_resnet_prior(3),
    "erf": lambda: ResNetLimitKernel("erf", input_bias=True),
    "erf, batch": lambda: ResNetLimitKernel("erf", batch_shape=torch.Size([2])),
    "gelu, biases": lambda: ResNetLimitKernel("gelu", input_bias=True, block_bias=True),
    "sin": lambda: ResNetLimitKernel("sin", depth=12),
    "tanh": lambda: ResNetLimitKernel("tanh", input_bias=True),
    "silu, depth": lambda: ResNetLimitKernel("silu", depth=12),
    "softplus": lambda: ResNetLimitKernel(SOFTPLUS, depth=2),
    "relu, block bias": lambda: of_short_horizon(ResNetLimitKernel(block_bias=True)),
    "relu, block bias, batch": lambda: ResNetLimitKernel(
        "leaky_relu", depth=4, block_bias=True, batch_shape=torch.Size([2])
    ),
    "gelu, shallow": lambda: ResNetLimitKernel("gelu", depth=3, block_bias=True),
}  # fmt: skip


def kernel_case(make: Callable[[], gpytorch.kernels.Kernel], device: torch.device) -> list[Tensor]:
    kernel = make().double().to(device)
    x, _, new = data(device, 8)
    x, new = x.requires_grad_(), new[:5].requires_grad_()
    square, cross = kernel(x).to_dense(), kernel(x, new).to_dense()
    diagonal, pairs = kernel(x, diag=True), kernel(x[:5], new, diag=True)
    total = sum((part * part.cos()).sum() for part in (square, cross, diagonal, pairs))
    leaves = [x, new, *(p for p in kernel.parameters() if p.requires_grad)]
    return [square, cross, diagonal, pairs, *torch.autograd.grad(total, leaves)]


CASES |= {f"kernel: {name}": functools.partial(kernel_case, make) for name, make in KERNELS.items()}


@case
def second_derivatives(device: torch.device) -> list[Tensor]:
    kernel = ResNetLimitKernel(input_bias=True).double().to(device)
    x, _, new = data(device, 5)
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(kernel(x, new).to_dense().sum(), x, create_graph=True)
    return list(torch.autograd.grad(slope.square().sum(), [x, *kernel.parameters()]))


@case
def torch_func(device: torch.device) -> list[Tensor]:
    kernel = ResNetLimitKernel(input_bias=True).double().to(device)
    x, _, new = data(device, 5)

    def covariances(point: Tensor) -> Tensor:
        return kernel.forward(point[None], new)[0]

    return [torch.func.vmap(covariances)(x), torch.func.jacrev(covariances)(x[0])]


@case
def near_and_null_inputs(device: torch.device) -> list[Tensor]:
    x = data(device, 6)[0]
    x = torch.cat([x, x * (1 + 1e-9), -x, 0 * x[:1]]).requires_grad_()
    kernel = ResNetLimitKernel(contrast=True).double().to(device)
    matrix = kernel(x, x.detach().clone()).to_dense()
    return [matrix, *torch.autograd.grad(matrix.square().sum(), [x, *kernel.parameters()])]


@case
def half_precision(device: torch.device) -> list[Tensor]:
    x = data(device, 6)[0]
    kernel = ResNetLimitKernel(input_bias=True).to(device)
    half, single = kernel.half()(x.half()).to_dense(), kernel.float()(x.float()).to_dense()
    return [half.dtype == torch.float16, (half - single).abs().max() < 0.05, single]


@case
def setting_hyperparameters(device: torch.device) -> list[Tensor]:
    kernel = ResNetLimitKernel(input_bias=True, ard_num_dims=3).double().to(device)
    kernel.weight_variance = 3.0
    kernel.lengthscale = torch.tensor([0.5, 1.0, 2.0])
    kernel.input_bias_variance = torch.tensor(0.1, device=device)
    return [kernel.weight_variance, kernel.lengthscale, kernel.input_bias_variance, kernel.horizon]


@case
def functions(device: torch.device) -> list[Tensor]:
    x, _, new = data(device)
    c = torch.linspace(-1, 1, 9, dtype=torch.float64, device=device)
    horizons = torch.tensor([0.1, 1.0, 50.0], dtype=torch.float64)[:, None]
    return [
        correlation(c, 2.0),
        correlation(c, horizons),
        flow(1 - c, horizons.to(device)),
        kernel_matrix(x, new, weight_variance=2.0, lengthscale=[0.5, 1.0, 2.0]),
        kernel_matrix(x[0], new, depth=7, input_bias_variance=0.3),
    ]


# Models and their posteriors.


def of_posterior(posterior: Any, new: Tensor, leave_one_out: bool = True) -> list[Any]:
    law, latent = posterior.law(new), posterior.law(new, observation_noise=False)
    found = [
        posterior.mean(new),
        *posterior.mean_and_variance(new),
        *posterior.mean_and_covariance(new),
        *posterior.joint(new),
        law.mean, law.std, law.quantile([0.1, 0.9]), latent.std,
        posterior.log_marginal_likelihood(),
        *(value.double().to(new) for value in posterior.tensors().values()),
    ]  # fmt: skip
    if leave_one_out:
        found += [*posterior.leave_one_out(), *posterior.leave_one_out(observation_noise=False)]
        found.append(posterior.leave_one_out_law().std)
    return found


def likelihood_and_gradient(model: Any) -> list[Tensor]:
    value = model.log_marginal_likelihood()
    learned = [p for p in model.parameters() if p.requires_grad]
    return [value, *torch.autograd.grad(value, learned, allow_unused=True)]


def limit(d: int = 3) -> ResNetLimitKernel:
    return ResNetLimitKernel(input_bias=True, ard_num_dims=d, variance="no_growth")


def row_options(n: int, device: torch.device) -> dict[str, Tensor]:
    ones = torch.linspace(0.5, 1.5, n, dtype=torch.float64, device=device)
    return {"extra_variance": 0.1 * ones, "sample_weight": ones}


def exact(device: torch.device, outputs: int = 0, rows: bool = True) -> Any:
    x, y, _ = data(device, outputs=outputs)
    return ExactRegression(x, y, limit(), **(row_options(len(x), device) if rows else {}))


@case
def exact_regression(device: torch.device) -> list[Any]:
    model, new = exact(device), data(device)[2]
    posterior = model.posterior()
    more = posterior.condition(new, new[:, 0], 0.1 * torch.ones_like(new[:, 0]))
    model_at_new = model.eval()(new)
    found = [*likelihood_and_gradient(model), *of_posterior(posterior, new)]
    found += [*posterior.gradient(new, with_variance=True), posterior.leave_pair_out()]
    return [*found, more.mean(data(device)[0]), model_at_new.mean, model_at_new.variance]


@case
def exact_regression_of_several_outputs(device: torch.device) -> list[Any]:
    model, new = exact(device, outputs=2, rows=False), data(device)[2]
    posterior = model.posterior()
    found = [*likelihood_and_gradient(model), *of_posterior(posterior, new)]
    return [*found, *posterior.gradient(new, with_variance=True)]


@case
def extending_a_model(device: torch.device) -> list[Any]:
    new = data(device)[2]
    models = exact(device), nearest(device)
    for model in models:
        model.extend(new, new[:, 0], 0.1 * torch.ones_like(new[:, 0]))
    return [part for model in models for part in (model.row_noise(), *model.row_tensors().values())]


@case
def mixture_of_hyperparameters(device: torch.device) -> list[Any]:
    new, members = data(device)[2], []
    for w in (0.5, 1.0, 3.0):
        model = exact(device)
        model.covar_module.base_kernel.weight_variance = w
        members.append(model.posterior())
    mixture = ExactMixture(members, torch.tensor([0.5, 0.3, 0.2]))
    more = mixture.condition(new, new[:, 0])
    found = [*of_posterior(mixture, new), *mixture.gradient(new, with_variance=True)]
    return [*found, mixture.leave_pair_out(), more.mean(new), more.shares]


@case
def sparse_regression(device: torch.device) -> list[Any]:
    x, y, new = data(device, outputs=2)
    kernel = limit().double().to(device)
    chosen = greedy_inducing_points(kernel, x, 8)
    model = SparseRegression(x, y, kernel, x[chosen], **row_options(len(x), device))
    model.inducing_points.requires_grad_()
    return [chosen, *likelihood_and_gradient(model), *of_posterior(model.posterior(), new)]


@case
def residual_law(device: torch.device) -> list[Any]:
    model = exact(device, rows=False)
    x, y, new = data(device)
    inner = model.posterior()
    posterior = ResidualPosterior.fit(inner, model.covar_module, x, y, 5)
    more = posterior.condition(new, new[:, 0])
    found = [posterior.law(new).std, *posterior.joint(new), *posterior.leave_one_out()]
    return [*found, more.law(x).std, *posterior.gradient(new, with_variance=False)]


def nearest(device: torch.device, outputs: int = 0, kernel: Any = None) -> NearestRegression:
    x, y, _ = data(device, 60, outputs=outputs)
    return NearestRegression(x, y, kernel or limit(), 12, **row_options(len(x), device))


def nearest_case(device: torch.device, outputs: int, kernel: Any = None) -> list[Any]:
    model, new = nearest(device, outputs, kernel), data(device)[2]
    posterior = model.posterior()
    more = posterior.condition(new, torch.zeros_like(model.train_y[: len(new)]))
    found = [*likelihood_and_gradient(model), *of_posterior(posterior, new)]
    return [*found, *posterior.gradient(new, with_variance=outputs == 0), more.mean(new)]


@case
def nearest_rows(device: torch.device) -> list[Any]:
    return nearest_case(device, 0)


@case
def nearest_rows_of_several_outputs(device: torch.device) -> list[Any]:
    kernel = ResNetSumKernel(input_bias=True, variance="no_growth", ard_num_dims=3)
    return nearest_case(device, 2, kernel)


@case
def nearest_classification(device: torch.device) -> list[Any]:
    x, y, new = data(device, 60)
    targets = torch.where(y > 0, 1.0, -1.0)[:, None].double()
    offset = targets.mean(0)
    model = NearestClassification(x, targets - offset, offset, limit(), 12)
    member = NearestMember.of(model, (0, 1, 2), torch.ones_like(offset))
    ensemble = Ensemble([member], torch.ones_like(offset), offset)
    scores = class_scores(ensemble.mean(new))
    found = [*likelihood_and_gradient(model), scores, *ensemble.mean_and_variance(new)]
    return [
        *found,
        *NearestMember.from_tensors(member.tensors(), limit(), x).mean_and_variance(new),
    ]


@case
def ensemble(device: torch.device) -> list[Any]:
    x, y, new = data(device, outputs=2)
    members = []
    for kernel in (limit(), ResNetTangentKernel(depth=5, input_bias=True)):
        kernel.double().to(device)
        noisy = kernel(x).to_dense() + 0.1 * torch.eye(len(x), device=device)
        weights = torch.linalg.solve(noisy, y).detach()
        members.append(ExactMember(kernel, x, weights, 1.0, 0.1, torch.ones_like(y[0])))
    both = Ensemble(members, torch.tensor([0.7, 0.3]).to(y), y.mean(0))
    kernels = [member.kernel for member in members]
    again = Ensemble.from_tensors(both.tensors(), ExactMember, kernels, x)
    return [both.mean(new), *both.mean_and_variance(new), again.mean(new)]


@case
def sample_paths(device: torch.device) -> list[Any]:
    x, y, new = data(device)
    kernel = gpytorch.kernels.ScaleKernel(ResNetLimitKernel(input_bias=True)).double().to(device)
    generator = torch.Generator().manual_seed(0)
    prior = draw_prior(kernel, 3, 4, num_features=64, generator=generator)
    given = condition(prior, x, y, 0.1, generator=generator)
    of_model = draw_posterior(exact(device, rows=False), 4, num_features=64, generator=generator)
    errors = [given.covariance_error(new).rms, prior.covariance_error(new).rms]
    return [prior(new), prior.covariance(x, new), given(new), given.covariance(new),
            of_model(new), *errors]  # fmt: skip


# Finite networks, experiments, estimators.


def standardised(mean: Any, error: Any, exact: Any) -> list[Any]:
    """Whether means of random numbers, which differ between devices, are where they should be."""
    return [np.abs((mean - exact) / error) < 5]


def upper(depth: int, hidden: Tensor) -> Tensor:
    return gram(hidden).flatten(1)


def network_case(sampler: Any, device: torch.device) -> list[Any]:
    x = numbers(3, 2)
    law = ResNet(32, 8, input_bias_variance=0.5, block_bias_variance=0.1)
    simulation = Simulation("networks", law, x, 256, upper, sampler=sampler)
    (found,) = simulate(simulation, np.random.SeedSequence(1), device=device).values()
    kernel = ResNetLimitKernel(depth=8, input_bias=True, block_bias=True).double()
    kernel.input_bias_variance, kernel.block_bias_variance = 0.5, 0.1
    exact = kernel(x).to_dense().detach().flatten().numpy()
    return standardised(found.mean, found.standard_error, exact)


CASES |= {
    f"networks: {sampler}": functools.partial(network_case, sampler)
    for sampler in ("exact", "explicit")
}


def tangent_sum(depth: int, parts: Tensor) -> Tensor:
    return parts.sum(0).flatten(1)


@case
def tangent_kernels_of_networks(device: torch.device) -> list[Any]:
    x = numbers(3, 2)
    found = []
    for sampler in ("exact", "explicit"):
        simulation = TangentSimulation(
            "tangent", ResNet(64, 4), x, 128, tangent_sum, sampler=sampler
        )
        (moments,) = simulate(simulation, np.random.SeedSequence(1), device=device).values()
        exact = ResNetTangentKernel(depth=4).double()(x).to_dense().detach().flatten().numpy()
        found.append(np.abs(moments.mean / exact - 1) < 0.3)
    return found


def experiment_case(name: str, device: torch.device) -> list[Any]:
    """What an experiment observes, of a few of its networks."""
    lab = SimulationLab(quick=True, device=device)
    finite = []
    for simulation in EXPERIMENTS[name].plan(lab):
        if simulation.network.depth > 64:
            continue
        few = dataclasses.replace(simulation, networks=min(4, simulation.networks))
        statistics = simulate(few, lab.seed_sequence(few.name), device=device).values()
        finite += [np.isfinite(part).all() for one in statistics for part in one.state().values()]
    return [np.array(finite)]


CASES |= {f"experiment: {name}": functools.partial(experiment_case, name) for name in EXPERIMENTS}


@case
def training_lab(device: torch.device) -> list[Any]:
    lab = TrainingLab(quick=True, device=device)
    with lab.workers() if device.type != "cpu" else contextlib.nullcontext(lab) as working:
        runs = working.train("networks", [lab.data(0, 4), lab.data(1, 4)], 8, 6, 5)
    return [runs.output, runs.loss, runs.movement]


@case
def report_of_a_session(device: torch.device) -> list[Any]:
    """One experiment from the command's device to the report's facts."""
    place = session.find_device(str(device))
    lab, outcome = TrainingLab(quick=True, device=place), session.Outcome()
    with (
        mock.patch("resnet_gp.mean_ode.dimension.DIMENSIONS", (4, 8, 16)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of what so little training leaves to fit
        outcome.add("dimension", TRAINING_EXPERIMENTS["dimension"].run, lab)
    with tempfile.TemporaryDirectory() as folder:
        session.report(Path(folder), "title", outcome, lab)
        facts = json.loads((Path(folder) / "results.json").read_text())
    return [device.type in str(facts)]


def training_experiment_case(name: str, device: torch.device) -> list[Any]:
    result = TRAINING_EXPERIMENTS[name].run(TrainingLab(quick=True, device=device))
    return [verdicts_of(result)]


def verdicts_of(result: Any) -> list[bool]:
    verdicts = [verdict.passed for verdict in judge(result.checks)]
    assert all(verdicts)
    return verdicts


def whole_experiment_case(name: str, device: torch.device) -> list[Any]:
    return [verdicts_of(EXPERIMENTS[name].run(SimulationLab(quick=True, device=device)))]


#: Too long for a simulated device; each fails by itself where a prediction of the theory does.
LONG_CASES: dict[str, Case] = {
    **{f"verify: {name}": functools.partial(whole_experiment_case, name) for name in EXPERIMENTS},
    **{
        f"mean-ode: {name}": functools.partial(training_experiment_case, name)
        for name in TRAINING_EXPERIMENTS
    },
}


@case
def residual_mlp(device: torch.device) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    network = ResidualMLP(3, 4, 5, generator=generator).to(device)
    x = data(device)[0].float()
    loss = network(x).square().mean()
    loss.backward()
    torch.optim.SGD(network.parameter_groups(0.1)).step()
    return [loss, network(x), *(p.grad for p in network.parameters())]


# Full Bayes: random numbers differ between devices, so only laws are compared.


@case
def regression_by_draws(device: torch.device) -> list[Any]:
    x, y, new = data(device)
    model = GPRegression(x, y, limit())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains too short to be judged
        draws = run_nuts(model, num_chains=1, num_draws=1, num_warmup=1, verbose=False)
    law = model.predict(new, draws)
    finite = [np.isfinite(law.std), model.loo_log_likelihood(draws).isfinite().all()]
    start = current_hyperparameters("", model.module)
    values = {name: value[None, None] for name, value in start.items()}
    at_start = model.predict(new, Draws(values, torch.zeros(1, 1, dtype=torch.bool)))
    return [*finite, at_start.mean, at_start.std]


@case
def classification_by_draws(device: torch.device) -> list[Any]:
    x, y, new = data(device)
    labels = (y > 0).long() + (y > 1).long()
    found = []
    for model in (
        SparseGPClassification(x, labels, limit(), num_inducing=6, batch_size=10),
        GPClassification(x, labels, limit()),
    ):
        draws = run_svi(model, num_steps=2, num_draws=2, verbose=False)
        found.append(model.predict_proba(new, draws).sum(1))
    return found


@case
def sparse_regression_by_draws(device: torch.device) -> list[Any]:
    x, y, new = data(device)
    model = SparseGPRegression(x, y, limit(), num_inducing=6, batch_size=10)
    draws = run_svi(model, num_steps=2, num_draws=2, verbose=False)
    return [np.isfinite(model.predict(new, draws).std)]


# The regressor, from arrays to arrays. Few rows and steps: simulated operations are slow.


def table(n: int = 30) -> tuple[Any, ...]:
    x, y, new = data(torch.device("cpu"), n)
    return x.numpy(), y.numpy(), new.numpy()


def regressor(device: torch.device, **options: Any) -> ResNetGPRegressor:
    X, y, _ = table()
    few = {"n_components": 1, "max_iter": 1, "random_state": 0, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ResNetGPRegressor(device=str(device), **few | options).fit(X, y)


def regressor_case(options: dict[str, Any], device: torch.device) -> list[Any]:
    new = table()[2]
    with mock.patch("resnet_gp.fitting.integrated._DRAWS", 16):  # others would only repeat
        model = regressor(device, **options)
    law, alone = model.predict_law(new), model.predict_law(new, observation_noise=False)
    mean, covariance = model.predict(new, return_cov=True)
    return [law.mean, law.std, alone.std, mean, covariance, model.theta_]


REGRESSORS: dict[str, dict[str, Any]] = {
    "averaged": {},
    "two kernels": {"kernel": ["limit", "tangent"], "hyperparameters": "ml"},
    "two components": {"n_components": 2, "hyperparameters": "map"},
    "erf": {"activation": "erf", "depth": 2, "hyperparameters": "map"},
    "depth": {"depth": 10, "hyperparameters": "ml", "n_restarts": 1, "residuals": "gaussian"},
    "nearest": {"inference": "nearest", "n_neighbors": 12},
    "sparse": {"inference": "sparse", "n_inducing": 10},
}
CASES |= {
    f"regressor: {name}": functools.partial(regressor_case, options)
    for name, options in REGRESSORS.items()
}


@case
def regressor_in_single_precision(device: torch.device) -> list[Any]:
    X, y, _ = table()
    model = regressor(device, dtype="float32", hyperparameters="map")
    return [np.abs(model.predict(X) - y).max() < 1]


@case
def regressor_by_chains(device: torch.device) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains too short
        model = regressor(device, hyperparameters="nuts", n_chains=1, n_draws=2)
    return [np.isfinite(model.predict_law(table()[2]).std)]


@case
def robust_regressor(device: torch.device) -> list[Any]:
    """The second fit is tried on few rows with light tails, and kept."""
    always = {
        "_HEAVY_TAILS": np.inf, "_LEAST_ROWS": 2, "_LEAST_COVERED": 0, "is_better": lambda *_: True
    }  # fmt: skip
    keeps = mock.patch("resnet_gp.fitting.robust._HeldOut.keeps_the_mean", True)
    with mock.patch.multiple("resnet_gp.fitting.robust", **always), keeps:
        model = regressor(device, hyperparameters="map")
    law = model.predict_law(table()[2])
    return [model.robust_weights_, model.residual_law_.optimism, law.mean, law.std]


@case
def fitted_regressor(device: torch.device) -> list[Any]:
    X, y, new = table()
    found: list[Any] = []
    for inference in ("exact", "nearest"):
        model = regressor(device, hyperparameters="map", inference=inference)
        model.add_observations(new, new[:, 0], alpha=0.1)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model")
            again = ResNetGPRegressor.load(Path(folder) / "model")
        value, gradient = model.log_marginal_likelihood(eval_gradient=True)
        found += [again.predict(X), value, gradient, *model.predict_gradient(new, return_std=True)]
        found += [*model.loo_predict(return_std=True), model.loo_predict_law().std]
        found += [model.predict_log_density(X, y), np.isfinite(model.sample_y(new, 2))]
    return found
