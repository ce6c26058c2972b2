"""Base classes of the labs: settings of a run, and experiments."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
import torch

from resnet_gp.report.result import ExperimentResult

T = TypeVar("T")
AnyLab = TypeVar("AnyLab")


@dataclass(frozen=True)
class Lab:
    """Settings of a run; subclasses add a way to measure.

    Args:
        seed: of all random numbers.
        quick: use small sizes.
        device: where the networks live.
        folder: where unfinished measurements are kept, if anywhere.
        progress: called with the cost of each finished measurement, in units of
            ``Experiment.cost``.
    """

    seed: int = 0
    quick: bool = False
    device: torch.device | str = "cpu"
    folder: Path | None = None
    progress: Callable[[float], None] | None = None

    dtype: ClassVar[torch.dtype] = torch.float32  # of the networks

    def size(self, full: T, quick: T) -> T:
        """Return `quick` in a quick run, else `full`."""
        return quick if self.quick else full

    def seed_sequence(self, *name: str | int) -> np.random.SeedSequence:
        """Seed sequence of a name, independent of other names and of the order of experiments."""
        key = zlib.crc32("/".join(map(str, name)).encode())
        return np.random.SeedSequence(self.seed, spawn_key=(key,))

    @contextmanager
    def workers(self: AnyLab) -> Iterator[AnyLab]:
        """Yield the lab with its worker processes running, if it uses any."""
        yield self


@dataclass(frozen=True)
class Experiment(Generic[AnyLab]):
    """An experiment of a lab; ``run`` measures and returns the result with its checks."""

    run: Callable[[AnyLab], ExperimentResult]

    def cost(self, lab: AnyLab) -> float:
        """Total of the costs that the lab's ``progress`` is called with."""
        raise NotImplementedError
