"""The residual law: local scale and tails of predictions, learned from leave-one-out residuals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from resnet_gp.predictive.error_law import LEAST_ROWS, ErrorLaw, Errors, fit_errors
from resnet_gp.predictive.law import Law

Array = NDArray[np.float64]

NEIGHBOURS = 20
EPS = float(np.finfo(np.float64).eps)
_ROUNDINGS = 100  # in a distance, in units of the precision
_MOST_ROWS = 5000  # that serve as neighbours
LARGEST_SQUARE = 25.0  # of a standardised residual, in the local scale
_OPTIMISM = 1.5  # log of new over left-out squared residuals, per p / (n + p)

_SLICE = 2**20  # distances at a time


@dataclass(frozen=True, eq=False)
class ResidualLaw(ErrorLaw):
    """Law of a new target whose scale varies with the input and whose tails may be heavy.

    A Gaussian process with one noise level predicts y ~ N(m(x), s(x)^2). This is the ``ErrorLaw``
    of errors z_j, the standardised leave-one-out residuals of the training rows, with

        Q = sum_j w_j(x) min(z_j^2, 25),    k = sum_j w_j(x)
        w_j(x) = max(0, 1 - d(x, x_j)^2 / d_{k+1}(x)^2)

    where d_{k+1}(x) is the distance of the (k+1)-th nearest training row, so that lambda is
    continuous in x wherever the distances are. In the fit no row is among its own neighbours. With
    fewer than ten rows the law stays Gaussian.

    s(x) is a mixture's in general: each member keeps its mean, its weight and its own s(x), and
    all have the same law of e and the same lambda. Residuals are standardised by the mixture's mean
    and standard deviation. Several outputs have residuals and lambda of their own, and a common law
    of e.

    Distances are squared distances between points in any metric, and in any unit: a common factor
    changes nothing. ``kernel_distances`` gives the kernel's own.

    Attributes:
        squares: min(optimism z^2, 25) of the training rows, ``n`` or ``n x p`` for p outputs.
        optimism: squared residuals of new rows over those of left-out rows, see ``fit``.
    """

    squares: Array = field(default_factory=lambda: np.empty(0), repr=False)
    optimism: float = 1.0

    @property
    def k(self) -> int:
        """Neighbours that count: 20, or fewer of n rows, n - 2."""
        return min(NEIGHBOURS, len(self.squares) - 2)

    @classmethod
    def fit(
        cls,
        y: ArrayLike,
        left_out: Law,
        squared_distances: Array,
        pairs: Array | None = None,
        hyperparameters: int = 0,
        optimism: float = 1.0,
        second_part: bool = True,
    ) -> ResidualLaw:
        """Fit to the leave-one-out predictions of the training targets.

        Left-out residuals of neighbours j of a row i depend on y_i, and so lambda would seem to
        know y_i: normal data would get a small nu0. ``pairs`` leave both rows out.

        Hyperparameters that were chosen with row i in sight make its left-out residual too small.
        If weights of the members leave row i out too, as weights over its density do, then no
        correction is needed. For p hyperparameters at one optimum, squared residuals of n left-out
        rows count ``optimism`` = exp(1.5 p / (n + p)) times, the mean ratio of squared residuals of
        new rows to those of left-out rows on eleven large data sets thinned to 20 to 800 rows.

        Args:
            y: targets, ``n`` or ``n x p``.
            left_out: normal laws, noise included, of each target given all others.
            squared_distances: ``n x n``, not negative; the diagonal is not used.
            pairs: standardised residuals of rows j (columns) given all but i (rows) and j,
                ``n x n`` or ``n x n x p``, see ``leave_pair_out``; None if they are not known.
            hyperparameters: number that were optimised on the same rows, and not averaged over.
            optimism: squared residuals of new rows over those of left-out rows for other reasons.
            second_part: whether the law of e may have two parts.

        Raises:
            ValueError: shapes do not match, or a value is out of range.
        """
        values = np.asarray(y, dtype=np.float64)
        _check_targets(values, left_out)
        if hyperparameters < 0:
            raise ValueError(f"hyperparameters must be at least 0, got {hyperparameters}")
        n = len(values)
        optimism *= math.exp(_OPTIMISM * hyperparameters / (n + hyperparameters))
        law = cls(optimism=optimism).with_rows(values, left_out)
        law._check_left_out(squared_distances, pairs)
        if n < LEAST_ROWS:
            return law
        near, weight = law._sums(squared_distances, True, pairs)
        z = math.sqrt(optimism) * (values - left_out.means) / left_out.scales
        with np.errstate(divide="ignore"):
            log_density = np.log(left_out.weights) - np.log(left_out.scales)
        found = fit_errors(Errors(z, log_density, near, weight), second_part)
        return cls(*found.parameters, law.squares, optimism)

    def with_rows(self, y: ArrayLike, left_out: Law) -> ResidualLaw:
        """The same law with the residuals of other training rows; arguments of ``fit``.

        Raises:
            ValueError: shapes do not match, or a value is out of range.
        """
        values = np.asarray(y, dtype=np.float64)
        _check_targets(values, left_out)
        squares = _clipped((values - left_out.mean) / left_out.std, self.optimism)
        return replace(self, squares=squares)

    def local_scale(self, squared_distances: Array) -> Array:
        """lambda at ``m`` points, ``m`` or ``m x p``.

        Args:
            squared_distances: from the points to the training rows, ``m x n``, not negative.

        Raises:
            ValueError: ``squared_distances`` has another shape or a bad value.
        """
        self._check_distances(squared_distances)
        return self._scale(squared_distances)

    def local_scale_left_out(self, squared_distances: Array, pairs: Array | None = None) -> Array:
        """lambda at the training rows, no row among its own neighbours, ``n`` or ``n x p``.

        Args:
            squared_distances, pairs: as in ``fit``.

        Raises:
            ValueError: an argument has another shape or a bad value.
        """
        self._check_left_out(squared_distances, pairs)
        return self._scale(squared_distances, True, pairs)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file must hold."""
        return {
            "residual_squares": torch.from_numpy(self.squares.copy()),
            "residual_parameters": torch.tensor(
                [*self.parameters, self.optimism], dtype=torch.float64
            ),
        }

    @staticmethod
    def is_in(tensors: dict[str, Tensor]) -> bool:
        """Whether ``tensors`` of a law are among these."""
        return "residual_squares" in tensors

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ResidualLaw:
        """The inverse of ``tensors``; other keys are ignored."""
        *parameters, optimism = tensors["residual_parameters"].tolist()
        law = ErrorLaw(*parameters)
        return cls(*law.parameters, tensors["residual_squares"].numpy(), optimism)

    def scaled(self, law: Law, local_scale: Array) -> Law:
        """This law, from the Gaussian law of targets at some points and lambda there.

        Raises:
            ValueError: shapes do not match, or the law is not normal.
        """
        if math.isfinite(law.df):
            raise ValueError(f"law must be normal, got df = {law.df}")
        if law.shape != local_scale.shape:
            raise ValueError(
                f"law of shape {law.shape} does not match local scales of {local_scale.shape}"
            )
        return self.law(law, self.c * local_scale)

    def _scale(
        self, squared_distances: Array, own_row: bool = False, pairs: Array | None = None
    ) -> Array:
        if self.is_normal:
            return np.ones((len(squared_distances), *self.squares.shape[1:]))
        return self.local_factors(*self._sums(squared_distances, own_row, pairs))

    def _sums(
        self, squared_distances: Array, own_row: bool, pairs: Array | None
    ) -> tuple[Array, Array]:
        """Sums of neighbours' weighted squared residuals, and of their weights.

        The shape of lambda; weights of several outputs have one column.
        """
        m, n = squared_distances.shape
        near = np.empty((m, *self.squares.shape[1:]))
        total = np.empty((m, *(1,) * (near.ndim - 1)))
        step = max(1, _SLICE // n)
        for start in range(0, m, step):
            rows = slice(start, start + step)
            distances = np.array(squared_distances[rows], dtype=np.float64)
            if own_row:
                np.fill_diagonal(distances[:, start:], np.inf)
            weights = _neighbour_weights(distances, self.k)
            total[rows] = weights.sum(1).reshape(-1, *total.shape[1:])
            if pairs is None:
                near[rows] = weights @ self.squares
            else:
                squares = _clipped(pairs[rows], self.optimism)
                near[rows] = np.einsum("ij,ij...->i...", weights, squares)
        return near, total

    def _check_left_out(self, squared_distances: Array, pairs: Array | None) -> None:
        n = len(self.squares)
        self._check_distances(squared_distances, n)
        if pairs is not None and pairs.shape != (n, *self.squares.shape):
            raise ValueError(f"pairs must be {(n, *self.squares.shape)}, got shape {pairs.shape}")

    def _check_distances(self, squared_distances: Array, points: int | None = None) -> None:
        n, shape = len(self.squares), np.shape(squared_distances)
        if len(shape) != 2 or shape != (shape[0] if points is None else points, n):
            wanted = f"{'m' if points is None else points} x {n}"
            raise ValueError(f"squared_distances must be {wanted}, got shape {shape}")


def neighbour_rows(n: int) -> NDArray[np.intp]:
    """Rows of n whose residuals count: all, or a random 5000 that depend on n alone."""
    if n <= _MOST_ROWS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, _MOST_ROWS, replace=False))


