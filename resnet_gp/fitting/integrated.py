"""Exact inference with the hyperparameters, and the choice of the kernel, integrated out."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.exact import Exact, conditioned, restored_model
from resnet_gp.fitting.importance import Weights, resample
from resnet_gp.fitting.inference import Fitted, Inference, Training, number_of, with_row_tensors
from resnet_gp.fitting.modes import Mode, all_raw, around, find_modes, higher, most_probable
from resnet_gp.fitting.optimiser import FitResult, Hyperparameters, set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.mixture import ExactMixture
from resnet_gp.threads import each_serially

Array = NDArray[np.float64]

_DRAWS = 200  # under each kernel
# Members of the fitted mixture; predictions cost as many times those of one posterior.
_MEMBERS = 16
_BYTES = 2**30  # of the members' factors
_SEARCHES = 2  # for a higher mode
# A kernel whose evidence is smaller by this many nats, in Laplace's approximation, gets no draws.
_HOPELESS = 10.0


class Evidence(NamedTuple):
    """What the draws say about one kernel.

    Attributes:
        log_evidence: log p(y | kernel) of the standardised targets, in nats.
        probability: of the kernel, for equal prior probabilities.
        effective_draws: 1 / sum of squared weights.
        pareto_k: shape of the tail of the weights; above .7 they are carried by few draws.

    A kernel without draws is ``RULED_OUT``.
    """

    log_evidence: float
    probability: float
    effective_draws: float
    pareto_k: float


RULED_OUT = Evidence(-math.inf, 0.0, math.nan, math.nan)


@dataclass(frozen=True)
class IntegratedFit(Fitted):
    """A fit whose posterior is a mixture over draws; its model is at the most probable mode.

    Attributes:
        evidence: of each kernel of the search, in order.
        members: number of the kernel, and all raw parameters, of each member.
    """

    evidence: tuple[Evidence, ...] = field(kw_only=True)
    members: tuple[tuple[int, Array], ...] = field(kw_only=True)

    @property
    def num_optimised(self) -> int:
        return 0

    @property
    def attributes(self) -> dict[str, Any]:
        columns = np.transpose(self.evidence)
        return {f"{name}_": column for name, column in zip(Evidence._fields, columns, strict=True)}

    def tensors(self) -> dict[str, Tensor]:
        raw = {f"members.raw.{i}": torch.from_numpy(raw) for i, (_, raw) in enumerate(self.members)}
        return super().tensors() | raw | {
            "evidence": torch.tensor(self.evidence, dtype=torch.float64),
            "members.kernel": torch.tensor([number for number, _ in self.members]),
        }  # fmt: skip


@dataclass(frozen=True)
class _Drawn:
    mode: Mode
    laplace: float
    raws: Array
    weights: Weights


class Integrated(Inference):
    """Average over the posterior of the hyperparameters by importance sampling.

    Under each kernel, draws come from a Student law around the mode, as wide as the curvature of
    the posterior says, and are weighted by the posterior over that law. The mean weight estimates
    the kernel's evidence; kernels count by it. A few draws, resampled by their weights, stay as
    members of the mixture.
    """

    name = Exact.name
    reweighs_rows = True

    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        """Average over draws.

        The mode is the result if Ctrl-C comes before they are done, or if the covariance can be
        factorised at the mode and nowhere around it.
        """
        modes = find_modes(training.sample(search.max_samples), search, known)
        if modes[-1].result.interrupted:
            return conditioned(most_probable(modes), training)
        best = max(modes, key=lambda mode: mode.result.value)
        try:
            drawn = _draw(modes)
            return _mixture(drawn, training, search) if drawn else conditioned(best, training)
        except KeyboardInterrupt:
            return conditioned(replace(best, result=best.result.as_interrupted()), training)

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        if "evidence" not in tensors:  # interrupted before the draws were done
            return Exact().restore(training, search, tensors)
        each, number = search.each(), number_of(tensors)
        model = restored_model(training, each[number], tensors)
        evidence = tuple(Evidence(*row) for row in tensors["evidence"].tolist())
        numbers = tensors["members.kernel"].tolist()
        members = tuple(
            (int(one), tensors[f"members.raw.{i}"].cpu().numpy()) for i, one in enumerate(numbers)
        )
        rows = with_row_tensors(training, tensors)
        models = [_model(each[one], rows, raw) for one, raw in members]
        posterior = ExactMixture.from_tensors(models, tensors)
        result = FitResult.not_searched()
        return IntegratedFit(model, posterior, result, number, evidence=evidence, members=members)


def _draw(modes: list[Mode]) -> list[_Drawn]:
    """Weighted draws under each kernel that is not hopeless, and not impossible near its mode."""
    drawn: list[_Drawn] = []
    for mode in sorted(modes, key=lambda mode: -mode.result.value):
        best = max((one.laplace for one in drawn), default=-math.inf)
        with suppress(*IMPOSSIBLE, FloatingPointError):
            found = _draw_around(mode, best - _HOPELESS, _SEARCHES)
            if found is not None:
                drawn.append(found)
    return drawn


def _draw_around(mode: Mode, least: float, searches: int) -> _Drawn | None:
    """Draws from a law at the mode, or None if Laplace's approximation is below ``least``.

    If a draw is likelier than the mode, the mode to which it leads takes its place.
    """
    with around(mode) as (posterior, proposal):
        laplace = proposal.log_evidence(mode.result.value)
        if laplace < least:
            return None
        raws, density = proposal.draw(_DRAWS, mode.search.generator)
        values = posterior.values(raws)
    if searches and values.max() > mode.result.value:
        return _draw_around(higher(mode, raws[values.argmax()]), least, searches - 1)
    return _Drawn(mode, laplace, raws, Weights.smoothed(values - density))


def _mixture(drawn: list[_Drawn], training: Training, search: Search) -> IntegratedFit:
    evidence = np.array([one.weights.log_evidence for one in drawn])
    probability = np.exp(evidence - np.logaddexp.reduce(evidence))
    count = int(max(1, min(_MEMBERS, _BYTES // (8 * len(training) ** 2))))
    pooled = np.concatenate(
        [p * one.weights.normalised for p, one in zip(probability, drawn, strict=True)]
    )
    owners = np.repeat(np.arange(len(drawn)), [len(one.raws) for one in drawn])
    places = np.concatenate([np.arange(len(one.raws)) for one in drawn])
    shares = Counter(resample(pooled, count, search.generator).tolist())
    members, models = [], []
    for index in shares:
        one = drawn[owners[index]]
        raw = all_raw(one.mode.model, one.raws[places[index]])
        members.append((one.mode.number, raw))
        models.append(_model(one.mode.search, training, raw))
    posteriors = each_serially(ExactRegression.posterior, models)
    best = drawn[int(evidence.argmax())].mode
    found = [RULED_OUT] * (1 + len(search.others))
    for one, p in zip(drawn, probability, strict=True):
        w = one.weights
        found[one.mode.number] = Evidence(w.log_evidence, float(p), w.effective_draws, w.pareto_k)
    fit = conditioned(best, training)
    counts = training.y.new_tensor(list(shares.values()))
    return IntegratedFit(
        fit.model,
        ExactMixture(posteriors, counts / counts.sum()),
        fit.result,
        fit.number,
        evidence=tuple(found),
        members=tuple(members),
    )


def _model(search: Search, training: Training, raw: Array) -> ExactRegression:
    """A model at one draw, which needs no priors."""
    model = replace(search, with_priors=False).exact_model(training)
    set_raw(model, raw)
    return model
