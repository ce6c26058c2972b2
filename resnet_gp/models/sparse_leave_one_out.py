"""Regression on the Nystroem features of a kernel, with leave-one-out in closed form.

Inducing inputs Z give every x the features phi(x) = L^{-1} k(Z, x), L L' = k(Z, Z), and the model
is ridge regression on them (the deterministic training conditional, Quinonero-Candela & Rasmussen
2005). With the leverages h_i = phi_i' (Phi' Phi + noise)^{-1} phi_i the leave-one-out errors are
(y_i - prediction_i) / (1 - h_i). Rows pass in chunks: memory is O(n p + m^2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.leave_one_out import LeaveOneOut

_CHUNK = 4096
# Added to k(Z, Z), relative to its mean diagonal.
_JITTER = 1e-8


@dataclass(frozen=True)
class NystroemFeatures:
    """The features of one kernel.

    Attributes:
        kernel: any GPyTorch kernel without batch dimensions.
        inducing: Z, ``m x d``.
        scale: what the kernel is divided by.
        factor: L, ``m x m``, of the scaled kernel.
    """

    kernel: Kernel
    inducing: Tensor
    scale: float
    factor: Tensor

    @classmethod
    def of(cls, kernel: Kernel, candidates: Tensor, m: int) -> NystroemFeatures:
        """With at most m inducing inputs among the candidates, by greedy conditional variance."""
        scale = float(kernel(candidates, diag=True).detach().mean())
        inducing = candidates[greedy_inducing_points(kernel, candidates, min(m, len(candidates)))]
        covariance = kernel(inducing).to_dense().detach() / scale
        jitter = _JITTER * covariance.diagonal().mean()
        covariance = covariance.diagonal_scatter(covariance.diagonal() + jitter)
        return cls(kernel, inducing, scale, torch.linalg.cholesky(covariance))

    def __call__(self, x: Tensor) -> Tensor:
        """``n x m``."""
        cross = self.kernel(self.inducing, x).to_dense().detach() / self.scale
        return torch.linalg.solve_triangular(self.factor, cross, upper=False).mT


class SparseSpectrum:
    """The eigendecomposition of Phi' Phi: after it, all levels of noise share one pass over rows.

    Args:
        features: of the kernel.
        x: ``n x d``.
        targets: ``n x p``.
    """

    def __init__(self, features: NystroemFeatures, x: Tensor, targets: Tensor) -> None:
        self.features, self.x, self.targets = features, x, targets
        m = len(features.inducing)
        gram, projected = x.new_zeros(m, m), x.new_zeros(m, targets.shape[1])
        for phi, y in self._chunks():
            gram.addmm_(phi.mT, phi)
            projected.addmm_(phi.mT, y)
        values, self.vectors = torch.linalg.eigh(gram)
        self.values = values.clamp_(min=0)
        self.rotated = self.vectors.mT @ projected

    def squared_errors(self, noise_levels: Sequence[float]) -> list[float]:
        """Mean squared leave-one-out error at each level."""
        totals = [0.0] * len(noise_levels)
        for phi, y in self._chunks():
            rotated = phi @ self.vectors
            squares = rotated.square()
            for i, noise in enumerate(noise_levels):
                errors, _ = self._errors(rotated, squares, y, noise)
                totals[i] += float(errors.square().sum())
        return [total / self.targets.numel() for total in totals]

    def leave_one_out(self, noise: float) -> LeaveOneOut:
        """At one level; its ``weights`` are of k(Z, .), ``m x p``."""
        means, variances = [], []
        for phi, y in self._chunks():
            rotated = phi @ self.vectors
            errors, remaining = self._errors(rotated, rotated.square(), y, noise)
            means.append(y - errors)
            variances.append(noise / remaining[:, None])
        ridge = self.vectors @ (self.rotated / (self.values + noise)[:, None])
        weights = torch.linalg.solve_triangular(self.features.factor.mT, ridge, upper=True)
        return LeaveOneOut(torch.cat(means), torch.cat(variances), weights)

    def _errors(
        self, rotated: Tensor, squares: Tensor, y: Tensor, noise: float
    ) -> tuple[Tensor, Tensor]:
        """Leave-one-out errors, and 1 - h."""
        inverse = 1 / (self.values + noise)
        remaining = 1 - squares @ inverse
        return (y - rotated @ (inverse[:, None] * self.rotated)) / remaining[:, None], remaining

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in zip(self.x.split(_CHUNK), self.targets.split(_CHUNK), strict=True):
            yield self.features(x), y


@dataclass(frozen=True)
class SparseMember:
    """Regression on Nystroem features, given its targets.

    Attributes:
        features: of the kernel.
        weights: of k(Z, .), ``m x p``.
        noise: variance of the noise, in units of the scaled kernel.
        precision: eigenvalues of Phi' Phi + noise, ``m``.
        vectors: their eigenvectors, ``m x m``.
        outputscale: variance of the scaled kernel's process, ``p``.
    """

    features: NystroemFeatures
    weights: Tensor
    noise: float
    precision: Tensor
    vectors: Tensor
    outputscale: Tensor

    @classmethod
    def of(cls, spectrum: SparseSpectrum, noise: float, held_out: LeaveOneOut) -> SparseMember:
        return cls(
            spectrum.features,
            held_out.weights,
            noise,
            spectrum.values + noise,
            spectrum.vectors,
            held_out.outputscale(spectrum.targets),
        )

    def mean(self, x: Tensor) -> Tensor:
        cross = self.features.kernel(x, self.features.inducing).to_dense()
        return cross @ self.weights / self.features.scale

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The variance is that of k less what the features explain, plus that of their weights."""
        phi = self.features(x)
        prior = self.features.kernel(x, diag=True) / self.features.scale
        unexplained = (prior - phi.square().sum(1)).clamp(min=0)
        posterior = self.noise * ((phi @ self.vectors).square() @ (1 / self.precision))
        return self.mean(x), (unexplained + posterior)[:, None] * self.outputscale