def kernel_distances(cross: Array, left: Array, right: Array, precision: float = EPS) -> Array:
    """Squared distances 2 - 2 k(a, b) / sqrt(k(a, a) k(b, b)) in the metric of a kernel.

    Args:
        cross: covariances of the points a and b, ``m x n``.
        left, right: variances, ``m`` and ``n``. A point of variance 0 is as far from all others as
            an independent one.
        precision: relative, with which covariances were computed. Distances that may be its errors
            are 0: points that are the same have none.
    """
    with np.errstate(divide="ignore"):
        inverse = [np.where(part > 0, 1 / np.sqrt(part), 0) for part in (left, right)]
    correlations = cross * inverse[0][:, None]
    correlations *= inverse[1]
    correlations *= -2
    correlations += 2
    correlations[correlations < _ROUNDINGS * precision] = 0
    return correlations


def _neighbour_weights(distances: Array, k: int) -> Array:
    """Weights of each row's neighbours from squared distances, ``m x n``, which are overwritten."""
    edge = np.partition(distances, k, axis=1)[:, k, None]
    if not (distances >= 0).all() or np.isinf(edge).any():
        raise ValueError("squared_distances must be finite and not negative")
    coincident = edge[:, 0] == 0
    ties = distances[coincident] == 0
    distances[coincident] = 1
    edge[coincident] = 1
    weights = np.maximum(1 - distances / edge, 0)
    weights[coincident] = ties * (k / ties.sum(1, keepdims=True))
    return weights


def _clipped(z: Array, optimism: float) -> Array:
    return np.minimum(optimism * np.square(z), LARGEST_SQUARE)


def _check_targets(y: Array, left_out: Law) -> None:
    if y.ndim not in (1, 2) or y.shape != left_out.shape:
        raise ValueError(f"y of shape {y.shape} does not match left_out of shape {left_out.shape}")
    if not np.isfinite(y).all():
        raise ValueError("y must be finite")
    if math.isfinite(left_out.df):
        raise ValueError(f"left_out must be normal laws, got df = {left_out.df}")
    if not (left_out.scales > 0).all():
        raise ValueError("left_out must have positive scales")
