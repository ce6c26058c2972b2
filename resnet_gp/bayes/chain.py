"""One Markov chain of Pyro's NUTS: its start, and a report of each iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer.autoguide.initialization import InitMessenger, init_to_median
from pyro.infer.mcmc import MCMC, NUTS
from pyro.infer.mcmc.util import _guess_max_plate_nesting, initialize_model
from pyro.ops.integrator import potential_grad, register_exception_handler
from scipy.optimize import minimize

from resnet_gp.bayes.hyperparameters import Values
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.models.posterior import to_array

Model = Callable[..., Any]

_NO_DENSITY = 1e15
_MAP_ITERATIONS = 500
_JITTER = 0.2  # standard deviation of the starts, in the unconstrained space
_HALVINGS = 12

# Leapfrog steps may leave a kernel's domain: a point of no probability, not a failure.
register_exception_handler("resnet_gp", lambda error: isinstance(error, IMPOSSIBLE))


@dataclass(frozen=True)
class Iteration:
    """One iteration of a chain.

    Attributes:
        values: constrained values by site; None during the warm-up.
        diverging: whether the trajectory diverged.
    """

    values: Values | None
    diverging: bool = False


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Pyro's random numbers; restore the global generators afterwards."""
    before = pyro.util.get_rng_state()
    try:
        pyro.set_rng_seed(seed)
        yield
    finally:
        pyro.util.set_rng_state(before)


def _at_medians(model: Model, args: tuple[Any, ...]) -> dict[str, Any]:
    """Options that make Pyro look at the model at prior medians: draws may be impossible."""
    strategy = init_to_median(num_samples=15)
    nesting = _guess_max_plate_nesting(InitMessenger(strategy)(model), args, {})
    return {"init_strategy": strategy, "max_plate_nesting": nesting}


class Potential:
    """The negative log density of a Pyro model's unconstrained latent variables."""

    def __init__(self, model: Model, args: tuple[Any, ...]) -> None:
        with seeded(0):
            start, self.function, self.transforms, _ = initialize_model(
                model, args, **_at_medians(model, args)
            )
        self.start: Values = {name: value.detach() for name, value in start.items()}

    def value_and_gradient(self, z: Values) -> tuple[float, Values]:
        """Value and gradient; NaN where the model cannot be evaluated."""
        gradient, energy = potential_grad(
            self.function, {name: v.detach().clone() for name, v in z.items()}
        )
        return float(energy), gradient

    def unconstrained(self, values: Values) -> Values:
        """Map from the supports of the sites; sites without a value get the sampler's start.

        Raises:
            ValueError: a value has no site or another shape, or lies outside the support.
        """
        z = dict(self.start)
        for name, value in values.items():
            if name not in z:
                raise ValueError(f"start has a value of {name}; the sites are {', '.join(z)}")
            raw = self.transforms[name](torch.as_tensor(value).to(z[name]))
            if raw.shape != z[name].shape or not torch.isfinite(raw).all():
                raise ValueError(
                    f"start of {name} must be of shape {tuple(z[name].shape)} and within its "
                    f"support, got {value}"
                )
            z[name] = raw
        return z

    def mode(self) -> Values:
        """Find a mode of the unconstrained density by L-BFGS; unconstrained values.

        Raises:
            ValueError: the density is not finite at the start of the search.
        """
        names = sorted(self.start)
        sizes = [self.start[name].numel() for name in names]

        def split(flat: np.ndarray) -> Values:
            pieces = torch.from_numpy(flat.copy()).split(sizes)
            return {
                name: piece.to(self.start[name]).reshape(self.start[name].shape)
                for name, piece in zip(names, pieces, strict=True)
            }

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            energy, gradient = self.value_and_gradient(split(flat))
            joined = to_array(torch.cat([gradient[name].reshape(-1) for name in names]))
            if not (math.isfinite(energy) and np.isfinite(joined).all()):
                return _NO_DENSITY, np.zeros_like(flat)
            return energy, joined

        first = to_array(torch.cat([self.start[name].reshape(-1) for name in names]))
        found = minimize(
            objective, first, jac=True, method="L-BFGS-B", options={"maxiter": _MAP_ITERATIONS}
        )
        if found.fun >= _NO_DENSITY:
            raise ValueError("the model has no finite density at its start: give start= values")
        return split(found.x)

    def jittered(self, z: Values, generator: torch.Generator) -> Values:
        """Draw a point near ``z`` where the density is finite, or return ``z`` if it is there.

        Raises:
            ValueError: the density is finite at none of them.
        """
        spread = _JITTER
        for _ in range(_HALVINGS):
            near = {
                name: v + spread * torch.randn(v.shape, generator=generator, dtype=v.dtype).to(v)
                for name, v in z.items()
            }
            if self._is_finite(near):
                return near
            spread /= 2
        if not self._is_finite(z):
            raise ValueError("the model has no finite density at its start: give other start=")
        return z

    def _is_finite(self, z: Values) -> bool:
        energy, gradient = self.value_and_gradient(z)
        return math.isfinite(energy) and all(bool(g.isfinite().all()) for g in gradient.values())


def run_chain(
    model: Model,
    args: tuple[Any, ...],
    start: Values,
    num_draws: int,
    num_warmup: int,
    options: dict[str, Any],
    seed: int,
    report: Callable[[Iteration], None],
) -> None:
    """Run one chain from unconstrained values, with options of Pyro's ``NUTS``.

    ``report`` is called after each iteration.
    """
    with seeded(seed):
        at_medians = _at_medians(model, args)
    kernel = NUTS(model, **at_medians, **options)

    def hook(kernel: Any, z: Values, stage: str, i: int) -> None:
        if stage.startswith("Warmup"):
            report(Iteration(None))
            return
        values = {name: kernel.transforms[name].inv(v).detach() for name, v in z.items()}
        report(Iteration(values, i in kernel.diagnostics()["divergences"]))

    with seeded(seed):
        MCMC(
            kernel,
            num_draws,
            num_warmup,
            initial_params={name: v.clone() for name, v in start.items()},
            hook_fn=hook,
            disable_progbar=True,
        ).run(*args)
