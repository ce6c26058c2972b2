"""Simulations of many random networks in bounded memory, reproducible to the bit and resumable.

Networks come in blocks of a fixed size with random numbers of their own; the blocks' statistics
merge in a fixed order.
"""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from resnet_gp.networks.laws import Network, ResNet
from resnet_gp.networks.samplers import Sampler, layers
from resnet_gp.networks.statistics import SampleMoments, Samples, Statistic
from resnet_gp.networks.tangent import tangent_kernels
from resnet_gp.progress import write_atomically
from resnet_gp.threads import torch_threads

Observable: TypeAlias = Callable[[int, Tensor], Tensor]
Results: TypeAlias = dict[int, Statistic]

DEFAULT_MEMORY = 2**30
_BLOCK = 2**17  # pre-activations (or 32 times as many weights) of a block: they fit in a cache
_COPIES = 5  # of the pre-activations in memory within a layer
_SAVE_SECONDS = 5.0


@dataclass(frozen=True)
class Simulation:
    """A simulation of random networks.

    Args:
        name: of the saved state.
        network: the law.
        inputs: ``m x d``; ``simulate`` chooses device and dtype.
        networks: N, the number of independent networks.
        observe: maps a depth l and the pre-activations Y_l, ``N x m x n``, to the numbers observed
            of each network, ``N x k``.
        depths: at which to observe, from 0 to L; the last layer by default.
        keep: keep the numbers of all networks (``Samples``) instead of their ``SampleMoments``.
        sampler: "exact" or "explicit".

    Raises:
        ValueError: there are no networks, or depths outside 0 to L.
    """

    name: str
    network: Network
    inputs: Tensor
    networks: int
    observe: Observable
    depths: tuple[int, ...] = ()
    keep: bool = False
    sampler: Sampler = "exact"

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise ValueError(f"networks must be at least 1, got {self.networks}")
        if not self.depths:
            object.__setattr__(self, "depths", (self.network.depth,))
        if not all(0 <= depth <= self.network.depth for depth in self.depths):
            raise ValueError(f"depths must be from 0 to {self.network.depth}, got {self.depths}")

    @property
    def statistic(self) -> type[SampleMoments] | type[Samples]:
        return Samples if self.keep else SampleMoments

    @property
    def draws(self) -> int:
        """Random numbers of one layer of one network."""
        rows = self.network.width if self.sampler == "explicit" else len(self.inputs)
        return rows * self.network.width

    @property
    def cost(self) -> float:
        """Random numbers of the whole simulation, proportional to its time."""
        return float(self.networks) * max(self.depths) * self.draws

    @property
    def block(self) -> int:
        """Number of networks in a block."""
        room = _BLOCK * (32 if self.sampler == "explicit" else 1)
        return min(self.networks, max(1, room // self.draws))

    @property
    def blocks(self) -> int:
        return -(-self.networks // self.block)

    def sample(
        self, inputs: Tensor, count: int, generator: torch.Generator
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield depths and the numbers observed of ``count`` networks."""
        states = layers(self.network, inputs, count, generator, self.sampler)
        for depth, hidden in enumerate(itertools.islice(states, max(self.depths) + 1)):
            if depth in self.depths:
                yield depth, self.observe(depth, hidden)

    def bytes_of_block(self, dtype: torch.dtype) -> int:
        """Memory of a block while it is computed."""
        weights = self.draws if self.sampler == "explicit" else 0
        numbers = _COPIES * len(self.inputs) * self.network.width + weights
        return self.block * numbers * dtype.itemsize


@dataclass(frozen=True)
class TangentSimulation(Simulation):
    """A simulation whose ``observe`` gets the parts of ``tangent_kernels``, ``3 x N x m x m``."""

    @property
    def draws(self) -> int:
        return 2 * super().draws

    def sample(
        self, inputs: Tensor, count: int, generator: torch.Generator
    ) -> Iterator[tuple[int, Tensor]]:
        assert isinstance(self.network, ResNet)
        parts = tangent_kernels(self.network, inputs, count, generator, self.sampler)
        yield self.network.depth, self.observe(self.network.depth, torch.stack(parts))

    def bytes_of_block(self, dtype: torch.dtype) -> int:
        """Memory of all layers, which backpropagation needs."""
        return self.network.depth * super().bytes_of_block(dtype)


def simulate(
    simulation: Simulation,
    seed: np.random.SeedSequence,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    memory: int = DEFAULT_MEMORY,
    progress: Callable[[float], None] | None = None,
    folder: Path | None = None,
) -> Results:
    """Run a simulation.

    Args:
        simulation: networks, inputs and observed numbers.
        seed: on the same device and in the same dtype, the same seed gives the same results to the
            bit, whatever the memory and the threads.
        device: where the networks live. On the CPU, each torch thread computes a block.
        dtype: of the networks; observed numbers are averaged in float64.
        memory: budget in bytes for the networks in memory at a time.
        progress: called with each part of ``simulation.cost`` that was completed.
        folder: where the state is saved every few seconds and at an interrupt, to be resumed.

    Returns:
        ``SampleMoments`` or ``Samples`` by depth.

    Raises:
        ValueError: a single block does not fit in the memory budget.
    """
    device = torch.device(device)
    workers = _blocks_at_a_time(simulation, device, dtype, memory)
    inputs = simulation.inputs.to(device=device, dtype=dtype)
    seeds = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key).spawn(simulation.blocks)
    where = (str(seed.entropy), seed.spawn_key, str(device), str(dtype), torch.__version__)
    state = _State(simulation, where, folder)
    if progress and state.done:
        progress(simulation.cost * state.done / simulation.blocks)

    def run(index: int) -> Results:
        # On the CPU, torch uses 32 bits: of 10,000 blocks, two are alike once in a hundred runs.
        generator = torch.Generator(device)
        generator.manual_seed(int(seeds[index].generate_state(1, np.uint64)[0] >> np.uint64(1)))
        first = index * simulation.block
        count = min(simulation.block, simulation.networks - first)
        with torch.no_grad():
            sampled = simulation.sample(inputs, count, generator)
            return {depth: simulation.statistic.of(values) for depth, values in sampled}

    # One thread per block: fast for blocks side by side, and sums have a fixed order.
    with torch_threads(1), ThreadPoolExecutor(workers) as pool:
        try:
            for first in range(state.done, simulation.blocks, workers):
                chunk = range(first, min(first + workers, simulation.blocks))
                for results in pool.map(run, chunk):
                    state.merge(results)
                if progress:
                    progress(simulation.cost * len(chunk) / simulation.blocks)
                if time.monotonic() - state.saved > _SAVE_SECONDS:
                    state.save()
        finally:
            state.save()
    return state.results


def _blocks_at_a_time(
    simulation: Simulation, device: torch.device, dtype: torch.dtype, memory: int
) -> int:
    needed = simulation.bytes_of_block(dtype)
    if needed > memory:
        raise ValueError(
            f"memory of {memory / 2**20:.0f} MiB is too small: {simulation.name} needs "
            f"{needed / 2**20:.0f} MiB for {simulation.block} networks"
        )
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return max(1, min(threads, memory // needed, simulation.blocks))


class _State:
    """Merged results of the first blocks, and their copy on disk."""

    def __init__(self, simulation: Simulation, where: tuple[Any, ...], folder: Path | None) -> None:
        self.done = 0
        kind = simulation.statistic
        self.results: Results = {depth: kind() for depth in sorted(set(simulation.depths))}
        self._path = folder / f"{simulation.name}.npz" if folder else None
        law = (repr(simulation.network), simulation.inputs.tolist(), simulation.sampler)
        observed = (simulation.networks, simulation.block, simulation.depths, kind.__name__)
        self._identity = json.dumps((law, observed, where))
        self.saved = time.monotonic()
        if self._path and self._path.exists():
            self._load(self._path, kind)
        self._on_disk = self.done

    def merge(self, block: Results) -> None:
        for depth, statistic in block.items():
            self.results[depth] = self.results[depth].merge(statistic)  # type: ignore[arg-type]
        self.done += 1

    def save(self) -> None:
        if self._path is None or self.done == self._on_disk:
            return
        arrays = {
            f"{depth}/{name}": array
            for depth, statistic in self.results.items()
            for name, array in statistic.state().items()
        }
        file = io.BytesIO()
        np.savez(file, identity=self._identity, done=self.done, **arrays)  # type: ignore[arg-type]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, file.getvalue())
        self.saved, self._on_disk = time.monotonic(), self.done

    def _load(self, path: Path, kind: type[SampleMoments] | type[Samples]) -> None:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["identity"]) != self._identity:
                return
            self.done = int(archive["done"])
            for depth, empty in self.results.items():
                state = {name: archive[f"{depth}/{name}"] for name in empty.state()}
                self.results[depth] = kind.from_state(state)
