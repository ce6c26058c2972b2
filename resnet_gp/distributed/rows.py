"""The sums of ``resnet_gp.models.row_sums`` over partitions on Dask's workers."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Future
from torch import Tensor

from resnet_gp.distributed.partitions import Pair
from resnet_gp.distributed.reduction import tree_sum
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.models.inducing_features import InducingFeatures
from resnet_gp.models.row_sums import (
    Cotangents,
    Gradients,
    LocalRows,
    Pullback,
    RowSums,
    Statistics,
)

# Above, Dask warns and advises to scatter.
_LARGE_TASK = "distributed.admin.large-graph-warning-threshold"


class DaskRows(RowSums):
    """Rows on workers: each one sums over its partitions, and sums are added in a tree.

    Out go the hyperparameters and, for m inducing points, the points and matrices of m x m numbers;
    the same comes back. A lost worker costs time only.

    Args:
        client: of the cluster.
        parts: one future of ``LocalRows`` for each partition.
        num_dims: d.
        num_outputs: p.
        is_vector: whether predictions are of shape ``n`` and not ``n x p``.
    """

    def __init__(
        self,
        client: Client,
        parts: list[Future],
        num_dims: int,
        num_outputs: int = 1,
        is_vector: bool = True,
    ) -> None:
        self.client, self.parts = client, parts
        self.num_dims, self.num_outputs, self.is_vector = num_dims, num_outputs, is_vector

    def statistics(
        self, features: InducingFeatures, noise: Tensor, differentiable: bool = True
    ) -> tuple[Statistics, Pullback]:
        copied = InducingFeatures(
            copy.deepcopy(features.covar_module), features.inducing_points, features.factor
        )
        state = self._send(_state, copied, noise)
        sums: Statistics = self._sum(_statistics, state)

        def pullback(cotangents: Cotangents) -> Gradients:
            sent = self._send(_cotangents, cotangents)
            total: _GradientSums = self._sum(_gradients, state, sent)
            return total.gradients

        return sums, pullback

    def _send(self, function: Any, *values: Any) -> Future:
        """The value of a task, which can be made again: what is scattered cannot."""
        with dask.config.set({_LARGE_TASK: sys.maxsize}):
            return self.client.submit(function, *values, pure=False)

    def _sum(self, function: Any, *arguments: Future) -> Any:
        tasks = [self.client.submit(function, part, *arguments, pure=False) for part in self.parts]
        return tree_sum(self.client, tasks).result()


def local_rows(pair: Pair, x_scaler: Standardiser, y_scaler: Standardiser) -> LocalRows:
    """A partition in standard units, where it is."""
    return LocalRows(x_scaler(pair[0]), y_scaler(pair[1]))


@dataclass(frozen=True)
class _State:
    features: InducingFeatures
    noise: Tensor


@dataclass(frozen=True)
class _GradientSums:
    gradients: Gradients

    def __add__(self, other: _GradientSums) -> _GradientSums:
        pairs = zip(self.gradients, other.gradients, strict=True)
        return _GradientSums([one + another for one, another in pairs])


def _state(features: InducingFeatures, noise: Tensor) -> _State:
    return _State(features, noise)


def _cotangents(cotangents: Cotangents) -> Cotangents:
    return cotangents


def _statistics(rows: LocalRows, state: _State) -> Statistics:
    sums, _ = rows.statistics(state.features, state.noise, differentiable=False)
    return sums


def _gradients(rows: LocalRows, state: _State, cotangents: Cotangents) -> _GradientSums:
    return _GradientSums(rows.gradients(state.features, state.noise, cotangents))
