"""Where experiments run: the size, the seed, the device and the memory of their simulations."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from resnet_gp.networks import Results, Simulation, simulate
from resnet_gp.networks.simulation import DEFAULT_MEMORY, Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Lab:
    """What all experiments of a run share.

    Args:
        seed: of everything; each simulation has a seed sequence of its own below it.
        quick: small sizes.
        device: where the networks live.
        dtype: of the networks.
        memory: budget in bytes; see ``simulate``.
        progress: called with the cost of what was simulated.
        folder: where unfinished simulations are kept.
    """

    seed: int = 0
    quick: bool = False
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    memory: int = DEFAULT_MEMORY
    progress: Progress | None = None
    folder: Path | None = None

    def size(self, full: T, quick: T) -> T:
        """One of the two, by the size of the run."""
        return quick if self.quick else full

    def run(self, simulations: Sequence[Simulation]) -> dict[str, Results]:
        """All results, by the names of the simulations."""
        return {simulation.name: self._run(simulation) for simulation in simulations}

    def _run(self, simulation: Simulation) -> Results:
        key = zlib.crc32(simulation.name.encode())  # a spawn key that the other simulations leave
        return simulate(
            simulation,
            np.random.SeedSequence(self.seed, spawn_key=(key,)),
            device=self.device,
            dtype=self.dtype,
            memory=self.memory,
            progress=self.progress,
            folder=self.folder,
        )


Plan = Callable[[Lab], list[Simulation]]
