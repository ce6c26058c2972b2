"""The lab of training runs: data, networks, and measurements that are saved."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from resnet_gp.mean_ode.training import Networks, train
from resnet_gp.mean_ode.units import Units, independent_units
from resnet_gp.progress import write_atomically
from resnet_gp.report.fits import Array
from resnet_gp.report.lab import Lab

Measured: TypeAlias = dict[str, Array]

SAMPLES = 10  # N, unless an experiment says otherwise
MEMORY = 2**28  # bytes of the networks that train at a time


@dataclass(frozen=True)
class Runs:
    """Numbers kept of trained networks, one row for each network."""

    output: Array  # B x N x D
    loss: Array  # (1/ND) sum |h^L - y|^2 at the end, B
    movement: Array  # of U: root mean square over all entries, times alpha, B


@dataclass(frozen=True)
class TrainingLab(Lab):
    """Settings of a run of training experiments."""

    pool: Executor | None = None  # for measurements that do not depend on each other

    def rng(self, *name: str | int) -> np.random.Generator:
        """Generator of that name; the same name gives the same numbers."""
        return np.random.default_rng(self.seed_sequence(*name))

    @contextmanager
    def workers(self) -> Iterator[TrainingLab]:
        """Yield the lab with a pool of one single-threaded process per core, if it is on a CPU.

        The matrices are too small for threads to pay off. An interrupt cancels queued measurements.
        """
        if torch.device(self.device).type != "cpu":
            yield self
            return
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(cores, mp_context=context, initializer=_start_worker) as pool:
            try:
                yield replace(self, pool=pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def keep(self, name: str, measure: Callable[..., Measured], *arguments: Any) -> Measured:
        """Return ``measure(lab, *arguments)``, from the folder if it was measured before."""
        path = self._path(name)
        if path is not None and path.exists():
            with np.load(path, allow_pickle=False) as archive:
                found = dict(archive)
        else:
            found = measure(self, *arguments)
            if path is not None:
                file = io.BytesIO()
                np.savez(file, **found)  # type: ignore[arg-type]
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, file.getvalue())
        self._tick()
        return found

    def keep_all(
        self, measure: Callable[..., Measured], parts: Mapping[str, tuple[Any, ...]]
    ) -> list[Measured]:
        """Call ``keep`` for each name and its arguments, in the pool if there is one."""
        if self.pool is None:
            return [self.keep(name, measure, *arguments) for name, arguments in parts.items()]
        alone = replace(self, pool=None, progress=None)
        futures = [
            self.pool.submit(alone.keep, name, measure, *arguments)
            for name, arguments in parts.items()
        ]
        for future in as_completed(futures):
            future.result()  # raises the error of a measurement
            self._tick()
        return [future.result() for future in futures]

    def _tick(self) -> None:
        if self.progress is not None:
            self.progress(1.0)

    def _path(self, name: str) -> Path | None:
        size = self.size("full", "quick")
        return self.folder and self.folder / f"{name}-{size}-seed{self.seed}.npz"

    def data(self, draw: int, D: int) -> tuple[Array, Array]:
        """X and Y of a data draw, with entries N(0, 1), each ``SAMPLES x D``."""
        X, Y = self.rng("data", draw, D).standard_normal((2, SAMPLES, D))
        return X, Y

    def train(
        self,
        name: str,
        data: Sequence[tuple[Array, Array]],
        M: int,
        L: int,
        steps: int,
        alpha: Array | float = 1.0,
        draw_units: Callable[..., Units] = independent_units,
    ) -> Runs:
        """Train a network with its own units on each of the data, in bounded memory.

        Networks of the same name have the same units.
        """
        alphas = np.full(len(data), alpha)
        N, D = data[0][0].shape
        units = (draw_units(self.rng(name, M, L, D, i), D, M, L) for i in range(len(data)))
        count = max(1, MEMORY // (4 * L * (4 * D * M + N * (D + M))))  # networks at a time
        rows = []
        for start in range(0, len(data), count):
            part = slice(start, start + count)
            networks = self.networks([next(units) for _ in data[part]], data[part], alphas[part])
            rows.append(_runs(networks, steps))
        return Runs(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def networks(
        self,
        units: Sequence[Units],
        data: Sequence[tuple[Array, Array]],
        alpha: Array | float = 1.0,
    ) -> Networks:
        """Batch networks on the lab's device; ``alpha`` is one number, or one for each network."""
        stacks = [np.stack(column, 1) for column in zip(*units, strict=True)]
        stacks += [np.stack(column) for column in zip(*data, strict=True)]
        stacks.append(np.full(len(units), alpha))
        return Networks(*(torch.tensor(a, dtype=self.dtype, device=self.device) for a in stacks))


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts
    torch.set_num_threads(1)


def _runs(networks: Networks, steps: int) -> tuple[Array, ...]:
    trained = train(networks, steps)
    moved = trained.displacement_U.square().mean((0, 2, 3)).sqrt()
    kept = (trained.output, trained.losses[-1], moved)
    return tuple(tensor.double().cpu().numpy() for tensor in kept)
