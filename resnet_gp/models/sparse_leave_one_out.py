"""Regression on the inducing features of a kernel, with leave-one-out in closed form.

Ridge regression on Phi = V / sqrt(scale), V the whitened features, scale the mean variance of the
kernel (Quinonero-Candela & Rasmussen 2005, "DTC"). With the leverages h_i = phi_i' (Phi' Phi +
noise)^{-1} phi_i the leave-one-out errors are (y_i - prediction_i) / (1 - h_i).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.ensemble import Member
from resnet_gp.models.inducing_features import InducingFeatures
from resnet_gp.models.leave_one_out import LeaveOneOut
from resnet_gp.models.regression import parameter_tensors, with_parameters

_CHUNK = 4096


class SparseSpectrum:
    """The eigendecomposition of Phi' Phi; all noise levels then share one pass over the rows.

    Args:
        features: V, of any GPyTorch kernel without batch dimensions.
        x: ``n x d``.
        targets: ``n x p``.
    """

    def __init__(self, features: InducingFeatures, x: Tensor, targets: Tensor) -> None:
        self.features, self.x, self.targets = features, x, targets
        self.scale = float(features.variance(x).mean())
        m = len(features.inducing_points)
        gram, projected = x.new_zeros(m, m), x.new_zeros(m, targets.shape[1])
        for phi, y in self._chunks():
            gram.addmm_(phi.mT, phi)
            projected.addmm_(phi.mT, y)
        values, self.vectors = torch.linalg.eigh(gram)
        self.values = values.clamp_(min=0)
        self.rotated = self.vectors.mT @ projected

    def squared_errors(self, noise_levels: Sequence[float]) -> list[float]:
        """Mean squared leave-one-out error at each noise level."""
        totals = [0.0] * len(noise_levels)
        for phi, y in self._chunks():
            rotated = phi @ self.vectors
            squares = rotated.square()
            for i, noise in enumerate(noise_levels):
                errors, _ = self._errors(rotated, squares, y, noise)
                totals[i] += float(errors.square().sum())
        return [total / self.targets.numel() for total in totals]

    def leave_one_out(self, noise: float) -> LeaveOneOut:
        """Leave-one-out predictions; their ``weights`` multiply k(x, Z), ``m x p``."""
        means, variances = [], []
        for phi, y in self._chunks():
            rotated = phi @ self.vectors
            errors, remaining = self._errors(rotated, rotated.square(), y, noise)
            means.append(y - errors)
            variances.append(noise / remaining[:, None])
        ridge = self.vectors @ (self.rotated / (self.values + noise)[:, None]) / self.scale**0.5
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
            yield self.features(x) / self.scale**0.5, y


@dataclass(frozen=True)
class SparseMember(Member):
    """Regression on inducing features.

    Attributes:
        features: V.
        weights: of k(x, Z), ``m x p``.
        scale: mean variance of the kernel, by which it is divided.
        noise: variance of the noise, in units of the scaled kernel.
        precision: eigenvalues of Phi' Phi + noise, ``m``.
        vectors: their eigenvectors, ``m x m``.
        outputscale: variance of the scaled kernel's process, ``p``.
    """

    features: InducingFeatures
    weights: Tensor
    scale: float
    noise: float
    precision: Tensor
    vectors: Tensor
    outputscale: Tensor

    @classmethod
    def of(cls, spectrum: SparseSpectrum, noise: float, held_out: LeaveOneOut) -> SparseMember:
        """The regression at one noise level, given its leave-one-out predictions."""
        return cls(
            spectrum.features,
            held_out.weights,
            spectrum.scale,
            noise,
            spectrum.values + noise,
            spectrum.vectors,
            held_out.outputscale(spectrum.targets),
        )

    def mean(self, x: Tensor) -> Tensor:
        return self.features.cross(x) @ self.weights

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The variance is that of f given f(Z), plus that of the regression on the features."""
        cross = self.features.cross(x)
        v = self.features.whiten(cross)
        regression = self.noise * ((v @ self.vectors).square() @ (1 / self.precision))
        variance = (self.features.residual_variance(x, v) + regression) / self.scale
        return cross @ self.weights, variance[:, None] * self.outputscale

    def tensors(self) -> dict[str, Tensor]:
        return parameter_tensors(self.features.covar_module) | {
            "inducing_points": self.features.inducing_points,
            "factor": self.features.factor,
            "weights": self.weights,
            "scale": torch.tensor(self.scale, dtype=torch.float64),
            "noise": torch.tensor(self.noise, dtype=torch.float64),
            "precision": self.precision,
            "vectors": self.vectors,
            "outputscale": self.outputscale,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], kernel: Kernel, x: Tensor) -> SparseMember:
        kernel = with_parameters(kernel, tensors)
        features = InducingFeatures(kernel, tensors["inducing_points"], tensors["factor"])
        scale, noise = tensors["scale"].item(), tensors["noise"].item()
        names = ("precision", "vectors", "outputscale")
        return cls(features, tensors["weights"], scale, noise, *(tensors[name] for name in names))
