"""The settings of a run that both labs share."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Lab:
    """Settings of a run; subclasses add a way to measure.

    Args:
        seed: of all random numbers.
        quick: use small sizes.
        device: where the networks live.
        folder: where unfinished measurements are kept, if anywhere.
        progress: called with the cost of each finished measurement.
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

    def workers(self) -> AbstractContextManager[Lab]:
        """Return a context that holds the lab with its worker processes, if it uses any."""
        return nullcontext(self)
