"""Sums of ``resnet_gp.models.row_sums`` over partitions on Dask's workers."""

from __future__ import annotations

import copy
import sys
from typing import Any, TypeAlias

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

# Above this size of a task, Dask warns and advises to scatter.
_LARGE_TASK = "distributed.admin.large-graph-warning-threshold"


class DaskRows(RowSums):
    """Rows on workers: each worker sums over its partitions, and the sums are added in a tree.

    Hyperparameters, m inducing points and ``m x m`` matrices are sent out, and sums of the same
    size come back. A lost worker costs only time.

    Args:
        client: client of the cluster.
        parts: one future of ``LocalRows`` for each partition.
        num_dims: d.
        num_outputs: p.
        is_vector: whether predictions are of shape ``n`` rather than ``n x p``.
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
        state = self._send((copied, noise))
        [sums] = self._sum(_statistics, state)

        def pullback(cotangents: Cotangents) -> Gradients:
            return self._sum(_gradients, state, self._send(cotangents))

        return sums, pullback

    def _send(self, value: Any) -> Future:
        """Send a value as the result of a task, which can run again; scattered data cannot."""
        with dask.config.set({_LARGE_TASK: sys.maxsize}):
            return self.client.submit(_identity, value, pure=False)

    def _sum(self, function: Any, *arguments: Future) -> list[Any]:
        tasks = [self.client.submit(function, part, *arguments, pure=False) for part in self.parts]
        total: list[Any] = tree_sum(self.client, tasks).result()
        return total


def local_rows(pair: Pair, x_scaler: Standardiser, y_scaler: Standardiser) -> LocalRows:
    """Rows of a partition in standard units."""
    return LocalRows(x_scaler(pair[0]), y_scaler(pair[1]))


_State: TypeAlias = tuple[InducingFeatures, Tensor]  # features and noise


def _identity(value: Any) -> Any:
    return value


def _statistics(rows: LocalRows, state: _State) -> list[Statistics]:
    sums, _ = rows.statistics(*state, differentiable=False)
    return [sums]


def _gradients(rows: LocalRows, state: _State, cotangents: Cotangents) -> Gradients:
    return rows.gradients(*state, cotangents)
