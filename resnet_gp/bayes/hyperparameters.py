"""GPyTorch modules with hyperparameters drawn by Pyro, or set to earlier draws.

Modules are never changed: functions return a shallow copy that shares all other tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import gpytorch
import pyro
import torch
from gpytorch.constraints import Interval
from gpytorch.priors import Prior
from torch import Tensor

AnyModule = TypeVar("AnyModule", bound=torch.nn.Module)
Values = dict[str, Tensor]

_Setter = Callable[[Any, Tensor], None]


def sample_hyperparameters(name: str, module: AnyModule) -> AnyModule:
    """Draw every hyperparameter that has a prior, each in its own ``pyro.sample`` statement.

    Use it in any Pyro model, several times under different names. ``add_weak_priors`` gives priors
    to hyperparameters that have none; without a prior they keep their value.

    Args:
        name: prefix of the sites, followed by the path of the hyperparameter, as in
            "group.base_kernel.lengthscale"; may be empty.
        module: a GPyTorch kernel, likelihood or model.

    Returns:
        A copy of the module with the values drawn, differentiable in them.

    Raises:
        ValueError: a prior without a setting closure.
    """
    drawn: AnyModule = _copy(module)
    for site, owner, prior, value, set_value in _sites(name, drawn):
        set_value(owner, pyro.sample(site, _law(prior, value)))
    return drawn


def with_hyperparameters(name: str, module: AnyModule, values: Values) -> AnyModule:
    """Return a copy of a module with given values of the hyperparameters.

    Args:
        name: as in ``sample_hyperparameters``.
        module: as there.
        values: by site, in the shape of the hyperparameter, or with leading dimensions for a batch
            of hyperparameters. Other entries are ignored.

    Raises:
        KeyError: a site is missing.
        ValueError: values of another shape.
    """
    copy: AnyModule = _copy(module)
    for site, owner, _, before, set_value in _sites(name, copy):
        if site not in values:
            raise KeyError(f"values lack the site {site!r}")
        value = values[site]
        if value.shape[value.dim() - before.dim() :] != before.shape:
            raise ValueError(
                f"values of {site} must end with the shape {tuple(before.shape)}, "
                f"got {tuple(value.shape)}"
            )
        set_value(owner, value)
    return copy


def current_hyperparameters(name: str, module: torch.nn.Module) -> Values:
    """Current values of the module's hyperparameters by site."""
    return {
        site: closure(owner).detach().clone()
        for site, owner, _, closure, _ in _priors(name, module)
    }


_LAWS: WeakKeyDictionary[Prior, tuple[Any, Any]] = WeakKeyDictionary()


def _law(prior: Prior, like: Tensor) -> Any:
    """The prior of a hyperparameter in its shape, dtype and device; cached, as building is slow."""
    kind, parameters = _kind(prior)
    versions = ((id(value), value._version) for value in parameters.values())
    key = (like.shape, like.dtype, like.device, *versions)
    known, law = _LAWS.get(prior, (None, None))
    if known != key:
        base: Any = prior
        if kind is not None:  # GPyTorch's priors do not follow .to
            base = kind(**{name: value.to(like) for name, value in parameters.items()})
        batch = like.dim() - len(prior.event_shape)
        law = base.expand(like.shape[:batch]).to_event(batch)
        _LAWS[prior] = key, law
    return law


def _kind(prior: Prior) -> tuple[Any, Values]:
    """Pyro's distribution of the same name and its parameters; None for GPyTorch's own laws."""
    bases = (base for base in type(prior).__mro__ if base.__module__.startswith("torch.dist"))
    kind = getattr(pyro.distributions, next(bases, object).__name__, None)
    if kind is None or len(prior.event_shape) > 0:
        return None, dict(prior.named_buffers())
    return kind, {name: getattr(prior, name) for name in kind.arg_constraints}


def _sites(name: str, module: torch.nn.Module) -> Iterator[tuple[str, Any, Prior, Tensor, _Setter]]:
    for site, owner, prior, closure, set_value in _priors(name, module):
        if set_value is None:
            raise ValueError(f"the prior of {site} has no setting closure, so it cannot be drawn")
        yield site, owner, prior, closure(owner), set_value


def _priors(name: str, module: torch.nn.Module) -> Iterator[tuple[str, Any, Prior, Any, Any]]:
    """Yield each prior once, even if its module occurs in two places."""
    seen = set()
    for prefix, owner in module.named_modules(prefix=name):
        for prior_name, (prior, closure, set_value) in getattr(owner, "_priors", {}).items():
            if (id(owner), prior_name) not in seen and prior is not None:
                seen.add((id(owner), prior_name))
                path = prior_name.removesuffix("_prior")
                yield f"{prefix}.{path}" if prefix else path, owner, prior, closure, set_value


class _Loose:
    """A GPyTorch module whose parameters may be any tensors, of any batch shape."""

    def initialize(self, **values: Any) -> Any:
        for path, value in values.items():
            *parents, name = path.split(".")
            owner = attrgetter(".".join(parents))(self) if parents else self
            if isinstance(getattr(type(owner), name, None), property):
                setattr(owner, name, value)
                continue
            before = getattr(owner, name)
            value = torch.as_tensor(value).to(before)
            if isinstance(before, torch.nn.Parameter):
                delattr(owner, name)
            setattr(owner, name, value.expand(torch.broadcast_shapes(before.shape, value.shape)))
        return self


@cache
def _loose(kind: type) -> type:
    return type(kind.__name__, (_Loose, kind), {})


def _copy(module: Any, copies: dict[int, Any] | None = None) -> Any:
    """Copy the tables of parameters and of submodules; share everything else."""
    copies = {} if copies is None else copies
    if isinstance(module, (Interval, Prior)):
        return module
    if id(module) not in copies:
        kind: Any = type(module)
        copy: Any = object.__new__(_loose(kind) if isinstance(module, gpytorch.Module) else kind)
        copies[id(module)] = copy
        copy.__dict__.update(module.__dict__)
        copy.__dict__["_parameters"] = dict(module._parameters)
        copy.__dict__["_modules"] = {
            name: _copy(child, copies) for name, child in module._modules.items()
        }
    return copies[id(module)]
