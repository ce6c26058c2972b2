"""The posterior of a Gaussian process in which each point is given its nearest training rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.models.gradient import Gradient, covariance_slopes, in_slices, slope_variance
from resnet_gp.models.metric import correlation_widths, metric_rows
from resnet_gp.models.neighbourhoods import Neighbourhoods, compact, whitened, with_noise
from resnet_gp.models.posterior import (
    Posterior,
    covariance_for_outputs,
    for_outputs,
    normal_law,
    to_array,
    with_deviations,
)
from resnet_gp.models.searched_points import SearchedPoints
from resnet_gp.models.training_rows import Rows, TrainingRows, shuffled
from resnet_gp.predictive.law import Law
from resnet_gp.predictive.local_scale import LocalScale
from resnet_gp.predictive.residual_law import NEIGHBOURS
from resnet_gp.progress import progress_bar

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_CHUNK = 1024  # points at a time
_DENSITY_ROWS = 1000  # whose densities stand for those of all rows
_GRADIENT_ENTRIES = 2**21  # of the covariances of neighbours that are alive at a time


class NearestPosterior(Posterior):
    """The process at each point given its k nearest training rows (Vecchia 1988).

    Training rows are near in Euclidean distance, each input divided by the distance over which
    correlations fall along it (``correlation_widths``). Predictions change by a little where the
    set of neighbours changes; the larger k, the less.

    Args:
        covar_module: the prior covariance, at the hyperparameters to use.
        rows: training rows, with the variances of their noises; here or elsewhere.
        is_vector: whether targets were given as a vector.
        noise_variance: learned noise variance, a scalar.
        local_scale: the law of targets.
        n_neighbors: k; all rows if there are fewer.
        widths: by which inputs are divided, ``d``; None for those of these rows.
    """

    samples_density: ClassVar[bool] = True

    def __init__(
        self,
        covar_module: Kernel,
        rows: TrainingRows,
        is_vector: bool,
        noise_variance: Tensor,
        local_scale: LocalScale,
        n_neighbors: int,
        widths: Tensor | None = None,
    ) -> None:
        self.covar_module, self.rows, self.is_vector = covar_module, rows, is_vector
        self.noise_variance, self.local_scale = noise_variance, local_scale
        self.n_neighbors = n_neighbors
        if widths is None:
            widths = correlation_widths(covar_module, rows.take(metric_rows(len(rows))).x)
        self.widths = widths
        self.index = rows.searched(widths)

    def replace(self, **changes: Any) -> NearestPosterior:
        """The same posterior with other attributes, and the same index."""
        other = copy.copy(self)
        other.__dict__.update(changes)
        return other

    @property
    def error_law(self) -> LocalScale:
        return self.local_scale

    def tensors(self) -> dict[str, Tensor]:
        own = {"n_neighbors": torch.tensor(self.n_neighbors), "neighbour_widths": self.widths}
        return own | self.local_scale.tensors()

    def law(self, x: Tensor, observation_noise: bool = True) -> Law:
        mean, variance, factors = self._predicted(x)
        if not observation_noise:
            return normal_law(mean, for_outputs(variance, mean))
        return self._law(mean, variance + self.noise_variance, factors)

    def law_given(self, x: Tensor, rows: Rows, near: Tensor) -> Law:
        """``law`` of points whose neighbours are known.

        Args:
            x: ``m x d``.
            rows: the neighbours and no others.
            near: ``m x k``, which of these are the neighbours of a point, the farthest first.
        """
        mean, variance, factors = self._given(x, rows, near)
        return self._law(mean, variance + self.noise_variance, factors)

    def mean(self, x: Tensor) -> Tensor:
        return self._predicted(x)[0]

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance, _ = self._predicted(x)
        return mean, for_outputs(variance, mean)

    def leave_one_out(self, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        """Given the nearest others; not in closed form, but as the predictions of new points."""
        rows = np.arange(len(self.rows))
        left_out, own = self.left_out(rows), self._take(rows)
        mean = self._mean(left_out, own.y)
        if observation_noise:
            variance = self.law_of(left_out, rows).variance
            return mean, torch.from_numpy(variance).to(mean)
        latent = (left_out.deviation.square() - own.noise).clamp_(min=0)
        return mean, for_outputs(latent, mean)

    def leave_one_out_law(self, rows: Indices | None = None) -> Law:
        return self._left_out_law(np.arange(len(self.rows)) if rows is None else rows)

    def left_out(self, rows: Indices) -> Neighbourhoods:
        """Targets of some rows given those of their nearest others, in the order of the rows.

        Of the errors, those that ``law_of`` needs.
        """
        parts = self._chunks(torch.from_numpy(rows), "leaving rows out")
        return _joined([self._leave_out(part.numpy()) for part in parts])

    def targets(self, rows: Indices) -> Array:
        """Targets of some rows, with the shape that ``law_of`` has."""
        return to_array(self._as_given(self._take(rows).y))

    def law_of(self, left_out: Neighbourhoods, rows: Indices) -> Law:
        """The laws of targets of some rows, from what ``left_out`` found for them."""
        return self._law(
            self._mean(left_out, self._take(rows).y),
            left_out.deviation.square(),
            self.local_scale.factors(to_array(left_out.z)),
        )

    def log_marginal_likelihood(self) -> float:
        """Log density of the targets, each given its nearest others, in nats.

        The mean over at most 1000 random rows, times the number of rows.
        """
        n = len(self.rows)
        rows = shuffled(n)[:_DENSITY_ROWS]
        densities = self._left_out_law(rows).log_density(self.targets(rows))
        return float(densities.sum() * n / len(rows))

    def condition(
        self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None
    ) -> NearestPosterior:
        """Append the rows; they count as neighbours from now on. The metric stays."""
        noise = self.noise_variance.expand(len(x))
        if extra_variance is not None:
            noise = noise + extra_variance
        rows = self.rows.append(Rows(x, y.reshape(len(y), -1), noise))
        return self.replace(rows=rows, index=self.index.append(self._coordinates(x)))

    @torch.no_grad()
    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances are those of the points alone.

        Correlations are those of the points in their order, each given its k nearest training rows
        and its k nearest earlier points.
        """
        mean, variance, _ = self._predicted(x)
        deviation = variance.sqrt()
        covariance = self._correlation(x) * deviation[:, None] * deviation
        return mean, covariance_for_outputs(covariance, mean)

    def joint(self, x: Tensor, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        mean, covariance = super().joint(x, observation_noise)
        if not observation_noise or self.local_scale.is_normal:
            return mean, covariance
        return mean, with_deviations(covariance, self.law(x))

    def gradient(self, x: Tensor, with_variance: bool) -> Gradient:
        """That of the process given the neighbours of each point, which stay the same nearby."""
        rows = _GRADIENT_ENTRIES // min(self.n_neighbors, len(self.rows)) ** 2
        return in_slices(partial(self._gradient, with_variance=with_variance), x, rows)

    def _gradient(self, x: Tensor, with_variance: bool) -> Gradient:
        near = torch.from_numpy(self._near(x)).to(x.device)
        with torch.no_grad():
            rows, near = compact(self.rows, near)
            factor = self._factor(rows.x[near], rows.noise[near])
            weights = torch.cholesky_solve(rows.y[near], factor)  # b x k x p
        slopes = covariance_slopes(self.covar_module, x, rows.x[near])
        mean = torch.einsum("bkd,bkp->bdp", slopes, weights)
        mean = mean[..., 0] if self.is_vector else mean
        if not with_variance:
            return mean, None
        explained = torch.linalg.solve_triangular(factor, slopes, upper=False).square().sum(1)
        return mean, slope_variance(self.covar_module, x, explained, mean)

    def _factor(self, x: Tensor, noise: Tensor) -> Tensor:
        """Cholesky factors of ``b`` covariances, from ``b x m x d`` points and their noises."""
        return torch.linalg.cholesky(with_noise(self.covar_module(x).to_dense(), noise))

    def _coordinates(self, x: Tensor) -> Array:
        return to_array(x / self.widths)

    def _near(self, x: Tensor) -> Indices:
        """Rows of the nearest training rows, the farthest first."""
        k = min(self.n_neighbors, len(self.rows))
        return self.index.nearest(self._coordinates(x), k)[:, ::-1].copy()

    def _predicted(self, x: Tensor) -> tuple[Tensor, Tensor, Array]:
        """Mean of f, its variance, ``n``, and the factors of scales, ``n x p``."""
        parts = [self._predict(part) for part in self._chunks(x, "predicting")]
        means, variances, factors = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(variances), np.concatenate(factors)

    def _predict(self, x: Tensor) -> tuple[Tensor, Tensor, Array]:
        near = torch.from_numpy(self._near(x)).to(x.device)
        return self._given(x, *compact(self.rows, near))

    def _given(self, x: Tensor, rows: Rows, near: Tensor) -> tuple[Tensor, Tensor, Array]:
        """As ``_predicted``; arguments as of ``law_given``."""
        targets = torch.zeros_like(rows.y[:1]).expand(len(x), -1)
        own = len(rows) + torch.arange(len(x), device=x.device)
        rows = rows.append(Rows(x, targets, torch.zeros_like(x[:, 0])))
        found = _checked(whitened(self.covar_module, rows, torch.cat([near, own[:, None]], 1)))
        mean = self._mean(found, torch.zeros_like(found.z[..., -1]))
        return mean, found.deviation.square(), self.local_scale.factors(to_array(found.z))

    def _leave_out(self, rows: Indices) -> Neighbourhoods:
        members = left_out_members(self.index, rows, self.n_neighbors).to(self.widths.device)
        used, index = compact(self.rows, members)
        found = _checked(whitened(self.covar_module, used, index))
        return replace(found, z=found.z[..., -NEIGHBOURS - 1 :].clone())

    def _left_out_law(self, rows: Indices) -> Law:
        return self.law_of(self.left_out(rows), rows)

    def _mean(self, neighbourhoods: Neighbourhoods, y: Tensor) -> Tensor:
        return self._as_given(y - neighbourhoods.deviation[:, None] * neighbourhoods.z[..., -1])

    def _law(self, mean: Tensor, variance: Tensor, factors: Array) -> Law:
        law = normal_law(mean, for_outputs(variance, mean))
        if self.local_scale.is_normal:
            return law
        return self.local_scale.law(law, factors[:, 0] if self.is_vector else factors)

    def _take(self, rows: Indices) -> Rows:
        return self.rows.take(torch.from_numpy(rows).to(self.widths.device))

    def _as_given(self, values: Tensor) -> Tensor:
        return values[:, 0] if self.is_vector else values

    def _chunks(self, x: Tensor, what: str) -> Iterator[Tensor]:
        with progress_bar(what, total=len(x)) as bar:
            for part in x.split(_CHUNK):
                yield part
                bar.update(len(part))

    def _correlation(self, x: Tensor) -> Tensor:
        """Correlations of f between the points, see ``mean_and_covariance``."""
        n, k = len(x), self.n_neighbors
        rows, near = compact(self.rows, torch.from_numpy(self._near(x)).to(x.device))
        distances = torch.cdist(*(torch.from_numpy(self._coordinates(x)),) * 2)
        covariance = x.new_zeros(n, n)
        for i in range(n):
            earlier = distances[i, :i].topk(min(k, i), largest=False).indices.to(x.device)
            points = torch.cat([rows.x[near[i]], x[earlier], x[i : i + 1]])
            noise = torch.cat([rows.noise[near[i]], x.new_zeros(len(earlier) + 1)])
            factor = self._factor(points, noise)
            weights = torch.linalg.solve_triangular(
                factor[:-1, :-1].mT, factor[-1, :-1, None], upper=True
            )[near.shape[1] :, 0]
            covariance[i, :i] = weights @ covariance[earlier, :i]
            covariance[:i, i] = covariance[i, :i]
            covariance[i, i] = factor[-1, -1].square() + weights @ covariance[i, earlier]
        deviation = covariance.diagonal().sqrt()
        return covariance / (deviation[:, None] * deviation)


def _checked(found: Neighbourhoods) -> Neighbourhoods:
    if bool(found.deviation.isnan().any()):
        raise torch.linalg.LinAlgError(
            "the covariance of a point's neighbours is not positive definite in this precision"
        )
    return found


def _joined(parts: list[Neighbourhoods]) -> Neighbourhoods:
    deviations = torch.cat([part.deviation for part in parts])
    return Neighbourhoods(deviations, torch.cat([part.z for part in parts]))


def left_out_members(index: SearchedPoints, rows: Indices, k: int) -> Tensor:
    """Neighbourhoods of rows among all other rows, the rows themselves last; ``m x (k + 1)``."""
    near = index.nearest_others(rows, min(k, len(index) - 1))
    return torch.from_numpy(np.concatenate([near[:, ::-1], rows[:, None]], axis=1))
