"""A posterior whose law of new targets has a local scale and heavy tails."""

from __future__ import annotations

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.models.posterior import Posterior, to_array, with_deviations
from resnet_gp.predictive.law import Law
from resnet_gp.predictive.residual_law import ResidualLaw, kernel_distances, neighbour_rows

Array = NDArray[np.float64]

_ENTRIES = 2**22  # of covariances with the training rows that are alive at a time


class ResidualPosterior(Posterior):
    """Another posterior, with a ``ResidualLaw`` for targets; laws of f are unchanged.

    Joint covariances of targets are scaled to its variances, with the correlations of the other
    posterior.

    Args:
        inner: the other posterior.
        residuals: the law, fitted to its leave-one-out predictions.
        metric: the kernel in whose metric training rows are near; a stationary one has no other.
        train_x, train_y: all training rows.
    """

    def __init__(
        self,
        inner: Posterior,
        residuals: ResidualLaw,
        metric: Kernel,
        train_x: Tensor,
        train_y: Tensor,
    ) -> None:
        self.inner, self.residuals, self.metric = inner, residuals, metric
        self.train_x, self.train_y = train_x, train_y
        self.noise_variance = inner.noise_variance

    @classmethod
    def fit(
        cls,
        inner: Posterior,
        metric: Kernel,
        train_x: Tensor,
        train_y: Tensor,
        num_optimised: int,
        optimism: float = 1.0,
        second_part: bool = True,
    ) -> ResidualPosterior:
        """Learn the law; raises as ``Posterior.leave_one_out``.

        Args:
            inner, metric, train_x, train_y: as above.
            num_optimised: hyperparameters that were optimised on these rows, and not averaged over.
            optimism, second_part: see ``ResidualLaw.fit``.
        """
        rows = neighbour_rows(len(train_x))
        near = train_x[torch.from_numpy(rows)]
        residuals = ResidualLaw.fit(
            to_array(train_y)[rows],
            inner.leave_one_out_law()[rows],
            _distances(metric, near, near),
            inner.leave_pair_out() if len(rows) == len(train_x) else None,
            num_optimised,
            optimism,
            second_part,
        )
        return cls(inner, residuals, metric, train_x, train_y)

    def with_one_part(self) -> ResidualPosterior:
        """The same with errors of one Student-t law, fitted to the same rows."""
        known = self.metric, self.train_x, self.train_y, 0, self.residuals.optimism
        return ResidualPosterior.fit(self.inner, *known, second_part=False)

    def law(self, x: Tensor, observation_noise: bool = True) -> Law:
        law = self.inner.law(x, observation_noise)
        if not observation_noise or self.residuals.is_normal:
            return law
        return self.residuals.scaled(law, self._local_scale(x))

    def joint(self, x: Tensor, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        mean, covariance = self.inner.joint(x, observation_noise)
        if not observation_noise or self.residuals.is_normal:
            return mean, covariance
        return mean, with_deviations(covariance, self.law(x))

    @property
    def error_law(self) -> ResidualLaw:
        return self.residuals

    def mean(self, x: Tensor) -> Tensor:
        return self.inner.mean(x)

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner.mean_and_variance(x)

    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner.mean_and_covariance(x)

    def leave_one_out(self, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        if not observation_noise or self.residuals.is_normal:
            return self.inner.leave_one_out(observation_noise)
        law = self.leave_one_out_law()
        mean, variance = (torch.from_numpy(part) for part in (law.mean, law.variance))
        return mean.to(self.train_y), variance.to(self.train_y)

    def leave_one_out_law(self, rows: NDArray[np.intp] | None = None) -> Law:
        """As ``Posterior.leave_one_out_law``; no row counts as its own neighbour."""
        plain = self.residuals.is_normal
        law = self.inner.leave_one_out_law() if plain else self._leave_one_out_law()
        return law if rows is None else law[rows]

    def _leave_one_out_law(self) -> Law:
        law = self.inner.leave_one_out_law()
        rows, near = neighbour_rows(len(self.train_x)), self._near
        others = np.setdiff1d(np.arange(len(self.train_x)), rows)
        pairs = None if len(others) else self.inner.leave_pair_out()
        scale = np.empty(law.shape)
        distances = _distances(self.metric, near, near)
        scale[rows] = self.residuals.local_scale_left_out(distances, pairs)
        if len(others):
            scale[others] = self._local_scale(self.train_x[torch.from_numpy(others)])
        return self.residuals.scaled(law, scale)

    def gradient(self, x: Tensor, with_variance: bool) -> tuple[Tensor, Tensor | None]:
        return self.inner.gradient(x, with_variance)

    def condition(
        self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None
    ) -> ResidualPosterior:
        """Condition the other posterior, and take its new residuals into the local scale."""
        inner = self.inner.condition(x, y, extra_variance)
        train_x, train_y = torch.cat([self.train_x, x]), torch.cat([self.train_y, y])
        rows = neighbour_rows(len(train_x))
        residuals = self.residuals.with_rows(
            to_array(train_y)[rows], inner.leave_one_out_law()[rows]
        )
        return ResidualPosterior(inner, residuals, self.metric, train_x, train_y)

    def log_marginal_likelihood(self) -> float:
        return self.inner.log_marginal_likelihood()

    def tensors(self) -> dict[str, Tensor]:
        return self.inner.tensors() | self.residuals.tensors()

    @property
    def _near(self) -> Tensor:
        """Training inputs whose residuals count."""
        return self.train_x[torch.from_numpy(neighbour_rows(len(self.train_x)))]

    def _local_scale(self, x: Tensor) -> Array:
        near = self._near
        parts = x.split(max(1, _ENTRIES // len(near)))
        scales = [self.residuals.local_scale(_distances(self.metric, part, near)) for part in parts]
        return np.concatenate(scales)


@torch.no_grad()
def _distances(metric: Kernel, a: Tensor, b: Tensor) -> Array:
    cross = metric(a, b).to_dense()
    left, right = (to_array(metric(one, diag=True)) for one in (a, b))
    return kernel_distances(to_array(cross), left, right, torch.finfo(cross.dtype).eps)
