"""Exact inference averaged over draws of the hyperparameters, behind the protocol of inference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.gp_regression import GPRegression, each
from resnet_gp.bayes.hyperparameters import current_hyperparameters
from resnet_gp.bayes.nuts import run_nuts
from resnet_gp.fitting.exact import Exact, restored_model
from resnet_gp.fitting.inference import Fitted, Inference, Training, number_of
from resnet_gp.fitting.optimiser import FitResult, Hyperparameters, get_raw, set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.mixture import ExactMixture
from resnet_gp.threads import each_serially, threads_for

# Members of the mixture, and the most bytes of their factors.
_FEWEST, _MOST = 20, 200
_BYTES = 2**30


@dataclass(frozen=True)
class AveragedFit(Fitted):
    """A fit whose posterior is a mixture over draws; its model is at the mode.

    Attributes:
        draws: hyperparameters of the standardised problem.
    """

    draws: Draws = field(kw_only=True)

    @property
    def num_optimised(self) -> int:
        return 0

    @property
    def attributes(self) -> dict[str, Any]:
        return {"draws_": self.draws}

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self.draws.tensors()


@dataclass(frozen=True)
class Averaged(Inference):
    """Fit by exact inference, draw hyperparameters by NUTS from there, and average.

    Attributes:
        n_chains: chains.
        n_draws: draws of each chain, after as many that adapt the sampler.
        n_jobs: processes that run chains at the same time.
        verbose: see ``progress_bar``.
    """

    n_chains: int
    n_draws: int
    n_jobs: int
    verbose: bool | None

    name = Exact.name

    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        """Average over draws; if Ctrl-C comes before the first draw, the mode is the result."""
        mode = Exact().fit(training, search, known)
        if mode.result.interrupted:
            return mode
        some = training.sample(search.max_samples)
        seen = search.each()[mode.number].exact_model(some)
        set_raw(seen, get_raw(mode.model))
        try:
            with threads_for(len(some)):
                draws = run_nuts(
                    GPRegression.of(seen),
                    num_chains=self.n_chains,
                    num_draws=self.n_draws,
                    num_warmup=self.n_draws,
                    start=current_hyperparameters("", seen),
                    seed=int(search.generator.randint(2**31)),
                    n_jobs=self.n_jobs,
                    verbose=self.verbose,
                )
        except KeyboardInterrupt:
            return replace(mode, result=mode.result.as_interrupted())
        assert isinstance(mode.model, ExactRegression)
        result = mode.result.as_interrupted() if draws.interrupted else mode.result
        mixture = ExactMixture(
            each_serially(ExactRegression.posterior, list(_members(mode.model, draws)))
        )
        return AveragedFit(mode.model, mixture, result, mode.number, draws=draws)

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        if "cholesky" in tensors:  # the chains were interrupted before the first draw
            return Exact().restore(training, search, tensors)
        number, draws = number_of(tensors), Draws.from_tensors(tensors)
        model = restored_model(training, search.each()[number], tensors)
        mixture = ExactMixture.from_tensors(list(_members(model, draws)), tensors)
        return AveragedFit(model, mixture, FitResult.not_searched(), number, draws=draws)


def _members(model: ExactRegression, draws: Draws) -> Iterator[ExactRegression]:
    """The model at evenly spaced draws: 20 to 200, as many as fit into a gibibyte."""
    rows = len(model.train_targets)
    count = int(min(_MOST, max(_FEWEST, _BYTES // (8 * rows**2))))
    regression = GPRegression.of(model)
    return (regression.at(values) for values in each(draws.pooled(count)))
