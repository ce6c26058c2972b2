"""Stochastic variational inference for a Pyro model, with an automatic guide."""

from __future__ import annotations

import time
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal
from pyro.infer.autoguide.initialization import init_to_median
from pyro.optim import ClippedAdam
from pyro.poutine.util import prune_subsample_sites

from resnet_gp.bayes.chain import Model, seeded
from resnet_gp.bayes.draws import Draws
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.integers import check_integer, check_number
from resnet_gp.progress import progress_bar

_SCALE = 0.05  # standard deviation of the guide at the start
_FAILURES = 20  # in a row, before the model's error is raised
_DECAY = 0.05  # factor of the learning rate over the whole run


def run_svi(
    model: Model,
    *args: Any,
    guide: Any = None,
    num_steps: int = 2000,
    learning_rate: float = 0.02,
    num_draws: int = 500,
    seed: int = 0,
    verbose: bool | None = None,
) -> Draws:
    """Fit a guide to the posterior of any Pyro model and draw from it.

    Args:
        model: a Pyro model; subsampled plates are fine.
        *args: arguments of the model and the guide.
        guide: a Pyro guide; None for ``AutoMultivariateNormal``, a joint normal law of all latent
            variables in their unconstrained space.
        num_steps: steps of Adam.
        learning_rate: initial learning rate; it decays to a twentieth.
        num_draws: draws from the guide.
        seed: determines the random numbers of steps and draws.
        verbose: as in ``run_nuts``.

    Returns:
        Draws in one chain, with the losses. Ctrl-C ends the optimisation and draws from the guide
        as it is.

    Raises:
        ValueError: bad arguments.
        DomainError, torch.linalg.LinAlgError: twenty steps in a row left the domain of the model.
    """
    for name, value in (("num_steps", num_steps), ("num_draws", num_draws)):
        check_integer(name, value)
    check_integer("seed", seed, least=0)
    check_number("learning_rate", learning_rate)
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate!r}")
    began = time.perf_counter()
    losses: list[float] = []
    interrupted, failed = False, 0
    with seeded(seed), pyro.get_param_store().scope():
        if guide is None:
            start = init_to_median(num_samples=15)
            guide = AutoMultivariateNormal(model, init_loc_fn=start, init_scale=_SCALE)
        decay = _DECAY ** (1 / int(num_steps))
        optimiser = ClippedAdam({"lr": learning_rate, "lrd": decay})
        step = SVI(model, guide, optimiser, Trace_ELBO()).step
        with progress_bar("variational inference", verbose, int(num_steps)) as bar:
            try:
                for _ in range(int(num_steps)):
                    try:
                        losses.append(float(step(*args)))
                        failed = 0
                    except IMPOSSIBLE:  # a draw of the guide; the next step makes another
                        failed += 1
                        if failed >= _FAILURES:
                            raise
                    bar.update()
            except KeyboardInterrupt:
                if not losses:
                    raise
                interrupted = True
        drawn = [_draw(guide, args) for _ in range(int(num_draws))]
    values = {name: torch.stack([one[name] for one in drawn])[None] for name in sorted(drawn[0])}
    diverging = torch.zeros(1, int(num_draws), dtype=torch.bool)
    return Draws(values, diverging, {}, interrupted, time.perf_counter() - began, losses)


def _draw(guide: Any, args: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    """One draw of the guide by site, without auxiliary ones."""
    trace = prune_subsample_sites(pyro.poutine.trace(guide).get_trace(*args))
    return {
        name: site["value"].detach()
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["infer"].get("is_auxiliary")
    }
