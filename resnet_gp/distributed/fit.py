"""Nearest-neighbour regression on Dask collections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from distributed import Client

from resnet_gp.distributed.column_moments import column_moments
from resnet_gp.distributed.partitions import Pair, Partitions, in_standard_units
from resnet_gp.distributed.predictions import DistributedFit
from resnet_gp.distributed.regression import DaskSource
from resnet_gp.distributed.rows import Block, DaskRows
from resnet_gp.fitting.directions import DirectedStandardiser
from resnet_gp.fitting.input_choice import checked_choice, helpful_directions
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.nearest import Nearest
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.units import Units
from resnet_gp.integers import check_integer
from resnet_gp.progress import progress_bar

#: The kernels of ``ResNetGPRegressor``, one network and the sum of two, of which the fit chooses.
DEFAULT = (
    KernelSpec("limit", "relu", None, False),
    KernelSpec("limit", "relu", None, False, n_components=2),
)


def fit(
    client: Client,
    x: Any,
    y: Any,
    *,
    kernels: Sequence[KernelSpec] = DEFAULT,
    hyperparameters: Literal["map", "ml"] = "map",
    n_neighbors: int | None = None,
    residuals: Literal["student", "gaussian"] = "student",
    max_iter: int | None = None,
    rotate_features: Literal["auto"] | bool = "auto",
) -> DistributedFit:
    """Fit a nearest-neighbour regression to Dask collections.

    The fit is that of ``ResNetGPRegressor(inference="nearest", rank_features=False)``: rows are
    sampled in the same way, and neighbours are the nearest of all rows. The caller gets the sampled
    rows and their neighbours, the workers keep the rest.

    Args:
        client: client of a running cluster.
        x, y: as for ``Partitions``.
        kernels: kernels to choose from; by default those of ``ResNetGPRegressor``.
        hyperparameters, n_neighbors, residuals, max_iter, rotate_features: as for
            ``ResNetGPRegressor``.

    Raises:
        TypeError: as ``Partitions``.
        ValueError: as ``Partitions``, there are fewer than two rows, or an argument is none of
            its values.
    """
    _check(kernels, hyperparameters, n_neighbors, residuals, max_iter)
    rotate_features = checked_choice("rotate_features", rotate_features)
    partitions = Partitions(client, x, y)
    x_moments, y_moments = column_moments(client, partitions.pairs)
    if x_moments.count < 2:
        raise ValueError("X has one row: a fit needs two at least")
    units = Units(x_moments.standardiser("X"), y_moments.standardiser("y"))
    rows = standardised(partitions, units)
    source = DaskSource(rows, partitions.num_dims, partitions.is_vector)
    search = Search(
        kernels[0],
        np.random.RandomState(0),
        progress_bar("fitting", False),
        with_priors=hyperparameters == "map",
        max_iter=max_iter,
        others=tuple(kernels[1:]),
    )
    directions = helpful_directions(source, search, rotate_features)
    if directions is not None:
        units = replace(units, x=DirectedStandardiser.along(units.x, directions))
        source = source.turned(directions)
    fitted = Nearest(n_neighbors, residuals == "student").fit_to(source, search)
    names = partitions.column_names, partitions.output_names
    return DistributedFit(fitted, units, *names, kernels[fitted.number])


def standardised(partitions: Partitions, units: Units) -> DaskRows:
    """Rows in standard units; the partitions themselves are forgotten, and read again if lost."""
    client = partitions.client
    blocks = [
        client.submit(_standardised, k, pair, units, pure=False)
        for k, pair in enumerate(partitions.pairs)
    ]
    partitions.pairs.clear()
    sizes = client.gather(client.map(_length, blocks, pure=False))
    kept = [(block, size) for block, size in zip(blocks, sizes, strict=True) if size]
    return DaskRows(
        client,
        [block for block, _ in kept],
        [size for _, size in kept],
        torch.zeros((), dtype=torch.float64),
    )


def _standardised(k: int, pair: Pair, units: Units) -> Block:
    x = in_standard_units(f"partition {k} of X", pair[0], units.x)
    y = in_standard_units(f"partition {k} of y", pair[1], units.y)
    return x, y[:, None] if y.ndim == 1 else y


def _length(block: Block) -> int:
    return len(block[0])


def _check(
    kernels: Sequence[KernelSpec],
    hyperparameters: str,
    n_neighbors: int | None,
    residuals: str,
    max_iter: int | None,
) -> None:
    listed = isinstance(kernels, Sequence) and not isinstance(kernels, str)
    if not (listed and kernels and all(isinstance(one, KernelSpec) for one in kernels)):
        raise ValueError(f"kernels must be a list of KernelSpec, and not empty; got {kernels!r}")
    if hyperparameters not in ("map", "ml"):
        raise ValueError(f'hyperparameters must be "map" or "ml", got {hyperparameters!r}')
    if residuals not in ("student", "gaussian"):
        raise ValueError(f'residuals must be "student" or "gaussian", got {residuals!r}')
    for name, value in (("n_neighbors", n_neighbors), ("max_iter", max_iter)):
        if value is not None:
            check_integer(name, value)
