"""The law of a new target: weighted mixtures of normal or Student-t laws, point by point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resnet_gp.integers import check_integer
from resnet_gp.predictive.inversion import centre_and_spread, mixture_quantile
from resnet_gp.predictive.standard import Standard
from resnet_gp.predictive.student import standard

Array = NDArray[np.float64]

_SLICE = 2**14  # values of an array that stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Law:
    """A law at each point: a mixture of S normal laws, or of S Student-t laws of equal ``df``.

    One normal or Student-t law is a mixture with S = 1. Points are ``n``, or ``n x p`` for p
    outputs, one law for each output. Units are those of the means.

    Attributes:
        means: ``S x n`` or ``S x n x p``, finite.
        scales: the same shape; the standard deviations of normal laws, the scales of Student-t
            laws. A scale of 0 is a point mass.
        weights: given as ``S``, or with axes of points, each of their length or 1; not negative.
            Kept with the shape of the means, and a sum of 1 over the members. By default the
            members are equal.
        df: degrees of freedom, above 2; inf for normal laws.

    Raises:
        ValueError: shapes do not match, or a value is out of range.
    """

    means: Array
    scales: Array
    weights: Array = field(default_factory=lambda: np.ones(1))
    df: float = math.inf

    def __post_init__(self) -> None:
        means, scales = (np.asarray(part, dtype=np.float64) for part in (self.means, self.scales))
        if means.ndim == 0 or len(means) == 0 or means.shape != scales.shape:
            raise ValueError(
                "means and scales must have one shape, members first, got "
                f"{means.shape} and {scales.shape}"
            )
        if not np.isfinite(means).all():
            raise ValueError("means must be finite")
        if not (np.isfinite(scales) & (scales >= 0)).all():
            raise ValueError("scales must be finite and not negative")
        if not self.df > 2:
            raise ValueError(f"df must be above 2, where the variance is finite, got {self.df}")
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "weights", _normalised(self.weights, means.shape))
        object.__setattr__(self, "df", float(self.df))

    @classmethod
    def normal(cls, mean: ArrayLike, std: ArrayLike) -> Law:
        """One normal law at each point; mean and standard deviation broadcast."""
        return cls(*_one(mean, std))

    @classmethod
    def student(cls, mean: ArrayLike, scale: ArrayLike, df: float) -> Law:
        """One Student-t law at each point; mean and scale broadcast."""
        return cls(*_one(mean, scale), df=df)

    @classmethod
    def mixture(cls, laws: Iterable[Law], weights: ArrayLike = 1.0) -> Law:
        """Mix laws of the same points, which may be mixtures themselves.

        Args:
            laws: laws of equal ``df``.
            weights: one for each law, or with axes of points; not negative. A single number stands
                for equal weights.

        Raises:
            ValueError: there is no law, or they differ in points or in ``df``.
        """
        parts = list(laws)
        if not parts or len({(one.shape, one.df) for one in parts}) > 1:
            raise ValueError("laws must be at least one, of equal points and df")
        outer = _normalised(np.atleast_1d(weights), (len(parts), *parts[0].shape))
        return cls(
            np.concatenate([one.means for one in parts]),
            np.concatenate([one.scales for one in parts]),
            np.concatenate([w * one.weights for w, one in zip(outer, parts, strict=True)]),
            parts[0].df,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the points: that of means, variances and targets."""
        return tuple(self.means.shape[1:])

    def __getitem__(self, points: Any) -> Law:
        """The law at some points, chosen as from an array ``n`` or ``n x p``."""
        index = (slice(None), *points) if isinstance(points, tuple) else (slice(None), points)
        return Law(self.means[index], self.scales[index], self.weights[index], self.df)

    def affine(self, shift: ArrayLike, scale: ArrayLike) -> Law:
        """The law of shift + scale y: y in other units.

        Args:
            shift: a number, or one for each output.
            scale: positive; a number, or one for each output.

        Raises:
            ValueError: a scale is not positive, or shapes do not match.
        """
        factor, offset = (np.asarray(part, dtype=np.float64) for part in (scale, shift))
        if not (factor > 0).all():
            raise ValueError(f"scale must be positive, got {scale!r}")
        return Law(self.means * factor + offset, self.scales * factor, self.weights, self.df)

    @property
    def mean(self) -> Array:
        """Mean at each point."""
        return np.asarray((self.weights * self.means).sum(0))

    @property
    def variance(self) -> Array:
        """Variance at each point: mean of the variances plus variance of the means."""
        inner = self.scales**2 * self._standard.variance
        return np.asarray((self.weights * (inner + (self.means - self.mean) ** 2)).sum(0))

    @property
    def std(self) -> Array:
        """Standard deviation at each point."""
        deviations = self.scales * math.sqrt(self._standard.variance)
        if len(self.means) == 1:
            return np.asarray(deviations[0])
        return centre_and_spread(self.means, deviations, self.weights)[1]

    @property
    def _standard(self) -> Standard:
        return standard(self.df)

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Central intervals: lower and upper bounds at each point.

        Args:
            level: probability of the interval; each tail has half of the rest.

        Raises:
            ValueError: ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1 or (1 + level) / 2 == 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def quantile(self, q: ArrayLike) -> Array:
        """Quantiles at each point, to near machine precision.

        Args:
            q: a probability, or an array of ``k``, between 0 and 1.

        Returns:
            The shape of the points, with one more axis of ``k`` at the end for an array.

        Raises:
            ValueError: a level is not between 0 and 1.
        """
        levels = np.asarray(q, dtype=np.float64)
        if levels.ndim > 1 or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"quantiles must be numbers between 0 and 1, got {q!r}")
        found = np.empty((*self.shape, levels.size))
        flat = found.reshape(math.prod(self.shape), levels.size)
        for rows, part in self._slices():
            for k, level in enumerate(levels.ravel()):
                flat[rows, k] = part._inverse(np.broadcast_to(level, part.shape))
        return found[..., 0] if levels.ndim == 0 else found

    def inverse_cdf(self, p: ArrayLike) -> Array:
        """The value below which y lies with probability ``p``, at each point.

        Args:
            p: one probability for each point, or a number for all: as ``quantile``, but each point
                has its own. 0 gives -inf and 1 inf.

        Raises:
            ValueError: a probability is not between 0 and 1, or ``p`` has another shape.
        """
        levels = np.asarray(p, dtype=np.float64)
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"p must be between 0 and 1, got {p!r}")
        inside = (levels > 0) & (levels < 1)
        found = self._at(np.where(inside, levels, 0.5), Law._inverse)
        return np.where(inside, found, np.where(levels > 0.5, np.inf, -np.inf))

    def cdf(self, y: ArrayLike) -> Array:
        """P(Y <= y) at each point.

        Args:
            y: one value for each point, or a number for all.

        Raises:
            ValueError: ``y`` has another shape.
        """
        return self._at(y, Law._cdf)

    def log_density(self, y: ArrayLike) -> Array:
        """Log density at each point, in nats; inf at a point mass, -inf where there is no density.

        Args:
            y: one value for each point, or a number for all.

        Raises:
            ValueError: ``y`` has another shape.
        """
        return self._at(y, Law._log_density)

    def crps(self, y: ArrayLike) -> Array:
        """Continuous ranked probability score at each point, in the units of y: 0 is perfect.

        E|Y - y| - E|Y - Y'| / 2 with Y and Y' independent (Gneiting & Raftery 2007, eq. 21).

        Args:
            y: one value for each point, or a number for all.

        Raises:
            ValueError: ``y`` has another shape.
        """
        return self.mean_distance(y) - self.mean_difference / 2

    def mean_distance(self, y: ArrayLike) -> Array:
        """E|Y - y| at each point, in the units of y.

        Closed forms of normal laws (Grimit et al. 2006) and Student-t laws (Jordan, Krueger & Lerch
        2019).

        Args:
            y: one value for each point, or a number for all.

        Raises:
            ValueError: ``y`` has another shape.
        """
        return self._at(y, Law._mean_distance)

    @property
    def mean_difference(self) -> Array:
        """E|Y - Y'| at each point for independent Y and Y', in the units of y.

        A closed form for normal laws (Grimit et al. 2006). Mixtures of Student-t laws are
        interpolated, with errors below 2e-9 of the largest scale.
        """
        return self._at(0.0, Law._mean_difference)

    def sample(self, n: int, random_state: Any = 0) -> Array:
        """Independent draws at each point, ``n x`` the shape of the points.

        Args:
            n: number of draws.
            random_state: a seed or a generator, as for ``numpy.random.default_rng``.

        Raises:
            ValueError: ``n`` is no such number.
        """
        check_integer("n", n, least=0)
        random = np.random.default_rng(random_state)
        size = (n, *self.shape)
        white = self._standard.draw(random, size)
        if len(self.means) == 1:
            return np.asarray(self.means[0] + self.scales[0] * white)
        chosen, reach = random.random(size), np.cumsum(self.weights, axis=0)
        member = np.zeros(size, dtype=np.intp)
        for edge in reach / reach[-1]:
            member += chosen >= edge
        mean, scale = (np.take_along_axis(part, member, 0) for part in (self.means, self.scales))
        return np.asarray(mean + scale * white)

    def _slices(self) -> Iterator[tuple[slice, Law]]:
        """The law with its points in one axis, in slices that bound the memory."""
        members, points = len(self.means), math.prod(self.shape)
        m, s, w = (
            part.reshape(members, points) for part in (self.means, self.scales, self.weights)
        )
        step = max(1, _SLICE // members)
        for start in range(0, points, step):
            rows = slice(start, start + step)
            yield rows, Law(m[:, rows], s[:, rows], w[:, rows], self.df)

    def _at(self, y: ArrayLike, function: Callable[[Law, Array], Array]) -> Array:
        """Evaluate a function of a law and one value for each of its points, slice by slice."""
        values = np.asarray(y, dtype=np.float64)
        if values.shape not in ((), self.shape):
            raise ValueError(
                f"values of shape {values.shape} do not match predictions of shape {self.shape}"
            )
        flat = np.broadcast_to(values, self.shape).ravel()
        found = np.empty(flat.shape)
        for rows, part in self._slices():
            found[rows] = function(part, flat[rows])
        return found.reshape(self.shape)

    def _inverse(self, p: Array) -> Array:
        return mixture_quantile(self._standard, self.means, self.scales, self.weights, p)

    def _cdf(self, y: Array) -> Array:
        gap = y - self.means
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(self.scales > 0, gap / self.scales, np.where(gap < 0, -np.inf, np.inf))
        return np.asarray((self.weights * self._standard.cdf(z)).sum(0))

    def _log_density(self, y: Array) -> Array:
        gap = y - self.means
        with np.errstate(divide="ignore", invalid="ignore"):
            each = self._standard.log_density(gap / self.scales) - np.log(self.scales)
            each = np.where(self.scales > 0, each, np.where(gap == 0, np.inf, -np.inf))
            each = np.where(self.weights > 0, each + np.log(self.weights), -np.inf)
        if len(each) == 1:
            return each[0]
        with np.errstate(invalid="ignore"):  # infinite values
            return np.asarray(np.logaddexp.reduce(each, axis=0))

    def _mean_distance(self, y: Array) -> Array:
        each = self._standard.mean_distance(y - self.means, self.scales)
        return np.asarray((self.weights * each).sum(0))

    def _mean_difference(self, _: Array) -> Array:
        w, m, s = self.weights, self.means, self.scales
        total = (w**2 * s).sum(0) * self._standard.self_difference
        for k in range(1, len(m)):
            apart = self._standard.mean_difference(m[k:] - m[:-k], s[k:], s[:-k])
            total += 2 * (w[k:] * w[:-k] * apart).sum(0)
        return np.asarray(total)


def _one(mean: ArrayLike, scale: ArrayLike) -> tuple[Array, Array]:
    """Broadcast to one shape with an axis of one member in front."""
    both = np.broadcast_arrays(
        np.asarray(mean, dtype=np.float64), np.asarray(scale, dtype=np.float64)
    )
    return both[0][None], both[1][None]


def _normalised(weights: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Weights of this shape with a sum of 1 over the first axis."""
    w = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("weights must be finite and not negative")
    try:
        w = w.reshape(w.shape + (1,) * (len(shape) - w.ndim))
        w = np.broadcast_to(w, (shape[0], *w.shape[1:]))
        whole = np.broadcast_to(w, shape)
    except ValueError:
        raise ValueError(
            f"weights of shape {np.shape(weights)} do not match means of shape {shape}"
        ) from None
    largest = w.max(0)
    if not (largest > 0).all():
        raise ValueError("weights must have a positive sum at every point")
    if len(w) == 1:
        return np.broadcast_to(1.0, shape)
    w = w / largest  # sums of numbers far from 1 overflow
    return np.broadcast_to(w / w.sum(0), whole.shape)
