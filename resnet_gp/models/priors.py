"""Weak priors of hyperparameters, for data that were standardised."""

from __future__ import annotations

import math
from typing import Any

import torch
from gpytorch import Module
from gpytorch.priors import LogNormalPrior, Prior
from torch import Tensor

from resnet_gp.kernels.resnet_kernel import ResNetKernel

# Medians, and standard deviations of the logarithms.
_NOISE = (0.05, 2.0)
_OUTPUTSCALE = (1.0, 1.5)
_LENGTHSCALE = (1.0, 1.0)
_HORIZON = (5.0, 1.0)
_BLOCK_BIAS = (0.1, 1.0)


def add_weak_priors(model: Any) -> None:
    """Give every hyperparameter that has no prior yet a weak one.

    They are log-normal: a factor of e from the median is one standard deviation for lengthscales
    (in standard deviations of the feature), the weight variance (median: a horizon of 5) and the
    block bias, four and a half for the output scale, seven for the noise. Kernels of other
    packages keep the priors that they came with.

    Args:
        model: has a ``likelihood`` with noise and a ``ScaleKernel`` as its ``covar_module``.
    """
    _add(model.likelihood.noise_covar, "noise", _NOISE)
    _add(model.covar_module, "outputscale", _OUTPUTSCALE)
    kernel = model.covar_module.base_kernel
    if isinstance(kernel, ResNetKernel):
        horizon, spread = _HORIZON
        factor = (1 - kernel.negative_slope) ** 2 if kernel.is_homogeneous else 1.0
        _add(kernel, "lengthscale", _LENGTHSCALE)
        _add(kernel, "weight_variance", (horizon / (factor or 1.0), spread))
        if kernel.block_bias:
            _add(kernel, "block_bias_variance", _BLOCK_BIAS)


def log_prior(model: Module) -> Tensor:
    """Sum of the log densities of all priors in a model, in nats.

    A log-normal prior counts as the normal density of the logarithm, in which hyperparameters are
    optimised: the density of the value itself has its mode at median / e^(spread^2), which for a
    weak prior of the noise would be a strong wish for none.
    """
    densities = [
        _log_density(prior, closure(module)).sum()
        for _, module, prior, closure, _ in model.named_priors()
    ]
    return torch.stack(densities).sum() if densities else torch.zeros(())


def _log_density(prior: Prior, value: Tensor) -> Tensor:
    density: Tensor = prior.log_prob(value)
    return density + value.log() if isinstance(prior, LogNormalPrior) else density


def _add(module: Module, name: str, law: tuple[float, float]) -> None:
    raw = getattr(module, f"raw_{name}")
    if f"{name}_prior" not in module._priors and raw.requires_grad:
        median, spread = law
        prior = LogNormalPrior(math.log(median), spread)
        module.register_prior(f"{name}_prior", prior.to(raw), name)
