"""Exact inference averaged over draws of the hyperparameters, behind the protocol of inference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.exact_mixture import ExactMixture
from resnet_gp.bayes.gp_regression import GPRegression
from resnet_gp.bayes.hyperparameters import current_hyperparameters
from resnet_gp.bayes.nuts import run_nuts
from resnet_gp.fitting.exact import Exact, restored_model
from resnet_gp.fitting.inference import Fitted, Inference, Training
from resnet_gp.fitting.optimiser import FitResult, Hyperparameters, get_raw, set_raw
from resnet_gp.fitting.search import Search, threads_for
from resnet_gp.models.exact import ExactRegression


@dataclass(frozen=True)
class AveragedFit(Fitted):
    """A fit whose posterior is a mixture over draws; its model is at the mode.

    Attributes:
        draws: hyperparameters of the standardised problem.
    """

    draws: Draws

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
        seen = search.exact_model(some)
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
            return replace(mode, result=mode.result.but_interrupted())
        assert isinstance(mode.model, ExactRegression)
        result = mode.result.but_interrupted() if draws.interrupted else mode.result
        mixture = ExactMixture.of(GPRegression.of(mode.model), draws)
        return AveragedFit(mode.model, mixture, result, draws)

    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        if "cholesky" in tensors:  # the chains were interrupted before the first draw
            return Exact().restore(training, search, tensors)
        model = restored_model(training, search, tensors)
        mixture = ExactMixture.from_tensors(GPRegression.of(model), tensors)
        return AveragedFit(model, mixture, FitResult.not_searched(), Draws.from_tensors(tensors))
