"""Sums over training rows, the sufficient statistics of a sparse model.

With whitened features v_i (``inducing_features``) and weights w_i = u_i / (noise + extra_i), where
u_i are the user's weights, they are sums of w v v', w v y', w |y|^2, log w and w k(x, x). The
gradient of any function of them is one more sum over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from resnet_gp.models.inducing_features import InducingFeatures, learned_parameters

#: Largest size of all features together that are kept between the sums and their gradient.
CACHE_BYTES = 2**30
_CHUNK_ENTRIES = 2**21
_COLUMN_BLOCKS = 4


@dataclass(frozen=True)
class Statistics:
    """Sums over rows.

    Attributes:
        gram: sum of w v v', ``m x m``.
        projection: sum of w v y', ``m x p``.
        squares: sum of w |y|^2.
        log_weights: sum of log w.
        variances: sum of w k(x, x).
        num_rows: the number of rows.
    """

    gram: Tensor
    projection: Tensor
    squares: Tensor
    log_weights: Tensor
    variances: Tensor
    num_rows: int


@dataclass(frozen=True)
class Cotangents:
    """Derivatives of a function of ``Statistics``, in the form that the rows need.

    Attributes:
        gram: twice the derivative in ``gram``, times L^{-1} from the right; ``m x m``.
        projection: L^{-T} times the derivative in ``projection``; ``m x p``.
        squares, log_weights, variances: the derivatives in the sums of these names.
    """

    gram: Tensor
    projection: Tensor
    squares: float
    log_weights: float
    variances: float


#: In the inducing points, in the noise, and in each of the ``learned_parameters`` of the kernel.
Gradients: TypeAlias = list[Tensor]
Pullback: TypeAlias = Callable[[Cotangents], Gradients]


class RowSums:
    """Training rows of a sparse model.

    Args:
        x: ``n x d``.
        y: ``n`` or ``n x p``.
        extra_variance: known noise variances, ``n``, added to the learned one; 0 by default.
        sample_weight: ``n``, divides the noise variances; 1 by default.

    Raises:
        ValueError: the shapes do not fit, variances are negative, weights are not positive, or
            either is not finite.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        extra_variance: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> None:
        if x.dim() != 2:
            raise ValueError(f"train_x must be n x d, got shape {tuple(x.shape)}")
        if y.dim() not in (1, 2) or len(y) != len(x):
            raise ValueError(
                f"train_y must be n or n x p with n = {len(x)}, got shape {tuple(y.shape)}"
            )
        if extra_variance is None:
            extra_variance = x.new_zeros(len(x))
        if sample_weight is None:
            sample_weight = x.new_ones(len(x))
        own = {"extra_variance": extra_variance, "sample_weight": sample_weight}
        for name, values in own.items():
            if values.shape != x.shape[:1]:
                raise ValueError(f"{name} must be of shape ({len(x)},), got {tuple(values.shape)}")
        if not ((extra_variance >= 0) & extra_variance.isfinite()).all():
            raise ValueError("extra_variance must be finite and not negative")
        if not ((sample_weight > 0) & sample_weight.isfinite()).all():
            raise ValueError("sample_weight must be finite and positive")
        self.x, self.y, self.extra_variance = x, y[:, None] if y.dim() == 1 else y, extra_variance
        self.sample_weight = sample_weight
        self.num_dims, self.num_outputs = x.shape[1], self.y.shape[1]
        self.is_vector = y.dim() == 1

    @torch.no_grad()
    def statistics(
        self, features: InducingFeatures, noise: Tensor, differentiable: bool = True
    ) -> tuple[Statistics, Pullback]:
        """Return the sums, and the map from their cotangents to gradients.

        Args:
            features: at hyperparameters that must not change before the gradient is computed.
            noise: variance of the noise, ``1``; the known variance of each row is added.
            differentiable: False if the gradient is not needed.
        """
        m, kept = len(features.inducing_points), []
        keep = differentiable and len(self.x) * m * self.x.element_size() <= CACHE_BYTES
        weights = self.sample_weight / (noise + self.extra_variance)
        variances = self.x.new_zeros(())
        gram, projection = self.x.new_zeros(m, m), self.x.new_zeros(m, self.num_outputs)
        for rows in self._chunks(m):
            x, w = self.x[rows], weights[rows]
            v = features(x)
            variances += w @ features.variance(x)
            projection.addmm_(v.mT, w[:, None] * self.y[rows])
            if keep:
                kept.append(v)
                v = v.clone()
            _add_gram(v.mul_(w.sqrt()[:, None]), gram)
        _mirror(gram)
        squares = weights @ self.y.square().sum(1)
        sums = Statistics(gram, projection, squares, weights.log().sum(), variances, len(self.x))

        def pullback(cotangents: Cotangents) -> Gradients:
            return self.gradients(features, noise, cotangents, kept)

        return sums, pullback

    def gradients(
        self,
        features: InducingFeatures,
        noise: Tensor,
        cotangents: Cotangents,
        kept: Sequence[Tensor] = (),
    ) -> Gradients:
        """Gradients from the cotangents of ``statistics(features, noise)``.

        ``kept`` holds v(x) in chunks; empty to compute them again.
        """
        weights = self.sample_weight / (noise + self.extra_variance)
        points = features.inducing_points.detach().requires_grad_()
        features = InducingFeatures(features.covar_module, points, features.factor)
        inputs = [points, *learned_parameters(features.covar_module)]
        totals = [torch.zeros_like(one) for one in inputs]
        in_noise = self.x.new_zeros(1)
        for k, rows in enumerate(self._chunks(len(points))):
            x, y, w, u = self.x[rows], self.y[rows], weights[rows], self.sample_weight[rows]
            with torch.enable_grad():
                cross, variance = features.cross(x), features.variance(x)
            with torch.no_grad():
                v = kept[k] if kept else features.whiten(cross)
                toward = v @ cotangents.gram  # of the gram in k(x, Z), before the weights
                in_weights = (
                    torch.linalg.vecdot(cross, toward / 2)
                    + torch.linalg.vecdot(cross @ cotangents.projection, y)
                    + cotangents.squares * y.square().sum(1)
                    + cotangents.log_weights / w
                    + cotangents.variances * variance
                )
                in_noise -= (w.square() / u) @ in_weights
                toward.addmm_(y, cotangents.projection.mT).mul_(w[:, None])
            found = torch.autograd.grad(
                [cross, variance], inputs, [toward, cotangents.variances * w], allow_unused=True
            )
            for total, part in zip(totals, found, strict=True):
                if part is not None:
                    total += part
        return [totals[0], in_noise, *totals[1:]]

    def _chunks(self, m: int) -> list[slice]:
        size = max(1, _CHUNK_ENTRIES // m)
        return [slice(first, first + size) for first in range(0, len(self.x), size)]


def _add_gram(v: Tensor, gram: Tensor) -> None:
    """Add v' v to the upper triangle of blocks, in two thirds of the time of a full product."""
    m = v.shape[1]
    size = -(-m // _COLUMN_BLOCKS)
    for first in range(0, m, size):
        last = min(first + size, m)
        gram[:last, first:last].addmm_(v[:, :last].mT, v[:, first:last])


def _mirror(gram: Tensor) -> None:
    """Copy the upper triangle to the lower one."""
    gram.copy_(gram.triu().add_(gram.triu(1).mT))
