"""Where the experiments run: size, seed, device, and the measurements that are kept."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_gp.mean_ode.training import Networks, train
from resnet_gp.mean_ode.units import Units, independent_units

Array: TypeAlias = NDArray[np.float64]
Measured: TypeAlias = dict[str, Array]
T = TypeVar("T")

SAMPLES = 10  # N, where an experiment does not say otherwise
MEMORY = 2**28  # bytes of the networks that train at a time


@dataclass(frozen=True)
class Runs:
    """What is kept of trained networks, one row for each.

    ``output``: ``B x N x D``; ``loss``: (1/ND) sum |h^L - y|^2 at the end, ``B``; ``movement_U``,
    ``movement_V``: root mean square over all entries, times alpha, ``B``.
    """

    output: Array
    loss: Array
    movement_U: Array
    movement_V: Array


@dataclass(frozen=True)
class Lab:
    """What all experiments of a run share.

    Args:
        seed: of everything; each measurement has a seed sequence of its own below it.
        quick: small sizes.
        device: where the networks train.
        folder: where measurements are kept, if anywhere.
        progress: called after each measurement.
        pool: of processes for measurements that do not depend on each other.
    """

    seed: int = 0
    quick: bool = False
    device: torch.device | str = "cpu"
    folder: Path | None = None
    progress: Callable[[], None] | None = None
    pool: Executor | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks."""
        return torch.float32

    def size(self, full: T, quick: T) -> T:
        """One of the two, by the size of the run."""
        return quick if self.quick else full

    def rng(self, *key: str | int) -> np.random.Generator:
        """The generator of that name; the same names give the same numbers."""
        words = zlib.crc32("/".join(map(str, key)).encode())
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(words,)))

    def keep(self, name: str, measure: Callable[..., Measured], *arguments: Any) -> Measured:
        """``measure(lab, *arguments)``, from the folder if it was measured before."""
        found = self._kept(name)
        if found is None:
            found = measure(self, *arguments)
            self._save(name, found)
        if self.progress is not None:
            self.progress()
        return found

    def keep_all(
        self, measure: Callable[..., Measured], parts: Mapping[str, tuple[Any, ...]]
    ) -> list[Measured]:
        """``keep`` for each name and its arguments, by the pool's workers if there is a pool."""
        if self.pool is None:
            return [self.keep(name, measure, *arguments) for name, arguments in parts.items()]
        alone = replace(self, pool=None, progress=None)
        futures = [
            self.pool.submit(alone.keep, name, measure, *arguments)
            for name, arguments in parts.items()
        ]
        if self.progress is not None:
            for future in futures:
                future.add_done_callback(self._tick)
        return [future.result() for future in futures]

    def _tick(self, future: Future[Measured]) -> None:
        if self.progress is not None and not future.cancelled():
            self.progress()

    def _path(self, name: str) -> Path | None:
        size = self.size("full", "quick")
        return self.folder and self.folder / f"{name}-{size}-seed{self.seed}.npz"

    def _kept(self, name: str) -> Measured | None:
        path = self._path(name)
        if path is None or not path.exists():
            return None
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)

    def _save(self, name: str, measured: Measured) -> None:
        path = self._path(name)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".part.npz")
            np.savez(unfinished, allow_pickle=False, **measured)
            unfinished.replace(path)

    def data(self, draw: int, D: int, samples: int = SAMPLES) -> tuple[Array, Array]:
        """X and Y of that data draw, with entries N(0, 1), each ``N x D``."""
        X, Y = self.rng("data", draw, D).standard_normal((2, samples, D))
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
        """Networks of their own units, one for each of the data, in bounded memory.

        ``alpha`` is one for all, or one for each. Networks of the same name have the same units.
        """
        alphas = np.broadcast_to(np.asarray(alpha, float), len(data))
        N, D = data[0][0].shape
        units = (draw_units(self.rng(name, M, L, D, i), D, M, L) for i in range(len(data)))
        rows = []
        for part in _parts(len(data), 4 * L * (4 * D * M + N * (D + M))):
            networks = self.networks([next(units) for _ in data[part]], data[part], alphas[part])
            rows.append(_runs(networks, steps))
        return Runs(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def networks(
        self, units: Sequence[Units], data: Sequence[tuple[Array, Array]], alphas: Array
    ) -> Networks:
        """A batch on the lab's device, in single precision."""
        stacks = [np.stack(column, 1) for column in zip(*units, strict=True)]
        stacks += [np.stack(column) for column in zip(*data, strict=True)]
        return Networks(
            *(torch.tensor(a, dtype=self.dtype, device=self.device) for a in (*stacks, alphas))
        )


def _runs(networks: Networks, steps: int) -> tuple[Array, ...]:
    trained = train(networks, steps)
    kept = (
        trained.output,
        trained.losses[-1],
        *(
            d.square().mean((0, 2, 3)).sqrt()
            for d in (trained.displacement_U, trained.displacement_V)
        ),
    )
    return tuple(tensor.double().cpu().numpy() for tensor in kept)


def _parts(count: int, size: int) -> Iterator[slice]:
    """Slices of a batch whose networks, of ``size`` bytes each, fit in memory together."""
    length = max(1, MEMORY // size)
    for start in range(0, count, length):
        yield slice(start, start + length)
