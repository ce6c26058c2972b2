"""Priors of hyperparameters that can be pickled."""

from __future__ import annotations

from functools import partial

from gpytorch import Module
from gpytorch.priors import Prior
from torch import Tensor


def register_value_prior(module: Module, name: str, prior: Prior) -> None:
    """As ``module.register_prior``, with closures that can be pickled."""
    module.register_prior(
        f"{name}_prior", prior, partial(_get, name=name), partial(_set, name=name)
    )


def _get(module: Module, name: str) -> Tensor:
    value: Tensor = getattr(module, name)
    return value


def _set(module: Module, value: Tensor | float, name: str) -> None:
    module.initialize(**{name: value})
