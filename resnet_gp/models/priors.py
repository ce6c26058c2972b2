"""Weak priors of hyperparameters, for data that were standardised."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from gpytorch import Module
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods.noise_models import HomoskedasticNoise
from gpytorch.priors import LogNormalPrior, Prior
from torch import Tensor

from resnet_gp.kernels.constraints import is_logarithmic
from resnet_gp.kernels.priors import RelatedLogNormalPrior, register_value_prior
from resnet_gp.kernels.resnet_kernel import ResNetKernel
from resnet_gp.kernels.resnet_sum_kernel import ResNetSumKernel

# Medians, and standard deviations of the logarithms.
_NOISE = (0.05, 2.0)
_OUTPUTSCALE = (1.0, 1.5)
_LENGTHSCALE = (1.0, 1.0)
# Of the logarithms of lengthscales of one column's indicators, around what they share. The choice
# of benchmarks/nominal.py --choose, whose table is in docs/tables.md.
_RELATED = 0.5
_HORIZON = (5.0, 1.0)
_BLOCK_BIAS = (0.1, 1.0)
_INPUT_BIAS = (1.0, 1.0)
_RATIO = (0.3, 1.5)


def add_weak_priors(module: Module, groups: Sequence[int] | None = None) -> None:
    """Give a weak prior to every free hyperparameter in a module that has none.

    They are log-normal: a factor of e from the median is one standard deviation for lengthscales
    (in standard deviations of the feature), the weight variance (median: a horizon of 5, or a
    variance of 5 where there is no horizon) and the block bias, four and a half for output scales
    and for ratios of components (median: 0.3), seven for the noise. They do not depend on the
    number of features d, as q_0 holds a factor 1/d. Lengthscales of other packages' kernels, where
    distances grow with d, get BoTorch's prior, log-normal with median sqrt(d) e^sqrt(2) and
    logarithmic deviation sqrt(3) (Hvarfner et al. 2024).

    Args:
        module: a kernel, a likelihood, or a model that has both.
        groups: a number for each input of our kernels, which the indicators of one nominal column
            share. The logarithms of their lengthscales are the shared one, which has the prior
            above, plus deviations of 0.5 of their own. None for unrelated lengthscales.
    """
    for owner in module.modules():
        if isinstance(owner, HomoskedasticNoise):
            _add(owner, "noise", _NOISE)
        elif isinstance(owner, ScaleKernel):
            _add(owner, "outputscale", _OUTPUTSCALE)
        elif isinstance(owner, ResNetKernel):
            _add_to_ours(owner, groups)
        elif isinstance(owner, ResNetSumKernel):
            _add(owner, "ratio", _RATIO)
        elif isinstance(owner, Kernel) and owner.has_lengthscale:
            median = math.exp(math.sqrt(2)) * math.sqrt(owner.ard_num_dims or 1)
            _add(owner, "lengthscale", (median, math.sqrt(3)))


def _add_to_ours(kernel: ResNetKernel, groups: Sequence[int] | None) -> None:
    horizon, spread = _HORIZON
    _add(kernel, "lengthscale", _LENGTHSCALE, groups)
    _add(kernel, "weight_variance", (horizon / kernel.horizon_factor, spread))
    if kernel.input_bias:
        _add(kernel, "input_bias_variance", _INPUT_BIAS)
    if kernel.block_bias:
        _add(kernel, "block_bias_variance", _BLOCK_BIAS)


def fix_confounded(module: Module) -> None:
    """Fix what data cannot distinguish from the output scale, in each of our kernels that has one.

    (lengthscale, input bias, output scale) -> (s l, sigma_in^2 / s^2, s^2 outputscale) changes
    nothing, so the input bias keeps its value. The factor exp(w (1 + alpha^2) / 2) of the (leaky)
    ReLU family is left out (``variance="no_growth"``). Chains would wander along such ridges.
    """
    for owner in module.modules():
        if not isinstance(owner, ScaleKernel):
            continue
        for kernel in owner.base_kernel.modules():
            if isinstance(kernel, ResNetKernel):
                if kernel.is_homogeneous and kernel.variance == "full":
                    kernel.variance = "no_growth"
                if kernel.input_bias:
                    kernel.get_parameter("raw_input_bias_variance").requires_grad_(False)


def log_prior(model: Module) -> Tensor:
    """Sum of the log densities of all priors in a model, in nats.

    A log-normal prior counts as the normal density of the logarithm, in which hyperparameters are
    optimised: the density of the value itself has its mode at median / e^(spread^2), which for a
    weak prior of the noise would favour no noise at all.
    """
    return prior_density(model)()


def prior_density(model: Module) -> Callable[[], Tensor]:
    """``log_prior`` of a model as a function of its hyperparameters, which looks for priors once.

    All log-normal priors are evaluated together: one by one, they would cost more than the
    likelihood of few targets.
    """
    owners = [(module, prior, closure) for _, module, prior, closure, _ in model.named_priors()]
    if not owners:
        return lambda: torch.zeros(())
    normal = [one for one in owners if isinstance(one[1], LogNormalPrior)]
    others = [one for one in owners if not isinstance(one[1], LogNormalPrior)]
    logarithms = [_logarithm(module, closure) for module, _, closure in normal]
    if normal:
        start = [one() for one in logarithms]
        laws = [law.expand(value.shape) for (_, law, _), value in zip(normal, start, strict=True)]
        # GPyTorch leaves the numbers of log-normal laws behind when their module moves.
        centre = torch.cat([law.loc.reshape(-1) for law in laws]).to(start[0])
        spread = torch.cat([law.scale.reshape(-1) for law in laws]).to(start[0])
        constant = -(spread.log() + 0.5 * math.log(2 * math.pi)).sum()

    def density() -> Tensor:
        found = [_log_density(prior, closure(module)) for module, prior, closure in others]
        if normal:
            values = torch.cat([one().reshape(-1) for one in logarithms])
            found.append(constant - 0.5 * ((values - centre) / spread).square().sum())
        return torch.stack(found).sum() if len(found) > 1 else found[0]

    return density


def _log_density(prior: Prior, value: Tensor) -> Tensor:
    if isinstance(prior, RelatedLogNormalPrior):
        return prior.log_density_of_logarithms(value).sum()
    density: Tensor = prior.log_prob(value).sum()
    return density


def _logarithm(module: Module, closure: Callable[[Module], Tensor]) -> Callable[[], Tensor]:
    """The logarithm of a hyperparameter: the raw parameter itself where that is one."""
    name = getattr(closure, "keywords", {}).get("name")
    if is_logarithmic(module.constraint_for_parameter_name(f"raw_{name}")):
        return functools.partial(getattr, module, f"raw_{name}")
    return lambda: closure(module).log()


def _add(
    module: Module, name: str, law: tuple[float, float], groups: Sequence[int] | None = None
) -> None:
    raw = getattr(module, f"raw_{name}")
    if f"{name}_prior" not in module._priors and raw.requires_grad:
        median, spread = law
        prior: Prior = LogNormalPrior(math.log(median), spread)
        if groups is not None:
            prior = RelatedLogNormalPrior(groups, math.log(median), spread, _RELATED)
        register_value_prior(module, name, prior.to(raw))
