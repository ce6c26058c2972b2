"""The law of Gaussian process observations, as a Pyro distribution."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from resnet_gp.models.exact import gaussian_log_likelihood


class GaussianVector(TorchDistribution):
    """N(0, scale covariance + diag(noise)), with a gradient at the cost of one matrix inverse.

    Three times as fast as ``pyro.distributions.MultivariateNormal`` where the hyperparameters of a
    Gaussian process are sampled. Differentiable once.

    Args:
        covariance: ``n x n``, symmetric.
        num_outputs: p, for p independent columns; None for a vector.
        noise: ``n``; None for 0. Pass noise and scale here rather than in the covariance, which
            saves copies of the matrix.
        scale: a scalar; None for 1.

    Event shape: ``n``, or ``n x p``.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(
        self,
        covariance: Tensor,
        num_outputs: int | None = None,
        noise: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        self.covariance, self.noise, self.scale = covariance, noise, scale
        tail = () if num_outputs is None else (num_outputs,)
        event = torch.Size((len(covariance), *tail))
        super().__init__(torch.Size(), event, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.covariance.new_zeros(self.event_shape)

    @property
    def variance(self) -> Tensor:
        rows = self.covariance.diagonal()
        rows = rows if self.scale is None else self.scale * rows
        rows = rows if self.noise is None else rows + self.noise
        return rows if len(self.event_shape) == 1 else rows[:, None].expand(self.event_shape)

    def _whole(self) -> Tensor:
        """Covariance with scale and noise, ``n x n``."""
        whole = self.covariance if self.scale is None else self.scale * self.covariance
        if self.noise is None:
            return whole
        return whole.diagonal_scatter(whole.diagonal() + self.noise)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> GaussianVector:
        if tuple(batch_shape):
            raise ValueError(
                f"GaussianVector has no batch shape, {tuple(batch_shape)} was asked for: "
                "a Gaussian process couples its rows, so leave it out of plates"
            )
        return self

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, summed over outputs.

        Raises:
            ValueError: ``value`` is not of the event shape.
            torch.linalg.LinAlgError: the covariance is not positive definite in this precision.
        """
        if value.shape != self.event_shape:
            raise ValueError(
                f"observed values of shape {tuple(value.shape)} do not fit the covariance, which "
                f"is for {tuple(self.event_shape)}"
            )
        return gaussian_log_likelihood(self.covariance, value, self.noise, self.scale)

    def conditional(self, value: Tensor, cross: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``k`` (or ``k x p``) and variance ``k`` of further values given ``value``.

        Args:
            value: of the event shape.
            cross: covariances with the further values, ``n x k``.
            variance: prior variances of the further values, ``k``.

        Raises:
            torch.linalg.LinAlgError: the covariance is not positive definite in this precision.
        """
        factor = torch.linalg.cholesky(self._whole())
        columns = value.reshape(len(value), -1)
        white = torch.linalg.solve_triangular(factor, torch.cat([cross, columns], 1), upper=False)
        seen, target = white.split([cross.shape[1], columns.shape[1]], 1)
        mean = (seen.mT @ target).reshape(-1, *value.shape[1:])
        return mean, (variance - seen.square().sum(0)).clamp(min=0)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        factor = torch.linalg.cholesky(self._whole())
        shape = tuple(sample_shape) + tuple(self.event_shape)
        white = torch.randn(shape, dtype=factor.dtype, device=factor.device)
        return factor @ white if len(self.event_shape) == 2 else white @ factor.mT
