"""Inference from nearest neighbours, for any number of rows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.inference import (
    Fitted,
    Inference,
    Training,
    number_of,
    with_row_tensors,
)
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import Mode, find_modes, most_probable
from resnet_gp.fitting.optimiser import (
    FitResult,
    Hyperparameters,
    Outcome,
    get_raw,
    set_raw,
)
from resnet_gp.fitting.search import Search
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.models.nearest import TRAINING_ROWS, NearestRegression, sample_rows
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.posterior import to_array
from resnet_gp.models.regression import with_parameters
from resnet_gp.predictive.local_scale import LocalScale

Array = NDArray[np.float64]

# Rows of the exact fits from which the search starts, and up to which it also ends there.
_FIRST_ROWS = _FEW_ROWS = 600
# Searches of this many iterations, between which neighbours are looked up again; more searches if
# more iterations are asked for.
_ROUNDS, _ITERATIONS = 2, 25
# Rows, no training rows where there are enough, whose left-out predictions choose among models.
_CHOICE_ROWS, _CHOICE_NEIGHBORS, _MOST = 1000, 128, 400
# Numbers of neighbours to choose from, the first within this share of the best one's score.
_NEIGHBORS, _WITHIN = (64, 128, 256, 400), 0.003
# Rows that choose hyperparameters where each entry is integrated by itself. Then neighbours are
# as many as the first of the numbers below.
_INTEGRATED_ROWS = 250
# Beyond these rows neighbours are near and predictions many: not more than these neighbours.
_MANY_ROWS, _MOST_OF_MANY = 200_000, 256


class RowSource(ABC):
    """What the fit needs of standardised training rows, wherever they are."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, size: int) -> Training:
        """The rows that ``Training.sample`` draws."""

    @abstractmethod
    def turned(self, directions: Array) -> RowSource:
        """The same rows with inputs along other directions, ``d x d``."""

    @abstractmethod
    def model(self, spec: KernelSpec) -> NearestRegression:
        """A model of all rows; its number of neighbours and its local scale are set later."""


@dataclass(frozen=True)
class Here(RowSource):
    """Rows of this process."""

    training: Training

    def __len__(self) -> int:
        return len(self.training)

    def sample(self, size: int) -> Training:
        return self.training.sample(size)

    def turned(self, directions: Array) -> Here:
        x = self.training.x
        return Here(replace(self.training, x=x @ x.new_tensor(directions)))

    def model(self, spec: KernelSpec) -> NearestRegression:
        rows = self.training
        kernel, known = spec.build(rows.x.shape[1]), (rows.extra_variance, rows.sample_weight)
        return NearestRegression(rows.x, rows.y, kernel, 1, None, *known)


