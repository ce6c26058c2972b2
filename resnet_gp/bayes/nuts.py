"""Several chains of NUTS, run in this process or in others."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from resnet_gp.bayes.chain import Iteration, Model, Potential, Values, run_chain
from resnet_gp.bayes.diagnostics import warn_if_unhealthy
from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.worker import ChainError, Worker
from resnet_gp.integers import check_integer, check_number
from resnet_gp.progress import progress_bar

_DENSE_UP_TO = 50

Work = tuple[Model, tuple[Any, ...], Values, int, int, dict[str, Any], int]
Tell = Callable[[int, Iteration | str], None]


def run_nuts(
    model: Model,
    *args: Any,
    num_chains: int = 4,
    num_draws: int = 500,
    num_warmup: int = 500,
    target_acceptance: float = 0.9,
    max_tree_depth: int = 10,
    dense_mass: bool | None = None,
    start: Literal["map", "prior"] | dict[str, Tensor] = "map",
    seed: int = 0,
    n_jobs: int = 1,
    verbose: bool | None = None,
) -> Draws:
    """Draw from the posterior of any Pyro model with Pyro's no-U-turn sampler.

    Args:
        model: a Pyro model that holds its observations, or takes them in ``args``.
        *args: arguments of the model.
        num_chains: independent chains; four show whether they agree.
        num_draws: draws of each chain after its warm-up.
        num_warmup: iterations that adapt step size and masses.
        target_acceptance: closer to 1 makes smaller steps; raise it if trajectories diverge.
        max_tree_depth: a trajectory has at most 2^max_tree_depth steps.
        dense_mass: adapt a full mass matrix, not only its diagonal; None does so for at most 50
            unknowns. Hyperparameters are correlated: it halved the steps and doubled the effective
            draws at n = 200, d = 6.
        start: "map" starts chains near a mode of the posterior, "prior" near the prior medians,
            a dictionary near its values by site.
        seed: determines the random numbers of all chains.
        n_jobs: processes that run chains in parallel; 1 runs them one by one in this process.
        verbose: True for a progress bar, None for one once the work takes ten seconds.

    Returns:
        The draws of all chains that did not fail. Ctrl-C ends the run and keeps the draws so far.

    Raises:
        ValueError: bad arguments.
        RuntimeError: every chain failed.
        KeyboardInterrupt: Ctrl-C before the first draw.

    Warns:
        UserWarning: the problems that ``problems`` finds in the draws.
    """
    for name, value in (
        ("num_chains", num_chains), ("num_draws", num_draws),
        ("num_warmup", num_warmup), ("n_jobs", n_jobs), ("max_tree_depth", max_tree_depth),
    ):  # fmt: skip
        check_integer(name, value)
    check_integer("seed", seed, least=0)
    check_number("target_acceptance", target_acceptance)
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must lie between 0 and 1, got {target_acceptance!r}")
    began = time.perf_counter()
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(num_chains)]
    starts = _starts(model, args, start, seeds)
    if dense_mass is None:
        dense_mass = sum(value.numel() for value in starts[0].values()) <= _DENSE_UP_TO
    options = {
        "target_accept_prob": target_acceptance,
        "max_tree_depth": int(max_tree_depth),
        "full_mass": dense_mass,
    }
    work: list[Work] = [
        (model, args, z, int(num_draws), int(num_warmup), options, chain_seed)
        for z, chain_seed in zip(starts, seeds, strict=True)
    ]
    record = _Record(num_chains)
    total = num_chains * (num_draws + num_warmup)
    with progress_bar("sampling", verbose, total) as bar:

        def tell(chain: int, event: Iteration | str) -> None:
            record.add(chain, event)
            bar.update()

        try:
            if n_jobs == 1:
                for number, one in enumerate(work):
                    _run_here(number, one, tell)
            else:
                _run_in_processes(work, int(n_jobs), tell)
        except KeyboardInterrupt:
            if not record.whole():
                raise
            record.interrupted = True
    draws = record.draws(time.perf_counter() - began)
    warn_if_unhealthy(draws)
    return draws


def _starts(model: Model, args: tuple[Any, ...], start: Any, seeds: list[int]) -> list[Values]:
    potential = Potential(model, args)
    if start == "map":
        centre = potential.mode()
    elif start == "prior":
        centre = potential.start
    elif isinstance(start, dict):
        centre = potential.unconstrained(start)
    else:
        raise ValueError(f'start must be "map", "prior" or values by site, got {start!r}')
    return [
        potential.jittered(centre, torch.Generator().manual_seed(chain_seed))
        for chain_seed in seeds
    ]


class _Record:
    """The iterations that the chains have reported so far."""

    def __init__(self, num_chains: int) -> None:
        self.iterations: list[list[Iteration]] = [[] for _ in range(num_chains)]
        self.failures: dict[int, str] = {}
        self.interrupted = False

    def add(self, chain: int, event: Iteration | str) -> None:
        if isinstance(event, str):
            self.failures[chain] = event
        elif event.values is not None:
            self.iterations[chain].append(event)

    def whole(self) -> list[list[Iteration]]:
        """Iterations of the chains that have some and did not fail."""
        return [
            chain for i, chain in enumerate(self.iterations) if i not in self.failures and chain
        ]

    def draws(self, seconds: float) -> Draws:
        """Draws of the chains that did not fail, cut to the length that keeps the most draws."""
        whole = sorted(self.whole(), key=len, reverse=True)
        if not whole:
            raise RuntimeError(f"every chain failed; the first said: {self.failures.get(0)}")
        count = max(range(1, len(whole) + 1), key=lambda k: k * len(whole[k - 1]))
        length = len(whole[count - 1])
        iterations = [chain[:length] for chain in whole[:count]]
        kept = [[one.values or {} for one in chain] for chain in iterations]
        names = sorted(kept[0][0])
        values = {
            name: torch.stack([torch.stack([one[name] for one in chain]) for chain in kept])
            for name in names
        }
        diverging = torch.tensor([[one.diverging for one in chain] for chain in iterations])
        return Draws(values, diverging, self.failures, self.interrupted, seconds)


def _run_here(number: int, work: Work, tell: Tell) -> None:
    try:
        run_chain(*work, functools.partial(tell, number))
    except Exception as error:  # the other chains continue
        tell(number, f"{type(error).__name__}: {error}")


def _run_in_processes(work: list[Work], n_jobs: int, tell: Tell) -> None:
    waiting = list(enumerate(work))[::-1]
    events: queue.Queue[tuple[int, Iteration | str | None]] = queue.Queue()
    workers: dict[int, Worker] = {}

    def listen(number: int, worker: Worker) -> None:
        try:
            for iteration in worker.reports():
                events.put((number, iteration))
            events.put((number, None))
        except ChainError as error:
            events.put((number, str(error)))

    try:
        while waiting or workers:
            while waiting and len(workers) < n_jobs:
                number, one = waiting.pop()
                workers[number] = Worker(run_chain, one)
                threading.Thread(target=listen, args=(number, workers[number]), daemon=True).start()
            number, event = events.get()
            if isinstance(event, Iteration):
                tell(number, event)
                continue
            workers.pop(number).stop()
            if event is not None:
                tell(number, event)
    finally:
        for worker in workers.values():
            worker.stop()
