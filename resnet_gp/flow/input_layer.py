"""The input layer: unit vectors and scales of inputs, whose inner products are q_0.

q_0(a, b) = (1/d) sum_i a_i b_i / l_i^2 + sigma_in^2
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resnet_gp.flow.table import GROUP

Variance = Literal["full", "no_growth", "unit"]


def input_vectors(
    x: Tensor, lengthscale: Tensor | None, input_bias_variance: Tensor | None
) -> Tensor:
    """The vectors whose inner product is q_0, with the input bias as a coordinate."""
    x = x / math.sqrt(x.shape[-1])
    if lengthscale is not None:
        x = x / lengthscale
    if input_bias_variance is not None:
        bias = input_bias_variance.sqrt()
        shape = np.broadcast_shapes(x.shape[:-1], bias.shape[:-1])
        x = torch.cat([x.expand(*shape, x.shape[-1]), bias.expand(*shape, 1)], dim=-1)
    return x


def unit_and_scale(
    x: Tensor,
    lengthscale: Tensor | None,
    input_bias_variance: Tensor | None,
    variance: Variance = "full",
) -> tuple[Tensor, Tensor]:
    """Unit vectors and lengths of ``input_vectors``; lengths of 1 if the variance is "unit"."""
    x = input_vectors(x, lengthscale, input_bias_variance)
    null = torch.linalg.vector_norm(x.detach(), dim=-1) == 0
    # Null rows are replaced before taking lengths, so that neither value nor gradient is 0 / 0.
    length = torch.linalg.vector_norm(torch.where(null[..., None], 1, x), dim=-1)
    # 1, or NaN where the length overflows.
    scale = (length / length).detach() if variance == "unit" else length
    return x / length[..., None], torch.where(null, 0, scale)


@dataclass(frozen=True, eq=False)
class InputLayer:
    """The same of fixed inputs, with a gradient in the hyperparameters that needs no graph.

    Attributes:
        unit: unit vectors, padded by zeros to a multiple of ``GROUP``, ``C x n x width``.
        length: lengths of the input vectors, 0 for null rows and else 1 if the variance is "unit",
            ``C x n``.
        lengthscale: ``C x 1 x d`` or broadcastable.
        input_bias_variance: ``C x 1 x 1``, or None.
        factor: of the scales, ``C x 1``.
        features: d.
        of_unit_variance: whether the variance is "unit", so that lengths have no gradient.
    """

    unit: Tensor
    length: Tensor
    lengthscale: Tensor
    input_bias_variance: Tensor | None
    factor: Tensor
    features: int
    of_unit_variance: bool

    @classmethod
    def of(
        cls,
        x: Tensor,
        lengthscale: Tensor,
        input_bias_variance: Tensor | None,
        factor: Tensor,
        variance: Variance,
    ) -> InputLayer:
        """The layer at ``n x d`` inputs."""
        (n, d), components = x.shape, len(factor)
        width = d if input_bias_variance is None else d + 1
        unit = x.new_zeros(components, n, width + -width % GROUP)
        unit[..., :d] = x / math.sqrt(d) / lengthscale
        if input_bias_variance is not None:
            unit[..., d] = input_bias_variance[..., 0].sqrt()
        length = torch.linalg.vector_norm(unit, dim=-1)
        unit /= torch.where(length > 0, length, 1)[..., None]
        alone = variance == "unit"
        length = (length > 0).to(length) if alone else length
        return cls(unit, length, lengthscale, input_bias_variance, factor, d, alone)

    @property
    def scale(self) -> Tensor:
        """``C x n``."""
        return self.length * self.factor

    def gradient(self, by_unit: Tensor, by_scale: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """The gradient in the lengthscale, the input bias and the factor, from that in the points.

        Args:
            by_unit: as ``unit``.
            by_scale: ``C x n``.
        """
        along, by_length = by_unit * self.unit, by_scale * self.length
        rest = -along.sum(-1)
        if not self.of_unit_variance:
            rest += by_length * self.factor
        # Of the logarithms of the input vectors' entries, summed over rows.
        found = along.sum(-2, keepdim=True) + rest[..., None, :] @ self.unit.square()
        d, lengthscale, bias = self.features, self.lengthscale, self.input_bias_variance
        by_lengthscale = (-found[..., :d] / lengthscale).sum_to_size(lengthscale.shape)
        by_bias = None
        if bias is not None:
            by_bias = (found[..., d : d + 1] / (2 * bias)).sum_to_size(bias.shape)
        return by_lengthscale, by_bias, by_length.sum(-1, keepdim=True)
