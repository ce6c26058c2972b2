"""The average of several regression models on the same targets, as one predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

_ROWS = 4096


class Member(Protocol):
    """A Gaussian process given its targets, ``p`` of them at each input."""

    def mean(self, x: Tensor) -> Tensor:
        """Of f, ``n x p``."""

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of f, each ``n x p``."""


@dataclass(frozen=True)
class ExactMember:
    """Exact regression with one kernel and one level of noise.

    Attributes:
        kernel: any GPyTorch kernel without batch dimensions.
        x: training inputs, ``n x d``.
        weights: (k(x, x) / scale + noise)^{-1} y, ``n x p``.
        scale: what the kernel is divided by.
        noise: variance of the noise, in units of the scaled kernel: a number, ``n`` or ``n x p``.
        outputscale: variance of the scaled kernel's process, ``p``.
    """

    kernel: Kernel
    x: Tensor
    weights: Tensor
    scale: float
    noise: Tensor
    outputscale: Tensor

    def mean(self, x: Tensor) -> Tensor:
        return self._cross(x) @ self.weights

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The factors are computed anew: kept for every member, they would fill the memory."""
        cross = self._cross(x)
        prior = self.kernel(x, diag=True) / self.scale
        covariance = self._cross(self.x)
        noises = self.noise.unbind(1) if self.noise.dim() == 2 else [self.noise]
        explained = torch.stack([_explained(covariance, noise, cross) for noise in noises], 1)
        return cross @ self.weights, (prior[:, None] - explained).clamp(min=0) * self.outputscale

    def _cross(self, x: Tensor) -> Tensor:
        return self.kernel(x, self.x).to_dense() / self.scale


def _explained(covariance: Tensor, noise: Tensor, cross: Tensor) -> Tensor:
    """k (K + noise)^{-1} k' at each row of ``cross``."""
    noisy = covariance.diagonal_scatter(covariance.diagonal() + noise)
    factor = torch.linalg.cholesky(noisy)
    return torch.linalg.solve_triangular(factor, cross.mT, upper=False).square().sum(0)


@dataclass(frozen=True)
class Ensemble:
    """A mixture of processes with equal shares: means are averaged.

    Attributes:
        members: at least one.
        offset: what was subtracted from the targets, ``p``.
    """

    members: Sequence[Member]
    offset: Tensor

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """``n x p``, in slices, so that memory stays bounded."""
        parts = [torch.stack([m.mean(s) for m in self.members]).mean(0) for s in x.split(_ROWS)]
        return torch.cat(parts) + self.offset

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``n x p`` each: the members' mean variance and the variance of their means, added."""
        both = [member.mean_and_variance(x) for member in self.members]
        means, variances = (torch.stack(parts) for parts in zip(*both, strict=True))
        return means.mean(0) + self.offset, variances.mean(0) + means.var(0, correction=0)