@dataclass(frozen=True)
class Nearest(Inference):
    """Each target given its nearest rows, in passes over a sample of the rows.

    Exact fits of each kernel to 600 rows come first. If there are more, the density of left-out
    rows is maximised from there under normal laws; that of few rows fits noise. The local scale of
    targets is fitted to other left-out rows, and the kernel with the least mean CRPS of these is
    taken. Maximised together with the kernel, it gave no better CRPS on kin40k, a worse one on
    protein, and none of use on pol, where many targets repeat and a density rewards whatever
    repeats them.

    Attributes:
        n_neighbors: neighbours of a prediction; None for a number that the left-out rows choose.
        student: whether targets have a ``LocalScale``, or normal laws.
    """

    n_neighbors: int | None = None
    student: bool = True

    name = "nearest"
    leaves_rows_out = True

    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        return self.fit_to(Here(training), search, known)

    def fit_to(
        self, source: RowSource, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        """``fit``, with rows that may be elsewhere."""
        best = self.learn_from(source, search, known)
        model, interrupted = best.model, best.result.interrupted
        counts = self._counts(len(source), search.each()[best.number].spec)
        scores = {best.n_neighbors: (best.score, best.local_scale)}
        posterior = None
        try:
            posterior = model.posterior()
            for k in counts if not interrupted else ():
                if k not in scores:
                    scores[k] = self._score(posterior.replace(n_neighbors=k))
        except KeyboardInterrupt:
            interrupted = True
        found = [k for k in counts if k in scores]
        least = min((scores[k][0] for k in found), default=math.inf)
        model.n_neighbors, model.local_scale = next(
            ((k, scores[k][1]) for k in found if scores[k][0] <= (1 + _WITHIN) * least),
            (counts[0], best.local_scale),
        )
        if self.n_neighbors is not None:
            model.n_neighbors = self.n_neighbors  # of which there may be enough later
        result = best.result.as_interrupted() if interrupted else best.result
        if posterior is None:
            posterior = model.posterior()
        posterior = posterior.replace(n_neighbors=model.n_neighbors, local_scale=model.local_scale)
        return Fitted(model, posterior, result, best.number)

    def _counts(self, n: int, spec: KernelSpec) -> list[int]:
        """Numbers of neighbours to choose from, for this number of rows."""
        if self.n_neighbors is not None:
            return [min(self.n_neighbors, n)]
        if spec.is_integrated:
            return [min(_NEIGHBORS[0], n)]
        most = n if n <= _MANY_ROWS else _MOST_OF_MANY
        return sorted({min(k, most) for k in _NEIGHBORS})

    def learn(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Learned:
        """Choose kernel and hyperparameters; arguments and errors as for ``fit``."""
        return self.learn_from(Here(training), search, known)

    def learn_from(
        self, source: RowSource, search: Search, known: Hyperparameters | None = None
    ) -> Learned:
        """``learn``, with rows that may be elsewhere."""
        candidates = list(self._candidates(source, search, known))
        best = min(candidates, key=lambda one: one.score)
        if any(one.result.interrupted for one in candidates):
            return replace(best, result=best.result.as_interrupted())
        return best

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        number = number_of(tensors)
        source = Here(with_row_tensors(training, tensors))
        model = _model(source, search.each()[number])
        with_parameters(model, tensors)
        model.n_neighbors = int(tensors["n_neighbors"])
        model.local_scale = LocalScale.from_tensors(tensors)
        posterior = model.posterior(tensors["neighbour_widths"])
        return Fitted(model, posterior, FitResult.not_searched(), number)

    def _candidates(
        self, source: RowSource, search: Search, known: Hyperparameters | None
    ) -> Iterator[Learned]:
        """Models to choose from; after Ctrl-C, the last one is at the best point so far.

        A kernel that cannot be computed is left out, if there are others.
        """
        found, failure, few = 0, None, len(source) <= _FEW_ROWS
        first = source.sample(_FIRST_ROWS)
        for mode in (_modes if few else _starts)(first, search, known):
            model, result = _model(source, mode.search), mode.result
            set_raw(model, get_raw(mode.model))
            try:
                if not (few or search.fixed or result.interrupted):
                    result = learn(model, search.each()[mode.number], result)
                candidate = self._candidate(model, result, mode)
            except IMPOSSIBLE as error:
                failure = error
                continue
            found += 1
            yield candidate
            if candidate.result.interrupted:
                return
        if failure is not None and not found:
            raise failure

    def _candidate(self, model: NearestRegression, result: FitResult, mode: Mode) -> Learned:
        usual = _NEIGHBORS[0] if mode.search.spec.is_integrated else _CHOICE_NEIGHBORS
        k = min(usual if self.n_neighbors is None else self.n_neighbors, _MOST, len(model.rows()))
        try:
            score, scale = self._score(model.posterior().replace(n_neighbors=k))
        except KeyboardInterrupt:
            score, scale, result = math.inf, LocalScale(), result.as_interrupted()
        return Learned(model, result, mode.number, k, score, scale)

    def _score(self, posterior: NearestPosterior) -> tuple[float, LocalScale]:
        """Mean CRPS of left-out targets, and the local scale that was fitted to them."""
        rows = sample_rows(len(posterior.rows), _CHOICE_ROWS, before=TRAINING_ROWS)
        left_out = posterior.left_out(rows)
        scale = LocalScale.fit(to_array(left_out.z)) if self.student else LocalScale()
        law = posterior.replace(local_scale=scale).law_of(left_out, rows)
        return float(law.crps(posterior.targets(rows)).mean()), scale


@dataclass(frozen=True)
class Learned:
    """A fitted model, the result of its search, and how well it predicts left-out rows.

    Attributes:
        model, result: of the search.
        number: of the kernel.
        n_neighbors: of the left-out predictions.
        score: their mean CRPS; infinite if Ctrl-C came before it was known.
        local_scale: fitted to them.
    """

    model: NearestRegression
    result: FitResult
    number: int
    n_neighbors: int
    score: float
    local_scale: LocalScale


def _modes(training: Training, search: Search, known: Hyperparameters | None) -> list[Mode]:
    """Exact fits of each kernel, or the best so far after Ctrl-C."""
    modes = find_modes(training, search, known)
    return [most_probable(modes)] if any(mode.result.interrupted for mode in modes) else modes


def _starts(training: Training, search: Search, known: Hyperparameters | None) -> Iterator[Mode]:
    """Where each kernel's learning starts: at what a checkpoint holds of it, or an exact fit.

    ``known`` hyperparameters are those of one kernel, and leave the others out.
    """
    each, stored = search.each(), {}
    if known is None and not search.fixed:
        stored = {
            number: kept
            for number, one in enumerate(each)
            if one.checkpoint is not None and (kept := one.checkpoint.read()) is not None
        }
    search = replace(search, checkpoint=None, fixed=search.fixed or known is not None)
    if not stored:
        yield from _modes(training, search, known)
        return
    for number, one in enumerate(each):
        alone = replace(one, checkpoint=None, fixed=number in stored)
        (mode,) = find_modes(training, alone, stored.get(number))
        yield replace(mode, number=number)


def learn(model: NearestRegression, search: Search, result: FitResult | None = None) -> FitResult:
    """Maximise the density of the sampled rows, and look up their neighbours now and then.

    Args:
        model: is left at the best point.
        search: of its kernel.
        result: of the search which led to the start, if there was one.
    """
    result = FitResult.not_searched() if result is None else result
    rows = min(model.training_rows, len(model.rows()))
    left, rounds = search.max_iter, 0
    while rounds < _ROUNDS if left is None else left > 0:
        start, allowed = get_raw(model), _ITERATIONS if left is None else min(left, _ITERATIONS)
        try:
            model.look_up()
            found = search.at_most(allowed).maximise(model, [start], keep=True, unit=rows)
        except KeyboardInterrupt:
            set_raw(model, start)
            return result.as_interrupted()
        finally:
            model.forget()
        result = found.after(result) if rounds else found
        rounds += 1
        if left is not None:
            left -= max(1, found.iterations)
        if result.interrupted or (result.converged and rounds >= _ROUNDS):
            break
    if result.outcome is Outcome.OUT_OF_ITERATIONS and search.max_iter is None:
        return replace(result, outcome=Outcome.CUT_SHORT)
    return result


def _model(source: RowSource, search: Search) -> NearestRegression:
    model = source.model(search.spec)
    search.prepare(model)
    if search.spec.is_integrated:
        model.training_rows = _INTEGRATED_ROWS
    return model
