"""Inference from nearest neighbours, for any number of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from resnet_gp.fitting.inference import (
    Fitted,
    Inference,
    Training,
    number_of,
    with_parameters,
    with_row_tensors,
)
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import find_modes
from resnet_gp.fitting.optimiser import (
    FitResult,
    Hyperparameters,
    Outcome,
    get_raw,
    set_raw,
)
from resnet_gp.fitting.search import Search
from resnet_gp.models.nearest import TRAINING_ROWS, NearestRegression, sample_rows
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.posterior import to_array
from resnet_gp.models.regression import RegressionModel
from resnet_gp.predictive.local_scale import LocalScale

# Rows of the exact fits from which the search starts.
_FIRST_ROWS = 600
# Searches of this many iterations, between which neighbours are looked up again.
_ROUNDS, _ITERATIONS = 2, 25
# Rows, no training rows where there are enough, whose left-out predictions choose among models.
_CHOICE_ROWS, _CHOICE_NEIGHBORS, _MOST = 1000, 128, 400
# Numbers of neighbours to choose from, the first within this share of the best one's score.
_NEIGHBORS, _WITHIN = (64, 128, 256, 400), 0.003


class RowSource(ABC):
    """What the fit needs of standardised training rows, wherever they are."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, size: int) -> Training:
        """The rows that ``Training.sample`` draws."""

    @abstractmethod
    def model(self, spec: KernelSpec) -> NearestRegression:
        """A model of all rows; its number of neighbours and its local scale are set later."""


@dataclass(frozen=True)
class _Here(RowSource):
    training: Training

    def __len__(self) -> int:
        return len(self.training)

    def sample(self, size: int) -> Training:
        return self.training.sample(size)

    def model(self, spec: KernelSpec) -> NearestRegression:
        rows = self.training
        kernel, known = spec.build(rows.x.shape[1]), (rows.extra_variance, rows.sample_weight)
        return NearestRegression(rows.x, rows.y, kernel, 1, None, *known)


@dataclass(frozen=True)
class Nearest(Inference):
    """Each target given its nearest rows, in passes over a sample of the rows.

    Exact fits of each kernel to 600 rows come first. From there the density of left-out rows is
    maximised under normal laws. The local scale of targets is fitted to other left-out rows, and
    the kernel with the least mean CRPS of these is taken. Maximised together with the kernel, it
    gave no better CRPS on kin40k, a worse one on protein, and none of use on pol, where many
    targets repeat and a density rewards whatever repeats them.

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
        return self.fit_to(_Here(training), search, known)

    def fit_to(
        self, source: RowSource, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        """``fit``, with rows that may be elsewhere."""
        found = self._learn_from(source, search, known)
        model, posterior = found.model, found.model.posterior()
        numbers = _NEIGHBORS if self.n_neighbors is None else (self.n_neighbors,)
        scores = {
            k: self._score(posterior.but(n_neighbors=k))
            for k in dict.fromkeys(min(number, len(source)) for number in numbers)
        }
        enough = (1 + _WITHIN) * min(score for score, _ in scores.values())
        model.n_neighbors = next(k for k, (score, _) in scores.items() if score <= enough)
        model.local_scale = scores[model.n_neighbors][1]
        posterior = posterior.but(n_neighbors=model.n_neighbors, local_scale=model.local_scale)
        return Fitted(model, posterior, found.result, found.number)

    def learn(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Learned:
        """Choose kernel and hyperparameters; arguments and errors as for ``fit``."""
        return self._learn_from(_Here(training), search, known)

    def _learn_from(
        self, source: RowSource, search: Search, known: Hyperparameters | None
    ) -> Learned:
        if known is None and search.checkpoint is not None and not search.fixed:
            known = _stored(search)
        candidates = list(self._candidates(source, search, known))
        best = min(candidates, key=lambda one: one.score)
        if any(one.result.interrupted for one in candidates):
            return replace(best, result=best.result.but_interrupted())
        return best

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        number = number_of(tensors)
        source = _Here(with_row_tensors(training, tensors))
        model = _model(source, search.each()[number])
        with_parameters(model, tensors)
        model.n_neighbors = int(tensors["n_neighbors"])
        model.local_scale = LocalScale.from_tensors(tensors)
        return Fitted(model, model.posterior(), FitResult.not_searched(), number)

    def _candidates(
        self, source: RowSource, search: Search, known: Hyperparameters | None
    ) -> Iterator[Learned]:
        """Models to choose from; after Ctrl-C, the last one is at the best point so far."""
        some = source.sample(_FIRST_ROWS)
        starting = replace(search, checkpoint=None, fixed=search.fixed or known is not None)
        modes = find_modes(some, starting, known)
        for mode in modes:
            model = _model(source, mode.search)
            copy_hyperparameters(mode.model, model)
            own = replace(search.each()[mode.number], fixed=search.fixed)
            if search.fixed or mode.result.interrupted:
                yield self._candidate(model, mode.result, mode.number)
                return
            result = learn(model, own)
            yield self._candidate(model, result, mode.number)
            if result.interrupted:
                return

    def _candidate(self, model: NearestRegression, result: FitResult, number: int) -> Learned:
        k = min(_CHOICE_NEIGHBORS if self.n_neighbors is None else self.n_neighbors, _MOST)
        posterior = model.posterior()
        score, _ = self._score(posterior.but(n_neighbors=min(k, len(posterior.rows))))
        return Learned(model, result, number, score)

    def _score(self, posterior: NearestPosterior) -> tuple[float, LocalScale]:
        """Mean CRPS of left-out targets, and the local scale that was fitted to them."""
        rows = sample_rows(len(posterior.rows), _CHOICE_ROWS, before=TRAINING_ROWS)
        left_out = posterior.left_out(rows)
        scale = LocalScale.fit(to_array(left_out.z)) if self.student else LocalScale()
        law = posterior.but(local_scale=scale).law_of(left_out, rows)
        return float(law.crps(posterior.targets(rows)).mean()), scale


@dataclass(frozen=True)
class Learned:
    """A fitted model, the result of its search, its kernel's number and its mean CRPS."""

    model: NearestRegression
    result: FitResult
    number: int
    score: float


def learn(model: NearestRegression, search: Search) -> FitResult:
    """Maximise the density of the sampled rows, and look up their neighbours now and then."""
    rows = min(model.training_rows, len(model.rows()))
    for _ in range(_ROUNDS):
        model.look_up()
        shorter = search.at_most(_ITERATIONS)
        start = get_raw(model)
        try:
            result = shorter.maximise(model, [start], keep=True, unit=rows)
        except KeyboardInterrupt:
            set_raw(model, start)
            return FitResult.not_searched().but_interrupted()
        if result.interrupted:
            break
    if result.outcome is Outcome.OUT_OF_ITERATIONS and search.max_iter is None:
        return replace(result, outcome=Outcome.CUT_SHORT)
    return result


def copy_hyperparameters(source: RegressionModel, target: RegressionModel) -> None:
    """Set those of the kernel and the noise to the ones of another model."""
    own = dict(source.named_parameters())
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            parameter.copy_(own[name])


def _model(source: RowSource, search: Search) -> NearestRegression:
    model = source.model(search.spec)
    search.prepare(model)
    return model


def _stored(search: Search) -> Hyperparameters | None:
    """The hyperparameters that a checkpoint keeps, of whichever kernel."""
    parts = [one.checkpoint.read() for one in search.each() if one.checkpoint is not None]
    return next((known for known in parts if known is not None), None)
