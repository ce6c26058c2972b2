"""The average of several regression models on the same targets, as one predictor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.regression import parameter_tensors, with_parameters
from resnet_gp.models.turn import Turn
from resnet_gp.threads import threads_for

_ROWS = 4096


class Member(ABC):
    """The posterior of regression with one kernel and one noise level, ``p`` targets at a time.

    Members differ in what they keep; an ensemble, the classifier and its files
    know only these methods.

    Attributes:
        noise: variance of the noise, relative to the mean variance of the kernel.
    """

    noise: float

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Mean of f, ``n x p``."""

    @abstractmethod
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of f, each ``n x p``."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything but the kernel and the training inputs, by name."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: dict[str, Tensor], kernel: Kernel, x: Tensor) -> Member:
        """The member that returned ``tensors``, to the bit, from its kernel and training inputs."""


@dataclass(frozen=True)
class ExactMember(Member):
    """Exact regression.

    Attributes:
        kernel: any GPyTorch kernel without batch dimensions.
        x: training inputs, ``n x d``.
        weights: (k(x, x) / scale + noise)^{-1} y, ``n x p``.
        scale: mean variance of the kernel, by which it is divided.
        noise: variance of the noise, in units of the scaled kernel.
        outputscale: variance of the scaled kernel's process, ``p``.
    """

    kernel: Kernel
    x: Tensor
    weights: Tensor
    scale: float
    noise: float
    outputscale: Tensor

    def mean(self, x: Tensor) -> Tensor:
        return self._cross(x) @ self.weights

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the Cholesky factor anew: those of all members would fill the memory."""
        noisy = self._cross(self.x)
        noisy.diagonal().add_(self.noise)
        means, explained = [], []
        with threads_for(len(noisy)):
            factor = torch.linalg.cholesky(noisy)
            for cross in map(self._cross, x.split(_ROWS)):
                white = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
                means.append(cross @ self.weights)
                explained.append(white.square_().sum(0))
        prior = self.kernel(x, diag=True) / self.scale
        variance = (prior - torch.cat(explained)).clamp(min=0)
        return torch.cat(means), variance[:, None] * self.outputscale

    def tensors(self) -> dict[str, Tensor]:
        return parameter_tensors(self.kernel) | {
            "weights": self.weights,
            "scale": torch.tensor(self.scale, dtype=torch.float64),
            "noise": torch.tensor(self.noise, dtype=torch.float64),
            "outputscale": self.outputscale,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], kernel: Kernel, x: Tensor) -> ExactMember:
        kernel, weights = with_parameters(kernel, tensors), tensors["weights"]
        scale, noise = tensors["scale"].item(), tensors["noise"].item()
        return cls(kernel, x, weights, scale, noise, tensors["outputscale"])

    def _cross(self, x: Tensor) -> Tensor:
        return self.kernel(x, self.x).to_dense() / self.scale


@dataclass(frozen=True)
class Ensemble:
    """A mixture of processes.

    Attributes:
        members: at least one.
        weights: of the members, which sum to 1.
        offset: mean of the targets, subtracted before the members were fitted, ``p``.
        turn: makes further inputs, if a member sees any.
    """

    members: Sequence[Member]
    weights: Tensor
    offset: Tensor
    turn: Turn | None = None

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """Mean of f, ``n x p``, in slices of the rows that bound the memory."""
        x = self._inputs(x)
        parts = [
            self._mean([member.mean(rows) for member in self.members]) for rows in x.split(_ROWS)
        ]
        return torch.cat(parts) + self.offset

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of f, each ``n x p``, by the law of total variance."""
        x = self._inputs(x)
        both = [member.mean_and_variance(x) for member in self.members]
        means, variances = zip(*both, strict=True)
        mean = self._mean(means)
        spread = self._mean([(one - mean).square() for one in means])
        return mean + self.offset, self._mean(variances) + spread

    def _inputs(self, x: Tensor) -> Tensor:
        return x if self.turn is None else self.turn.extended(x)

    def _mean(self, values: Sequence[Tensor]) -> Tensor:
        return torch.tensordot(self.weights, torch.stack(list(values)), 1)

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the kernels and the training inputs, by name."""
        own = {
            f"{i}.{name}": tensor
            for i, member in enumerate(self.members)
            for name, tensor in member.tensors().items()
        }
        turn = {} if self.turn is None else self.turn.tensors()
        return own | turn | {"weights": self.weights, "offset": self.offset}

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], member: type[Member], kernels: Sequence[Kernel], x: Tensor
    ) -> Ensemble:
        """The ensemble that returned ``tensors``, with one kernel for each member."""
        members, turn = [], Turn.from_tensors(tensors)
        x = x if turn is None else turn.extended(x)
        for i, kernel in enumerate(kernels):
            start = f"{i}."
            own = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
            members.append(member.from_tensors(own, kernel, x))
        return cls(members, tensors["weights"], tensors["offset"], turn)
