"""Sparse regression on Dask collections, from the fit to predictions."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from distributed import Client
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.distributed.column_moments import column_moments
from resnet_gp.distributed.partitions import Pair, Partitions, checked_block, column_names
from resnet_gp.distributed.rows import DaskRows, local_rows
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.optimiser import FitResult, get_raw, maximise, set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.sparse import Sparse, refine_noise
from resnet_gp.fitting.units import Units
from resnet_gp.models.sparse import SparsePosterior, SparseRegression
from resnet_gp.progress import progress_bar

Array = NDArray[np.float64]

#: The kernel of ``ResNetGPRegressor``.
DEFAULT = KernelSpec("limit", "relu", None, False)


@dataclass(frozen=True)
class DistributedFit:
    """A fitted model and the units of its data.

    Attributes:
        model: in standard units; its ``posterior`` sums over the workers' rows once more.
        posterior: at the fitted hyperparameters; needs neither workers nor rows.
        units: maps between the units of the data and those of the model.
        result: of the iterations on all rows.
        column_names: names of the columns of X; None if X was an array.
    """

    model: SparseRegression
    posterior: SparsePosterior
    units: Units
    result: FitResult
    column_names: list[Any] | None

    def predict(self, x: Any) -> tuple[Array, Array]:
        """Mean and standard deviation of new observations, noise included, in the units of y.

        Args:
            x: ``n x d``, an array or a data frame with the columns of the fit in the same order.

        Returns:
            Both of shape ``n``, or ``n x p`` if y had columns.

        Raises:
            ValueError: other columns than in the fit, values that are not numbers, or not finite.

        Warns:
            UserWarning: only one of x and the X of the fit has names of columns.
        """
        names = column_names(x)
        x = checked_block("X", x, self.column_names, len(self.units.x.mean))
        if (names is None) != (self.column_names is None):
            warnings.warn(
                f"X has columns {names}, that of the fit {self.column_names}: where one of them "
                "has no names, their order is taken to be the same",
                UserWarning,
                stacklevel=2,
            )
        law = self.units.law(self.posterior.law(self.units.x(x)))
        return law.mean, law.std


def fit(
    client: Client,
    x: Any,
    y: Any,
    *,
    kernel: KernelSpec = DEFAULT,
    hyperparameters: Literal["map", "ml"] = "map",
    n_inducing: int = 512,
    initial_rows: int = 50_000,
    hyperparameter_samples: int = 2000,
    max_iter: int = 10,
    learn_inducing: bool = True,
    seed: int = 0,
    on_evaluation: Callable[[int, float, float], None] | None = None,
) -> DistributedFit:
    """Fit a sparse regression to Dask collections.

    The caller gets a random subset of the rows and starts with them: an exact fit to some finds
    initial hyperparameters, then a sparse fit to all of them selects inducing points and moves
    them, as ``ResNetGPRegressor`` does. The hyperparameters are then optimised with all rows on the
    workers, at fixed inducing points.

    Args:
        client: client of a running cluster.
        x, y: as for ``Partitions``.
        kernel: the kernel; by default that of ``ResNetGPRegressor``.
        hyperparameters: as for ``ResNetGPRegressor``.
        n_inducing: m; fewer are used if they determine the function already.
        initial_rows: size of the subset.
        hyperparameter_samples: number of rows of the exact fit.
        max_iter: iterations of L-BFGS-B with all rows.
        learn_inducing: whether inducing points move in the sparse fit to the subset.
        seed: determines the subset.
        on_evaluation: called after each evaluation of the bound with all rows, with its number, the
            bound and the seconds that it took (without the gradient).

    Raises:
        TypeError: as ``Partitions``.
        ValueError: as ``Partitions``, or there are no rows.
    """
    partitions = Partitions(client, x, y)
    x_moments, y_moments = column_moments(client, partitions.pairs)
    scalers = x_moments.standardiser("X"), y_moments.standardiser("y")
    subset = _random_rows(client, partitions, x_moments.count, initial_rows, seed)
    training = Training(*(scale(part) for scale, part in zip(scalers, subset, strict=True)))
    generator = np.random.RandomState(seed)
    search = Search(
        kernel,
        with_priors=hyperparameters == "map",
        fixed=False,
        noise_variance=None,
        max_iter=None,
        n_restarts=0,
        max_samples=hyperparameter_samples,
        generator=generator,
        bar=progress_bar("fitting", False),
    )
    start, _, _ = Sparse(n_inducing, learn_inducing).fit_model(training, search)
    place = partial(local_rows, x_scaler=scalers[0], y_scaler=scalers[1])
    rows = DaskRows(
        client,
        client.map(place, partitions.pairs, pure=False),
        partitions.num_dims,
        partitions.num_outputs,
        partitions.is_vector,
    )
    built = kernel.build(partitions.num_dims)
    model = SparseRegression.from_rows(rows, built, start.inducing_points)
    search.prepare(model)
    set_raw(model, raw := get_raw(start))
    objective = _observed(search.objective(model), on_evaluation)
    result = maximise(
        objective, model, search.bounds(model), [raw], max_iter=max_iter, unit=x_moments.count
    )
    refine_noise(model, search, training)
    units = Units(*scalers)
    return DistributedFit(model, model.posterior(), units, result, partitions.column_names)


def _observed(
    objective: Callable[[], Tensor], on_evaluation: Callable[[int, float, float], None] | None
) -> Callable[[], Tensor]:
    if on_evaluation is None:
        return objective
    count = itertools.count(1)

    def observed() -> Tensor:
        start = time.perf_counter()
        value = objective()
        on_evaluation(next(count), float(value.detach()), time.perf_counter() - start)
        return value

    return observed


def _random_rows(
    client: Client, partitions: Partitions, count: int, wanted: int, seed: int
) -> Pair:
    """Draw rows uniformly without replacement."""
    sizes = client.gather(client.map(_length, partitions.pairs, pure=False))
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(count, min(wanted, count), replace=False))
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    pieces = [
        client.submit(
            _rows_of, pair, chosen[(chosen >= first) & (chosen < end)] - first, pure=False
        )
        for pair, first, end in zip(partitions.pairs, bounds[:-1], bounds[1:], strict=True)
    ]
    x, y = zip(*client.gather(pieces), strict=True)
    return np.concatenate(x), np.concatenate(y)


def _length(pair: Pair) -> int:
    return len(pair[0])


def _rows_of(pair: Pair, rows: NDArray[np.int64]) -> Pair:
    return pair[0][rows], pair[1][rows]
