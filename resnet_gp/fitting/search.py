"""The search for hyperparameters that all ways of inference share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.checkpoint import Checkpoint
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec, Start
from resnet_gp.fitting.lattice import maximise_on_lattice
from resnet_gp.fitting.optimiser import (
    FitResult,
    Hyperparameters,
    get_raw,
    named_of,
    raw_of,
    set_raw,
)
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.priors import add_weak_priors, prior_density
from resnet_gp.models.regression import RegressionModel

Array = NDArray[np.float64]

# Tried first. On some splits of the energy set, only the second finds the optimum that is 30 nats
# above the others.
_CANDIDATES = (Start(5.0, 0.1, 1.0), Start(1.0, 0.001, 0.5), Start(5.0, 0.01, 0.5))
_ITERATIONS = 200  # of each run, if none are asked for
_LEAST_NOISE = 1e-8  # in place of a known noise below it: no noise would leave singular matrices


@dataclass(frozen=True)
class _Stoppable:
    """A progress bar that interrupts the thread which advances it once an event is set."""

    bar: Any
    stop: Event

    def update(self) -> None:
        if self.stop.is_set():
            raise KeyboardInterrupt
        self.bar.update()

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.bar.set_postfix_str(text, refresh=refresh)


@dataclass(frozen=True)
class Search:
    """Maximum marginal likelihood, with weak priors or without, or no search at all.

    Attributes:
        spec: the kernel.
        generator: draws the random starts.
        bar: progress bar that each iteration advances.
        with_priors: whether to maximise the posterior density under the weak priors.
        fixed: keep the hyperparameters at their start.
        noise_variance: known noise variance of the standardised targets, or None to learn it.
        max_iter: most iterations of each run; None for 200, but few where each is dear.
        n_restarts: further runs from random starts.
        max_samples: rows on which exact models choose hyperparameters; None for all.
        checkpoint: keeps the best hyperparameters, or None.
        others: further kernels to choose from; methods that need one kernel take ``spec``.
    """

    spec: KernelSpec
    generator: np.random.RandomState
    bar: Any
    with_priors: bool = True
    fixed: bool = False
    noise_variance: float | None = None
    max_iter: int | None = None
    n_restarts: int = 0
    max_samples: int | None = None
    checkpoint: Checkpoint | None = None
    others: tuple[KernelSpec, ...] = ()

    def each(self) -> list[Search]:
        """A search for each kernel alone."""
        return [
            replace(
                self,
                spec=spec,
                others=(),
                checkpoint=None if self.checkpoint is None else self.checkpoint.of_kernel(number),
            )
            for number, spec in enumerate((self.spec, *self.others))
        ]

    def by_itself(self, stop: Event) -> Search:
        """The same search for a thread of its own, which an event interrupts.

        It draws from a generator of its own, so that the order of threads does not matter.
        """
        generator = np.random.RandomState(self.generator.randint(2**31))
        return replace(self, generator=generator, bar=_Stoppable(self.bar, stop))

    def stopped(self) -> Search:
        """The same search after Ctrl-C: it keeps the best point of its first step.

        Not in the checkpoint, since a fit that continues may choose other inputs.
        """
        stop = Event()
        stop.set()
        return replace(self.by_itself(stop), checkpoint=None)

    def fits(self, training: Training, known: Hyperparameters) -> bool:
        """Do these hyperparameters belong to this kernel?"""
        try:
            raw_of(self.exact_model(training), known)
        except ValueError:
            return False
        return True

    def exact_model(self, training: Training) -> ExactRegression:
        """A model of these data before the search."""
        kernel = self.spec.build(training.x.shape[1])
        model = ExactRegression(
            training.x, training.y, kernel, training.extra_variance, training.sample_weight,
            training.robust_weight,
        )  # fmt: skip
        self.prepare(model)
        return model

    def prepare(self, model: RegressionModel) -> None:
        """Fix a known noise, and add the priors."""
        if self.noise_variance is not None:
            noise = max(self.noise_variance, _LEAST_NOISE)
            model.likelihood.noise = torch.tensor(noise, dtype=torch.float64)
            model.likelihood.noise_covar.raw_noise.requires_grad_(False)
        if self.with_priors:
            add_weak_priors(model, self.spec.groups)

    def starts(self, model: RegressionModel) -> list[Array]:
        """The first candidates, as raw parameters."""
        return [self.spec.raw(model, start) for start in _CANDIDATES]

    def restarts(self, model: ExactRegression) -> list[Array]:
        """Random starts, as raw parameters."""
        draw = self.generator
        d = model.train_inputs[0].shape[1]
        starts = [
            Start(
                np.exp(draw.uniform(0, 4)),
                np.exp(draw.uniform(-6, -1)),
                np.exp(draw.normal(size=d)),
            )
            for _ in range(self.n_restarts)
        ]
        return [self.spec.raw(model, start) for start in starts]

    def keep(self, model: RegressionModel, known: Hyperparameters | None) -> FitResult:
        """Leave ``model`` at known hyperparameters, or at the first start."""
        set_raw(model, self.starts(model)[0] if known is None else raw_of(model, known))
        return FitResult.not_searched()

    def at_most(self, iterations: int) -> Search:
        """The same search with shorter runs."""
        return replace(self, max_iter=min(self._iterations, iterations))

    @property
    def _iterations(self) -> int:
        return _ITERATIONS if self.max_iter is None else self.max_iter

    def maximise(
        self,
        model: RegressionModel,
        candidates: Sequence[Array],
        restarts: Sequence[Array] = (),
        keep: bool = False,
        **options: Any,
    ) -> FitResult:
        """Run the optimiser on a model; ``keep`` writes its progress to the checkpoint.

        Args:
            model: is left at the best point.
            candidates, restarts, options: see ``maximise_on_lattice``.
            keep: whether this is the run that a checkpoint continues.
        """
        checkpoint = self.checkpoint if keep else None
        free = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}

        def watch(raw: Array, value: float) -> None:
            self.bar.set_postfix_str(f"log likelihood {value:.6g}", refresh=False)
            self.bar.update()
            if checkpoint is not None:
                checkpoint.offer(named_of(free, raw), value)

        result = maximise_on_lattice(
            self.objective(model),
            model,
            self.bounds(model),
            candidates,
            restarts,
            self._iterations,
            watch=watch,
            **options,
        )
        if checkpoint is not None:
            checkpoint.offer(named_of(free, get_raw(model)), result.value, at_once=True)
        return result

    def objective(self, model: RegressionModel) -> Callable[[], Tensor]:
        """The function to maximise, in nats."""
        likelihood = model.log_marginal_likelihood
        if not self.with_priors:
            return likelihood
        prior = prior_density(model)
        return lambda: likelihood() + prior()

    def bounds(self, model: RegressionModel) -> dict[str, tuple[float, float]]:
        """Bounds of raw parameters by name."""
        bounds = self.spec.bounds(model)
        name = "likelihood.noise_covar.raw_noise"
        least = model.least_noise[model.likelihood.noise.dtype]
        bounds[name] = (math.log(least), bounds[name][1])
        return bounds
