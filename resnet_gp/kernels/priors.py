"""Priors of hyperparameters that can be pickled."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from gpytorch import Module
from gpytorch.priors import Prior
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, constraints


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


class RelatedLogNormalPrior(Prior):
    r"""Log-normal hyperparameters of which some are alike: those with one number in ``groups``.

    .. math:: \log x_i = \mu + \sigma a_{g(i)} + \tau b_i

    with standard normal a and b, and :math:`\tau = 0` in groups of one.

    Args:
        groups: g, for d hyperparameters.
        loc: mu.
        scale: sigma, in which whole groups vary.
        spread: tau, in which the members of one group do.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = constraints.independent(constraints.positive, 1)
    has_rsample = True

    def __init__(self, groups: Sequence[int], loc: float, scale: float, spread: float) -> None:
        torch.nn.Module.__init__(self)
        number = torch.as_tensor(groups)
        same = (number[:, None] == number).double()
        own = spread**2 * (same.sum(1) > 1)
        root = torch.linalg.cholesky(scale**2 * same + own.diag())
        Distribution.__init__(self, event_shape=torch.Size([len(number)]), validate_args=False)
        self._transform = None
        self.register_buffer("loc", torch.full((len(number),), loc, dtype=torch.float64))
        self.register_buffer("scale_tril", root)

    def log_density_of_logarithms(self, value: Tensor) -> Tensor:
        """Density of log x at x, ``batch_shape x d``, in nats; ``log_prob`` is that of x."""
        density: Tensor = self._normal(value).log_prob(value.log())
        return density

    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_density_of_logarithms(x) - x.log().sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        drawn: Tensor = self._normal(self.loc).rsample(torch.Size(sample_shape) + self.batch_shape)
        return drawn.exp()

    def expand(self, batch_shape: Any, _instance: Any = None) -> RelatedLogNormalPrior:
        new = copy.copy(self)
        new.__dict__["_batch_shape"] = torch.Size(batch_shape)
        return new

    def _normal(self, like: Tensor) -> MultivariateNormal:
        return MultivariateNormal(
            self.loc.to(like), scale_tril=self.scale_tril.to(like), validate_args=False
        )
