"""Predictions from rows on Dask's workers, of arrays here and of collections there."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import torch
from dask.delayed import Delayed
from distributed import Client
from numpy.typing import NDArray

from resnet_gp.distributed.partitions import (
    blocks_of,
    checked_block,
    column_names,
    in_standard_units,
    is_collection,
    one_block_of_columns,
)
from resnet_gp.distributed.regression import DaskRegression
from resnet_gp.distributed.rows import Block, DaskPoints, later, rows_of, tasks_may_be_large
from resnet_gp.fitting.inference import Fitted
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.optimiser import FitResult
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.fitting.units import Units
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.neighbours import Neighbours
from resnet_gp.models.training_rows import Rows

Array = NDArray[np.float64]
Moments: TypeAlias = tuple[Array, Array]  # means and standard deviations

_SLICE = 4096  # points whose neighbours a worker holds at a time
_SENT = 100_000  # points that the caller sends at a time


@dataclass(frozen=True)
class DistributedFit:
    """A fitted model whose rows and index stay with the workers, as long as this object lives.

    Attributes:
        fitted: the model, its posterior and the result of the search, in standard units.
        units: maps between the units of the data and those of the model.
        column_names, output_names: names of the columns of X and of y; None if it had none.
        kernel: which of the kernels was chosen.
    """

    fitted: Fitted
    units: Units
    column_names: list[Any] | None
    output_names: list[Any] | None
    kernel: KernelSpec

    @property
    def model(self) -> DaskRegression:
        """In standard units."""
        model = self.fitted.model
        assert isinstance(model, DaskRegression)
        return model

    @property
    def posterior(self) -> NearestPosterior:
        """In standard units."""
        posterior = self.fitted.posterior
        assert isinstance(posterior, NearestPosterior)
        return posterior

    @property
    def result(self) -> FitResult:
        """Of the search for the hyperparameters."""
        return self.fitted.result

    @property
    def n_neighbors(self) -> int:
        """Neighbours of a prediction."""
        return self.posterior.n_neighbors

    def predict(self, x: Any) -> tuple[Any, Any]:
        """Mean and standard deviation of new observations, noise included, in the units of y.

        Args:
            x: ``n x d``, an array, a data frame, a dask.array or a dask.dataframe. Frames have the
                columns of the fit in the same order.

        Returns:
            Both of shape ``n``, or ``n x p`` if y had columns. They are arrays; of a dask.array,
            lazy dask.arrays with its chunks of rows, but no empty ones; of a dask.dataframe, lazy
            series, or frames with the columns of y if it had some, with its partitions and
            its index.

        A collection whose chunks have unknown sizes, as any dask.dataframe, is read once to learn
        them. ``dask.compute(mean, std)`` computes what both need once.

        Raises:
            ValueError: other columns than in the fit, values that are not numbers, not finite, or
                too far away. Errors inside a partition are raised when it is computed.

        Warns:
            UserWarning: only one of x and the X of the fit has names of columns.
        """
        names = column_names(x)
        if (names is None) != (self.column_names is None):
            warnings.warn(
                f"X has columns {names}, that of the fit {self.column_names}: where one of them "
                "has no names, their order is taken to be the same",
                UserWarning,
                stacklevel=2,
            )
        if is_collection(x):
            return self._lazily_predicted(x, names)
        x = checked_block("X", x, self.column_names, self._num_dims)
        in_standard_units("X", x, self.units.x)
        parts = [self._predicted(x[i : i + _SENT]) for i in range(0, max(len(x), 1), _SENT)]
        means, deviations = zip(*parts, strict=True)
        return np.concatenate(means), np.concatenate(deviations)

    @property
    def _num_dims(self) -> int:
        return len(self.units.x.mean)

    @property
    def _predictor(self) -> Delayed:
        """The posterior without its rows, for tasks."""
        return later(_itself, _alone(self.posterior))

    @property
    def _client(self) -> Client:
        return self.model.rows().client

    def _predicted(self, x: Array) -> Moments:
        slices = [x[i : i + _SLICE] for i in range(0, len(x), _SLICE)]
        parts = self._moments(
            "X", [later(np.asarray, part) for part in slices], None, self._predictor
        )
        with tasks_may_be_large():
            found: Moments = self._client.compute(parts).result()
        return found

    def _lazily_predicted(self, x: Any, names: list[Any] | None) -> tuple[Any, Any]:
        if x.ndim != 2 or x.shape[1] != self._num_dims:
            raise ValueError(f"X is of shape {x.shape}, not {self._num_dims} columns")
        if names is not None and self.column_names is not None and names != self.column_names:
            raise ValueError(f"X has columns {names}, not {self.column_names}")
        x = one_block_of_columns(x)
        blocks, sizes, predictor = blocks_of(x), self._sizes(x), self._predictor
        parts = [
            self._moments(
                f"partition {k} of X",
                [later(_rows, block, i, i + _SLICE) for i in range(0, size, _SLICE)],
                names,
                predictor,
            )
            for k, (block, size) in enumerate(zip(blocks, sizes, strict=True))
        ]
        both = [[later(_item, part, which) for part in parts] for which in (0, 1)]
        if names is None:
            arrays = [
                da.concatenate(
                    [
                        da.from_delayed(part, (size, *self._outputs), dtype=np.float64)
                        for part, size in zip(own, sizes, strict=True)
                    ]
                )
                for own in both
            ]
            return arrays[0], arrays[1]
        frames = []
        for own, name in zip(both, ("mean", "std"), strict=True):
            columns = self.output_names
            meta = _like(x._meta_nonempty[:0], np.empty((0, *self._outputs)), name, columns)
            pairs = zip(blocks, own, strict=True)
            whole = [later(_like, block, part, name, columns) for block, part in pairs]
            frames.append(dd.from_delayed(whole, meta=meta, divisions=x.divisions))
        return frames[0], frames[1]

    @property
    def _outputs(self) -> tuple[int, ...]:
        return np.shape(self.units.y.mean)

    def _sizes(self, x: Any) -> list[int]:
        if hasattr(x, "chunks") and not any(math.isnan(size) for size in x.chunks[0]):
            return [int(size) for size in x.chunks[0]]
        lengths = [later(len, block) for block in blocks_of(x)]
        return list(self._client.gather(self._client.compute(lengths)))

    def _moments(
        self, title: str, slices: list[Delayed], names: list[Any] | None, posterior: Delayed
    ) -> Delayed:
        """Means and deviations of the points of all slices."""
        points, k = self.posterior.index, min(self.n_neighbors, len(self.posterior.rows))
        assert isinstance(points, DaskPoints)
        columns = self.column_names if names is not None else None
        parts = []
        for part in slices:
            x = later(_standardised, title, part, columns, self.units.x)
            coordinates = later(np.divide, x, points.widths.numpy())
            near = points.lazily_nearest(coordinates, k)
            used, members = points.lazily_members(near)
            parts.append(later(_law_moments, posterior, self.units, x, used, members))
        return later(_concatenated, parts, self._outputs)


def _alone(posterior: NearestPosterior) -> NearestPosterior:
    """A posterior that predicts from rows that it is given, for a task."""
    d, p = len(posterior.widths), 1
    nothing = torch.zeros(0, d), torch.zeros(0, p), torch.zeros(0)
    return posterior.replace(
        covar_module=copy.deepcopy(posterior.covar_module),
        rows=Rows(*nothing),
        index=Neighbours(np.zeros((0, d))),
    )


def _itself(posterior: NearestPosterior) -> NearestPosterior:
    return posterior


def _rows(block: Any, first: int, end: int) -> Any:
    return block.iloc[first:end] if hasattr(block, "iloc") else block[first:end]


def _item(part: Moments, which: int) -> Array:
    return part[which]


def _standardised(title: str, part: Any, names: list[Any] | None, scaler: Standardiser) -> Array:
    num_dims = len(scaler.mean)
    return in_standard_units(title, checked_block(title, part, names, num_dims), scaler)


@torch.no_grad()
def _law_moments(
    posterior: NearestPosterior, units: Units, x: Array, used: Block, near: NDArray[np.intp]
) -> Moments:
    rows = rows_of(used, posterior.noise_variance)
    farthest_first = torch.from_numpy(near[:, ::-1].copy())
    law = units.law(posterior.law_given(torch.from_numpy(x), rows, farthest_first))
    return law.mean, law.std


def _concatenated(parts: list[Moments], outputs: tuple[int, ...]) -> Moments:
    if not parts:
        return np.empty((0, *outputs)), np.empty((0, *outputs))
    means, deviations = zip(*parts, strict=True)
    return np.concatenate(means), np.concatenate(deviations)


def _like(
    block: pd.DataFrame, values: Array, name: str, columns: list[Any] | None
) -> pd.Series | pd.DataFrame:
    """Values of the rows of a block, with its index: a series of that name, or columns."""
    if values.ndim == 1:
        return pd.Series(values, index=block.index, name=name)
    return pd.DataFrame(values, index=block.index, columns=columns)
