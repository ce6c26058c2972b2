"""Sparse inference: Titsias' bound with inducing points that are chosen, then moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from resnet_gp.fitting.inference import (
    Fitted,
    Inference,
    Training,
    number_of,
    with_row_tensors,
)
from resnet_gp.fitting.modes import Mode, find_modes, most_probable
from resnet_gp.fitting.optimiser import (
    FitResult,
    Hyperparameters,
    Outcome,
    get_raw,
    set_raw,
)
from resnet_gp.fitting.search import Search
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.inducing import cluster_centres, greedy_inducing_points
from resnet_gp.models.regression import with_parameters
from resnet_gp.models.sparse import SparsePosterior, SparseRegression
from resnet_gp.models.sparse_noise import leave_one_out_noise

_POINTS = "inducing_points"
# Passes over all rows are dear, and inducing points could gain a little for ever.
_GAIN_PER_ROW = 1e-4
# A small sparse fit finds where the large one starts.
_PILOT_ROWS, _PILOT_INDUCING, _PILOT_ITERATIONS = 8000, 300, 30
# Inducing points are chosen among these rows; where there are many more, they move there first.
_SELECTION_ROWS = 10_000
_MANY_ROWS, _FIRST_MOVES = 20_000, 50
# Iterations with all of many rows, if none are asked for.
_LAST_MOVES = 25
# Rows whose held-out density chooses the noise.
_NOISE_ROWS = 5000
# Steps that the optimiser remembers where inducing points move: with ten, the bound of 500 points
# in 9000 rows is 240 nats worse after the same 100 iterations.
_MEMORY_OF_MOVES = 150


@dataclass(frozen=True)
class Sparse(Inference):
    """The collapsed bound on inducing points, in passes over all rows.

    An exact fit to ``max_samples`` rows comes first. From there a small sparse fit finds the
    hyperparameters for which the inducing points are chosen and at which the fit to all rows
    starts. If points are learned, they move with the hyperparameters, first on some of the rows
    where there are many.

    Attributes:
        n_inducing: number of inducing points, at most that of the rows.
        learn_inducing: whether the points move.
    """

    n_inducing: int
    learn_inducing: bool = True

    name = "sparse"

    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        model, result, number = self.fit_model(training, search, known)
        try:
            refine_noise(model, search, training)
        except KeyboardInterrupt:  # the noise that the bound chose will do
            result = result.as_interrupted()
        return Fitted(model, model.posterior(), result, number)

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        points, number = tensors[f"model.{_POINTS}"], number_of(tensors)
        model = _model(with_row_tensors(training, tensors), search.each()[number], points)
        with_parameters(model, tensors)
        posterior = SparsePosterior.from_tensors(model, tensors)
        return Fitted(model, posterior, FitResult.not_searched(), number)

    def fit_model(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> tuple[SparseRegression, FitResult, int]:
        """Maximise the bound; the noise is the bound's own, see ``refine_noise``.

        Also returns the number of the kernel: of several, the exact fit takes the most probable.

        Args:
            training: in standard units.
            search: how hyperparameters are chosen.
            known: hyperparameters, and inducing points if they are of this number, instead of
                those of the first fits.
        """
        if known is None and not search.fixed and (stored := _stored(search)) is not None:
            points, known = _split(stored, training)
        else:
            points, known = _split(known, training)
            points = points if points is not None and len(points) == self.n_inducing else None
        mode = self._first(training, search, known)
        first, result, search = mode.model, mode.result, search.each()[mode.number]
        to_move = points is None and self.learn_inducing and not search.fixed
        try:
            if known is None and not search.fixed and not result.interrupted:
                result = self._pilot(training, search, first)
            if points is None:
                points = _choose_points(training, first, self.n_inducing, to_move)
        except KeyboardInterrupt:  # some rows, at the hyperparameters of the fits that are done
            result = result.as_interrupted()
            if points is None:
                points = training.sample(self.n_inducing).x
        model = _model(training, search, points)
        set_raw(model, get_raw(first))
        if search.fixed or result.interrupted:
            return model, result, mode.number
        model.inducing_points.requires_grad_(self.learn_inducing)
        many = len(training) > _MANY_ROWS
        if to_move and many:
            result = _move(model, search, training.sample(_SELECTION_ROWS), result)
        if not result.interrupted:
            dear = many and self.learn_inducing and search.max_iter is None
            last = search.at_most(_LAST_MOVES) if dear else search
            result = _ascend(model, last, len(training), result, keep=True)
            if dear and result.outcome is Outcome.OUT_OF_ITERATIONS:
                result = replace(result, outcome=Outcome.CUT_SHORT)
        model.inducing_points.requires_grad_(False)
        return model, result, mode.number

    def _first(self, training: Training, search: Search, known: Hyperparameters | None) -> Mode:
        """An exact model of some rows at good hyperparameters, or at those that are known."""
        some = training.sample(search.max_samples)
        if known is not None:
            search = replace(search, fixed=True)
        return most_probable(find_modes(some, replace(search, checkpoint=None), known))

    def _pilot(self, training: Training, search: Search, first: ExactRegression) -> FitResult:
        """Fit a small sparse model and copy its hyperparameters into ``first``.

        An exact fit to few rows may take a rough kernel for the noise, which inducing points cannot
        represent. So its hyperparameters, with that noise or with its leave-one-out error as noise,
        are only two of the starts here.
        """
        exact = get_raw(first)
        error = first.train_targets - first.posterior().leave_one_out()[0]
        some = training.sample(_PILOT_ROWS)
        few = min(self.n_inducing, _PILOT_INDUCING)
        set_raw(first, search.starts(first)[0])  # points that favour none of the starts
        try:
            points = _choose_points(some, first, few, moving=False)
        finally:
            set_raw(first, exact)
        model = _model(some, search, points)
        starts = [*search.starts(model), exact]
        if model.likelihood.noise_covar.raw_noise.requires_grad:
            set_raw(model, exact)
            model.likelihood.noise = float(error.square().mean().clamp(1e-6, 1.0))
            starts.append(get_raw(model))
        shorter = search.at_most(_PILOT_ITERATIONS) if self.learn_inducing else search
        result = shorter.maximise(model, starts, unit=len(some))
        set_raw(first, get_raw(model))
        return result


def _stored(search: Search) -> Hyperparameters | None:
    """The hyperparameters that a checkpoint keeps, of the kernel that was chosen."""
    for number, one in enumerate(search.each()):
        if one.checkpoint is not None and (known := one.checkpoint.read()) is not None:
            return known | {"kernel": torch.tensor(number)}
    return None


def _split(
    known: Hyperparameters | None, training: Training
) -> tuple[Tensor | None, Hyperparameters | None]:
    """Inducing points, if there are any for these inputs, and hyperparameters."""
    if known is None:
        return None, None
    known = dict(known)
    points = known.pop(_POINTS, None)
    if points is None or points.shape[1] != training.x.shape[1]:
        return None, known
    return points.to(training.x), known


def refine_noise(model: SparseRegression, search: Search, training: Training) -> None:
    """Set a learned noise to the one that held-out rows favour, see ``leave_one_out_noise``.

    Args:
        model: fitted to these rows, or to more rows of the same data.
        search: of the fit.
        training: the rows.
    """
    raw = model.likelihood.noise_covar.raw_noise
    if search.fixed or not raw.requires_grad:
        return
    some = training.sample(_NOISE_ROWS)
    model.likelihood.noise = leave_one_out_noise(
        model,
        some.x,
        some.y,
        some.extra_variance,
        some.sample_weight,
        model.least_noise[raw.dtype],
    )


def _choose_points(
    training: Training, at: ExactRegression, num_inducing: int, moving: bool
) -> Tensor:
    """Greedy inducing points among some rows, for the hyperparameters of ``at``.

    Points that will move are chosen among the centres of as many clusters; this leaves out centres
    that the others determine.
    """
    rows = training.sample(max(num_inducing, _SELECTION_ROWS)).x
    if moving:
        rows = cluster_centres(rows, num_inducing)
    with torch.no_grad():
        chosen = greedy_inducing_points(at.covar_module, rows, min(num_inducing, len(rows)))
    return rows[chosen]


def _model(training: Training, search: Search, points: Tensor) -> SparseRegression:
    kernel = search.spec.build(training.x.shape[1])
    model = SparseRegression(
        training.x, training.y, kernel, points, training.extra_variance, training.sample_weight
    )
    search.prepare(model)
    return model


def _move(model: SparseRegression, search: Search, some: Training, before: FitResult) -> FitResult:
    """Optimise on a subset for a few iterations, then copy the result into ``model``."""
    smaller = _model(some, search, model.inducing_points)
    smaller.inducing_points.requires_grad_(True)
    set_raw(smaller, get_raw(model))
    result = _ascend(smaller, search.at_most(_FIRST_MOVES), len(some), before)
    set_raw(model, get_raw(smaller))
    return result


def _ascend(
    model: SparseRegression, search: Search, rows: int, before: FitResult, keep: bool = False
) -> FitResult:
    """Maximise from the current parameters; restore them if interrupted before the first value."""
    start = get_raw(model)
    options: dict[str, Any] = (
        {"memory": _MEMORY_OF_MOVES} if model.inducing_points.requires_grad else {}
    )
    try:
        return search.maximise(
            model, [start], keep=keep, least_gain=_GAIN_PER_ROW * rows, unit=rows, **options
        )
    except KeyboardInterrupt:
        set_raw(model, start)
        return before.as_interrupted()
