"""Gaussian process regression that conditions each target on its nearest rows: the model."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.models.metric import correlation_widths, metric_rows
from resnet_gp.models.nearest_posterior import NearestPosterior, left_out_members
from resnet_gp.models.neighbourhoods import compact, log_density
from resnet_gp.models.regression import (
    RegressionModel,
    extended,
    gaussian_likelihood,
    row_noise,
    scaled,
)
from resnet_gp.models.training_rows import Rows, TrainingRows, shuffled
from resnet_gp.predictive.local_scale import LocalScale

#: Neighbours on which a target is conditioned while hyperparameters are learned.
TRAINING_NEIGHBORS = 64
# Less than for other models, whose matrices are large.
_LEAST_NOISE = {torch.float64: 1e-11, torch.float32: 1e-5}
#: Rows whose densities choose the hyperparameters.
TRAINING_ROWS = 2000


class NearestRegression(RegressionModel):
    """y = f(x) + noise, where each target is seen given those of its nearest rows.

    The log marginal likelihood is the log density of 2000 random rows, each given its 64 nearest
    others: what is learned is what predicts (Vecchia 1988; Wu et al. 2022). Rows stay neighbours
    until ``look_up`` or ``forget``, as the metric depends on the hyperparameters.

    Args:
        train_x: ``n x d``.
        train_y: ``n`` or ``n x p``.
        kernel: any GPyTorch kernel without an output scale of its own.
        n_neighbors: k of the posterior.
        local_scale: the posterior's law of a target; None for a normal law.
        extra_variance, sample_weight: as for ``ExactRegression``.
    """

    training_rows: int = TRAINING_ROWS
    training_neighbors: ClassVar[int] = TRAINING_NEIGHBORS
    extra_variance: Tensor | None
    sample_weight: Tensor | None
    least_noise = _LEAST_NOISE

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        kernel: Kernel,
        n_neighbors: int = TRAINING_NEIGHBORS,
        local_scale: LocalScale | None = None,
        extra_variance: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.train_x, self.train_y, self.is_vector = train_x, train_y, train_y.dim() == 1
        self.register_buffer("extra_variance", extra_variance)
        self.register_buffer("sample_weight", sample_weight)
        self._build(kernel, n_neighbors, local_scale)
        self.to(train_x)

    def _build(self, kernel: Kernel, n_neighbors: int, local_scale: LocalScale | None) -> None:
        self.n_neighbors = n_neighbors
        self.local_scale = local_scale or LocalScale()
        self.likelihood = gaussian_likelihood()
        self.covar_module = scaled(kernel)
        self._sample: _Sample | None = None

    def row_noise(self, rows: Tensor | None = None) -> Tensor:
        """Noise variance of each training target, or of the ``rows`` of these numbers, ``n``."""
        extra, weight = self.extra_variance, self.sample_weight
        if rows is not None:
            extra = None if extra is None else extra[rows]
            weight = None if weight is None else weight[rows]
        count = len(self.train_x) if rows is None else len(rows)
        return row_noise(self.likelihood.noise, count, extra, weight)

    @torch.no_grad()
    def rows(self) -> TrainingRows:
        """The training rows with the present variances of their noises."""
        return Rows(self.train_x, self.train_y.reshape(len(self.train_y), -1), self.row_noise())

    def look_up(self) -> None:
        """Find the neighbours of the sampled rows in the present metric."""
        self._sample = _Sample.of(self)

    def forget(self) -> None:
        """Have the neighbours looked up again when they are needed."""
        self._sample = None

    def log_marginal_likelihood(self) -> Tensor:
        return log_density(self.covar_module, *self._sampled())

    def _sampled(self) -> tuple[Rows, Tensor]:
        """The sampled rows and their neighbours, and which of them are members of what."""
        if self._sample is None:
            self.look_up()
        assert self._sample is not None
        sample, members = self._sample.rows, self._sample.members
        noise = self.row_noise(self._sample.numbers)
        return replace(sample, noise=noise), members

    @torch.no_grad()
    def posterior(self, widths: Tensor | None = None) -> NearestPosterior:
        """The process given its training data; ``widths`` are as for ``NearestPosterior``."""
        return NearestPosterior(
            self.covar_module,
            self.rows(),
            self.is_vector,
            self.likelihood.noise.detach().squeeze(),
            self.local_scale,
            self.n_neighbors,
            widths,
        )

    def extend(self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None) -> None:
        self.extra_variance, self.sample_weight = extended(
            self.extra_variance, self.sample_weight, self.train_x, x, extra_variance
        )
        self.train_x, self.train_y = torch.cat([self.train_x, x]), torch.cat([self.train_y, y])
        self.forget()

    def _known_noise(self) -> dict[str, Tensor | None]:
        return {"extra_variance": self.extra_variance, "sample_weight": self.sample_weight}


class _Sample(NamedTuple):
    """Rows and their neighbours.

    Attributes:
        numbers: of the rows that are members, among all rows.
        rows: these rows.
        members: ``b x (k + 1)``, of these rows.
    """

    numbers: Tensor
    rows: Rows
    members: Tensor

    @classmethod
    def of(cls, model: NearestRegression) -> _Sample:
        rows = model.rows()
        some = rows.take(metric_rows(len(rows)))
        index = rows.searched(correlation_widths(model.covar_module, some.x))
        chosen = sample_rows(len(rows), model.training_rows)
        members = left_out_members(index, chosen, model.training_neighbors).to(some.x.device)
        return cls(torch.unique(members), *compact(rows, members))


def sample_rows(n: int, count: int, before: int = 0) -> NDArray[np.intp]:
    """The same random ``count`` rows of n each time, after the first ``before`` of the order."""
    order = shuffled(n)
    return order[before : before + count] if n >= before + count else order[-count:]
