"""The search for hyperparameters: how an estimator's model gets from its data to a fitted state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.checkpoint import Checkpoint
from resnet_gp.fitting.kernel_spec import KernelSpec, Start
from resnet_gp.fitting.lattice import maximise_on_lattice
from resnet_gp.fitting.optimiser import (
    FitResult,
    Watch,
    get_raw,
    set_raw,
)
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.inducing import cluster_centres, greedy_inducing_points
from resnet_gp.models.priors import add_weak_priors, log_prior
from resnet_gp.models.sparse import SparseRegression
from resnet_gp.models.sparse_noise import leave_one_out_noise
from resnet_gp.threads import torch_threads

Array = NDArray[np.float64]
Hyperparameters = Literal["map", "ml", "nuts", "fixed"]

# To try first. On some splits of the energy set, only the second finds the optimum that is 30 nats
# above the others.
_CANDIDATES = (Start(5.0, 0.1, 1.0), Start(1.0, 0.001, 0.5), Start(5.0, 0.01, 0.5))
_SERIAL_SAMPLES = 400
# Above so many samples, a pilot fit to some of them finds where the full fit starts.
_PILOT_ABOVE, _PILOT_SAMPLES = 1000, 400
# Then a smaller gain per sample and iteration ends the full fit. From the first starts, that would
# lose 30 nats on the energy data.
_GAIN_PER_SAMPLE = 1e-6
# Optima of the pilot are told apart sooner than first starts.
_SCREENING_AFTER_PILOT = 10
# Passes over all rows are dear, and inducing points could gain a little for ever.
_SPARSE_GAIN_PER_SAMPLE = 1e-4
# A small sparse fit finds where the large one starts.
_SPARSE_PILOT_ROWS, _SPARSE_PILOT_INDUCING = 8000, 300
_SPARSE_PILOT_ITERATIONS = 30
# Rows among which inducing points are chosen; where there are many more, they move there first.
_SELECTION_ROWS = 10_000
_MANY_ROWS, _FIRST_MOVES = 20_000, 50
# Iterations, if none are asked for: of a run, and of the moves with all of many rows.
_ITERATIONS, _LAST_MOVES = 200, 25
# Rows whose held-out density chooses the noise of a sparse model.
_NOISE_ROWS = 5000
# Steps that the optimiser remembers where inducing points move: with ten, as for hyperparameters
# alone, the bound of 500 points in 9000 rows is 240 nats worse after the same 100 iterations.
_MEMORY, _MEMORY_OF_MOVES = 10, 150
_LEAST_NOISE = {torch.float64: 1e-8, torch.float32: 1e-4}


@dataclass(frozen=True)
class Training:
    """Standardised training data.

    Attributes:
        x: ``n x d``.
        y: ``n`` or ``n x p``.
        extra_variance: ``n``, known noise variances beyond the learned one, or None.
        sample_weight: ``n``, by which the variance of the noise is divided, or None.
    """

    x: Tensor
    y: Tensor
    extra_variance: Tensor | None = None
    sample_weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def sample(self, size: int) -> Training:
        """At most so many rows, drawn at random but always the same."""
        if len(self) <= size:
            return self
        rows = torch.from_numpy(np.random.RandomState(0).permutation(len(self))[:size])
        rows = rows.to(self.x.device)
        others = (self.extra_variance, self.sample_weight)
        chosen = (None if values is None else values[rows] for values in others)
        return Training(self.x[rows], self.y[rows], *chosen)


def threads_for(n: int) -> AbstractContextManager[None]:
    """One thread for small matrices: their factorisations lose time in waiting for each other.

    Where other work keeps the cores busy, they lose a factor of ten and more.
    """
    return torch_threads(1 if n <= _SERIAL_SAMPLES else torch.get_num_threads())


@dataclass(frozen=True)
class Search:
    """Maximum marginal likelihood ("ml"), also with weak priors ("map"), or no search ("fixed").

    "nuts" is "map" here: chains start where it ends.

    Attributes:
        spec: of the kernel.
        hyperparameters: what is maximised.
        noise_variance: of the standardised targets if it is known, else None.
        max_iter: iterations of each run; None for 200, but few where each is dear.
        n_restarts: further runs from random starts.
        max_samples: rows on which exact models choose hyperparameters; None for all.
        generator: for these.
        bar: a progress bar that each iteration advances.
        checkpoint: keeps the best hyperparameters, or None.
        learn_inducing: whether inducing points of sparse models move, too.
    """

    spec: KernelSpec
    hyperparameters: Hyperparameters
    noise_variance: float | None
    max_iter: int | None
    n_restarts: int
    max_samples: int | None
    generator: np.random.RandomState
    bar: Any
    checkpoint: Checkpoint | None = None
    learn_inducing: bool = False

    def exact_model(self, training: Training) -> ExactRegression:
        """A model of these data before the search."""
        kernel = self.spec.build(training.x.shape[1])
        model = ExactRegression(
            training.x, training.y, kernel, training.extra_variance, training.sample_weight
        )
        self.prepare(model)
        return model

    def prepare(self, model: Any) -> None:
        """Fix the noise if it is known, and add the priors if they are wanted."""
        if self.noise_variance is not None:
            model.likelihood.noise = max(self.noise_variance, 1e-8)
            model.likelihood.noise_covar.raw_noise.requires_grad_(False)
        if self.hyperparameters in ("map", "nuts"):
            add_weak_priors(model)

    def starts(self, model: Any) -> list[Array]:
        """The first candidates, as raw parameters."""
        return [self.spec.raw(model, start) for start in _CANDIDATES]

    def fit_exact(
        self, training: Training, known: Array | None = None
    ) -> tuple[ExactRegression, FitResult]:
        """An exact model of all rows, at the best hyperparameters of ``max_samples`` of them."""
        some = training.sample(self.max_samples or len(training))
        model, found = self.fit(some, known)
        if some is not training:
            raw = get_raw(model)
            model = self.exact_model(training)
            set_raw(model, raw)
        return model, found

    def fit(
        self, training: Training, known: Array | None = None
    ) -> tuple[ExactRegression, FitResult]:
        """An exact model at the best hyperparameters.

        Args:
            training: all of these data are used.
            known: raw hyperparameters to start from, or to keep, in the place of the usual ones.
        """
        model = self.exact_model(training)
        if self.hyperparameters == "fixed":
            return model, self._keep(model, known)
        if known is None and self.checkpoint is not None:
            known = self.checkpoint.read()
        if known is not None:
            _check_length(known, model)
        candidates = self.starts(model) if known is None else [known]
        piloted = known is None and len(training) > _PILOT_ABOVE
        if piloted:
            pilot = self.exact_model(training.sample(_PILOT_SAMPLES))
            candidates, interrupted = self._optima(pilot, candidates)
            if interrupted is not None:
                set_raw(model, candidates[-1])
                return model, interrupted
        options = {}
        if piloted or known is not None:
            options = {
                "least_gain": _GAIN_PER_SAMPLE * len(training),
                "screening": _SCREENING_AFTER_PILOT,
            }
        with threads_for(len(training)):
            found = self.maximise(
                model, candidates, self._restarts(model), watch=self._watch, **options
            )
        self._offer(model, found)
        return model, found

    def fit_sparse(
        self,
        training: Training,
        num_inducing: int,
        known: Array | None = None,
        points: Tensor | None = None,
    ) -> tuple[SparseRegression, FitResult]:
        """A sparse model of all rows, after an exact one of ``max_samples`` of them.

        From there a small sparse fit finds the hyperparameters for which the inducing points are
        chosen, and at which the fit to all rows starts. That moves the inducing points as well, by
        the gradient that comes with that of the hyperparameters, if they are to be learned; first
        with some of the rows, where there are many.

        Args:
            training: all of these data are used.
            num_inducing: m, at most the number of rows.
            known: raw hyperparameters in the place of those of both first fits.
            points: inducing points in the place of those that would be chosen, and moved with few
                rows.
        """
        if known is None and self.checkpoint is not None and self.hyperparameters != "fixed":
            points, known = self._read_checkpoint(training)
        first, found = self.start(training, known)
        if known is None and self.hyperparameters != "fixed" and not found.interrupted:
            found = self._start_sparse(training, first, num_inducing)
        to_move = points is None and self.learn_inducing and self.hyperparameters != "fixed"
        if points is None:
            points = self._points(training, first, num_inducing, to_move)
        model = self._sparse_model(training, points)
        set_raw(model, get_raw(first))
        if self.hyperparameters == "fixed" or found.interrupted:
            return model, found
        model.inducing_points.requires_grad_(self.learn_inducing)
        many = len(training) > _MANY_ROWS
        if to_move and many:
            found = self._move(model, training.sample(_SELECTION_ROWS), found)
        if not found.interrupted:
            dear = many and self.learn_inducing and self.max_iter is None
            last = self._at_most(_LAST_MOVES) if dear else self
            found = last._ascend(model, len(training), found, self._watch)
            found = replace(found, as_planned=dear and not (found.converged or found.interrupted))
            self._offer(model, found)
        model.inducing_points.requires_grad_(False)
        return model, found

    def refine_noise(self, model: SparseRegression, training: Training) -> None:
        """Set a learned noise to what held-out rows ask for, see ``leave_one_out_noise``.

        Args:
            model: fitted to these rows, or to more of the same data.
            training: the rows.
        """
        raw = model.likelihood.noise_covar.raw_noise
        if self.hyperparameters == "fixed" or not raw.requires_grad:
            return
        some, least = training.sample(_NOISE_ROWS), _LEAST_NOISE[raw.dtype]
        with suppress(KeyboardInterrupt):  # the noise that the bound chose will do
            model.likelihood.noise = leave_one_out_noise(
                model, some.x, some.y, some.extra_variance, some.sample_weight, least
            )

    def _move(self, model: SparseRegression, some: Training, before: FitResult) -> FitResult:
        """Leave ``model`` where few iterations with some of its rows lead from where it is."""
        smaller = self._sparse_model(some, model.inducing_points)
        smaller.inducing_points.requires_grad_(True)
        set_raw(smaller, get_raw(model))
        found = self._at_most(_FIRST_MOVES)._ascend(smaller, len(some), before, self._advance)
        set_raw(model, get_raw(smaller))
        return found

    def _ascend(
        self, model: SparseRegression, rows: int, before: FitResult, watch: Watch
    ) -> FitResult:
        """From where a model is; interrupted before the first value, it stays there."""
        start = get_raw(model)
        memory = _MEMORY_OF_MOVES if model.inducing_points.requires_grad else _MEMORY
        try:
            return self.maximise(
                model, [start], watch=watch, memory=memory,
                least_gain=_SPARSE_GAIN_PER_SAMPLE * rows, unit=rows,
            )  # fmt: skip
        except KeyboardInterrupt:
            set_raw(model, start)
            return replace(before, converged=False, message="interrupted", interrupted=True)

    def _read_checkpoint(self, training: Training) -> tuple[Tensor | None, Array | None]:
        """Inducing points and hyperparameters; None for what is not there."""
        assert self.checkpoint is not None
        raw = self.checkpoint.read()
        if raw is None:
            return None, None
        count = len(get_raw(self.exact_model(training.sample(2))))
        points, known = raw[:-count], raw[-count:]
        if not len(points):
            return None, known
        return torch.from_numpy(points).to(training.x).reshape(-1, training.x.shape[1]), known

    def _start_sparse(
        self, training: Training, first: ExactRegression, num_inducing: int
    ) -> FitResult:
        """Leave ``first`` at those hyperparameters that are best for a small sparse model.

        An exact fit to few rows may take a rough kernel for the noise, which inducing points cannot
        represent. So its hyperparameters, with that noise or its leave-one-out error as noise, are
        but some of the starts here.
        """
        exact = get_raw(first)
        error = first.train_targets - first.posterior().leave_one_out()[0]
        set_raw(first, self.starts(first)[0])  # points that favour none of the starts
        some = training.sample(_SPARSE_PILOT_ROWS)
        few = min(num_inducing, _SPARSE_PILOT_INDUCING)
        model = self._sparse_model(some, self._points(some, first, few, moving=False))
        starts = [*self.starts(model), exact]
        if model.likelihood.noise_covar.raw_noise.requires_grad:
            set_raw(model, exact)
            model.likelihood.noise = float(error.square().mean().clamp(1e-6, 1.0))
            starts.append(get_raw(model))
        shorter = self._at_most(_SPARSE_PILOT_ITERATIONS) if self.learn_inducing else self
        found = shorter.maximise(model, starts, watch=self._advance, unit=len(some))
        set_raw(first, get_raw(model))
        return found

    def _points(
        self, training: Training, at: ExactRegression, num_inducing: int, moving: bool
    ) -> Tensor:
        """Inducing points for the hyperparameters of ``at``, chosen greedily among some rows.

        Those that will move are chosen among the centres of as many clusters, which leaves out what
        the others determine.
        """
        rows = training.sample(max(num_inducing, _SELECTION_ROWS)).x
        if moving:
            rows = cluster_centres(rows, num_inducing)
        with torch.no_grad():
            chosen = greedy_inducing_points(at.covar_module, rows, min(num_inducing, len(rows)))
        return rows[chosen]

    def _sparse_model(self, training: Training, points: Tensor) -> SparseRegression:
        kernel = self.spec.build(training.x.shape[1])
        model = SparseRegression(
            training.x, training.y, kernel, points, training.extra_variance, training.sample_weight
        )
        self.prepare(model)
        return model

    def start(self, training: Training, known: Array | None) -> tuple[ExactRegression, FitResult]:
        """An exact model of some rows at good hyperparameters, or at those that are known."""
        some = training.sample(self.max_samples or len(training))
        if known is None:
            return replace(self, checkpoint=None).fit(some)
        model = self.exact_model(some)
        return model, self._keep(model, known)

    @property
    def _iterations(self) -> int:
        return _ITERATIONS if self.max_iter is None else self.max_iter

    def _at_most(self, iterations: int) -> Search:
        return replace(self, max_iter=min(self._iterations, iterations))

    def _offer(self, model: Any, found: FitResult) -> None:
        if self.checkpoint is not None:
            self.checkpoint.offer(get_raw(model), found.value, at_once=True)

    def _keep(self, model: Any, known: Array | None) -> FitResult:
        if known is not None:
            _check_length(known, model)
        set_raw(model, self.starts(model)[0] if known is None else known)
        return FitResult(math.nan, 0, True, "nothing was searched", [], [])

    def maximise(
        self,
        model: Any,
        candidates: Sequence[Array],
        restarts: Sequence[Array] = (),
        **options: Any,
    ) -> FitResult:
        """Run the optimiser on the marginal likelihood, or the posterior density, of a model."""
        return maximise_on_lattice(
            self.objective(model),
            model,
            self.bounds(model),
            candidates,
            restarts,
            self._iterations,
            **options,
        )

    def objective(self, model: Any) -> Callable[[], Tensor]:
        """What is maximised, in nats."""
        likelihood: Callable[[], Tensor] = model.log_marginal_likelihood
        if self.hyperparameters == "ml":
            return likelihood
        return lambda: likelihood() + log_prior(model)

    def bounds(self, model: Any) -> dict[str, tuple[float, float]]:
        """Bounds of raw parameters by name."""
        bounds = self.spec.bounds(model)
        name = "likelihood.noise_covar.raw_noise"
        dtype = model.likelihood.noise.dtype
        bounds[name] = (math.log(_LEAST_NOISE[dtype]), bounds[name][1])
        return bounds

    def _optima(
        self, model: ExactRegression, starts: list[Array]
    ) -> tuple[list[Array], FitResult | None]:
        """The different local maxima that the starts lead to; the result if interrupted."""
        found: dict[int, Array] = {}
        with threads_for(len(model.train_targets)):
            for start in starts:
                result = self.maximise(model, [start], watch=self._advance)
                found.setdefault(round(result.value), get_raw(model))
                if result.interrupted:
                    return [get_raw(model)], result
        return list(found.values()), None

    def _restarts(self, model: Any) -> list[Array]:
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

    def _watch(self, raw: Array, value: float) -> None:
        self._advance(raw, value)
        if self.checkpoint is not None:
            self.checkpoint.offer(raw, value)

    def _advance(self, raw: Array, value: float) -> None:
        self.bar.set_postfix_str(f"log likelihood {value:.6g}", refresh=False)
        self.bar.update()


def _check_length(raw: Array, model: Any) -> None:
    if raw.shape != get_raw(model).shape:
        raise ValueError(
            f"the hyperparameters to start from are {len(raw)}, the model has {len(get_raw(model))}"
        )
