"""A classifier's regression in which each point is given its nearest training rows."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.ensemble import Member
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.regression import parameter_tensors, with_parameters


class View(NamedTuple):
    """What a model sees of the inputs.

    Attributes:
        columns: of the inputs, k of them.
        directions: along which it sees them, ``k x k``, a direction in each column; None for the
            columns themselves.
    """

    columns: tuple[int, ...]
    directions: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """``n x k``, of all inputs."""
        own = x[:, self.columns]
        return own if self.directions is None else own @ self.directions

    def lengthscale(self, lengthscale: Tensor) -> Tensor:
        """Along each column alone, at which the kernel's metric is 1; ``k``."""
        if self.directions is None:
            return lengthscale
        return (self.directions.square() @ lengthscale**-2.0) ** -0.5

    def tensors(self) -> dict[str, Tensor]:
        columns = {"columns": torch.tensor(self.columns)}
        return columns if self.directions is None else columns | {"directions": self.directions}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> View:
        return cls(tuple(tensors["columns"].tolist()), tensors.get("directions"))


@dataclass(frozen=True)
class NearestMember(Member):
    """Regression at each point given its nearest training rows, all targets with one kernel.

    Attributes:
        model: holds the training rows, as its view shows them, and the hyperparameters.
        view: what it sees of the inputs.
        noise: variance of the noise over the mean variance of the kernel.
        outputscale: variance of each output's process over that of the model, ``p``.
    """

    model: NearestRegression
    view: View
    noise: float
    outputscale: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: NearestRegression, view: View, outputscale: Tensor) -> NearestMember:
        """The member of a fitted model."""
        variance = model.covar_module(model.train_x, diag=True).mean()
        return cls(model, view, float(model.likelihood.noise / variance), outputscale)

    @functools.cached_property
    def posterior(self) -> NearestPosterior:
        return self.model.posterior()

    def mean(self, x: Tensor) -> Tensor:
        return self.posterior.mean(self.view(x))

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.posterior.mean_and_variance(self.view(x))
        return mean, variance * self.outputscale

    def tensors(self) -> dict[str, Tensor]:
        return parameter_tensors(self.model) | {
            "targets": self.model.train_y,
            **self.view.tensors(),
            "n_neighbors": torch.tensor(self.model.n_neighbors),
            "outputscale": self.outputscale,
        }

    @classmethod
    @torch.no_grad()
    def from_tensors(cls, tensors: dict[str, Tensor], kernel: Kernel, x: Tensor) -> NearestMember:
        view, k = View.from_tensors(tensors), int(tensors["n_neighbors"])
        model = NearestRegression(view(x), tensors["targets"], kernel, k)
        with_parameters(model, tensors)
        return cls.of(model, view, tensors["outputscale"])
