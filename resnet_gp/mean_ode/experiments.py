"""All experiments of the lab, by name, in the order of the report, and the lab for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from resnet_gp.mean_ode import chaos, dimension, grid, lazy, phases, rates, separation, widths
from resnet_gp.mean_ode.lab import Lab
from resnet_gp.report import session
from resnet_gp.report.result import Result

TITLE = "Deep ResNets in training against the Neural Mean ODE"


@dataclass(frozen=True)
class Experiment:
    """The function that runs it, and the number of measurements that it asks the lab for."""

    run: Callable[[Lab], Result]
    parts: Callable[[Lab], int]


def _on_grid(lab: Lab) -> int:
    return grid.repeats(lab) + len(grid.sizes(lab)) + grid.draws(lab)


EXPERIMENTS = {
    "rates": Experiment(rates.run, _on_grid),
    "separation": Experiment(separation.run, _on_grid),
    "widths": Experiment(widths.run, lambda lab: len(widths.WIDTHS) + grid.draws(lab)),
    "dimension": Experiment(dimension.run, lambda lab: len(dimension.DIMENSIONS)),
    "phases": Experiment(phases.run, lambda lab: sum(phases.draws(lab).values())),
    "lazy": Experiment(lazy.run, lazy.draws),
    "chaos": Experiment(chaos.run, chaos.draws),
}


def make_lab(out: Path, quick: bool, device: str, seed: int) -> Lab:
    """A lab that keeps its measurements in ``out`` until the report is written.

    Raises:
        SessionError: the device is not there, or the folder cannot be written.
    """
    place = session.find_device(device)
    return Lab(seed, quick, place, session.make_folder(out))


@contextmanager
def with_workers(lab: Lab) -> Iterator[Lab]:
    """The lab with a process for each core, of one thread each, if it is on a CPU.

    The operations are too small to be worth threads. An interrupt ends what has not begun.
    """
    if torch.device(lab.device).type != "cpu":
        yield lab
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context, initializer=_start_worker) as pool:
        try:
            yield replace(lab, pool=pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and decides
    torch.set_num_threads(1)
