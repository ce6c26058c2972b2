"""A classifier's regression in which each point is given its nearest training rows."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.ensemble import Member
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.regression import parameter_tensors, with_parameters


@dataclass(frozen=True)
class NearestMember(Member):
    """Regression at each point given its nearest training rows, all targets with one kernel.

    Attributes:
        model: holds the training rows, with some columns of the inputs, and the hyperparameters.
        columns: these columns.
        noise: variance of the noise over the mean variance of the kernel.
        outputscale: variance of each output's process over that of the model, ``p``.
    """

    model: NearestRegression
    columns: tuple[int, ...]
    noise: float
    outputscale: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: NearestRegression, columns: tuple[int, ...], outputscale: Tensor
    ) -> NearestMember:
        """The member of a fitted model."""
        variance = model.covar_module(model.train_x, diag=True).mean()
        return cls(model, columns, float(model.likelihood.noise / variance), outputscale)

    @functools.cached_property
    def posterior(self) -> NearestPosterior:
        return self.model.posterior()

    def mean(self, x: Tensor) -> Tensor:
        return self.posterior.mean(x[:, self.columns])

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.posterior.mean_and_variance(x[:, self.columns])
        return mean, variance * self.outputscale

    def tensors(self) -> dict[str, Tensor]:
        return parameter_tensors(self.model) | {
            "targets": self.model.train_y,
            "columns": torch.tensor(self.columns),
            "n_neighbors": torch.tensor(self.model.n_neighbors),
            "outputscale": self.outputscale,
        }

    @classmethod
    @torch.no_grad()
    def from_tensors(cls, tensors: dict[str, Tensor], kernel: Kernel, x: Tensor) -> NearestMember:
        columns = tuple(tensors["columns"].tolist())
        k = int(tensors["n_neighbors"])
        model = NearestRegression(x[:, columns], tensors["targets"], kernel, k)
        with_parameters(model, tensors)
        return cls.of(model, columns, tensors["outputscale"])
