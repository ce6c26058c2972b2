"""The lab of simulations of random networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_gp.networks import Results, Simulation, simulate
from resnet_gp.networks.simulation import DEFAULT_MEMORY
from resnet_gp.report.lab import Lab


@dataclass(frozen=True)
class SimulationLab(Lab):
    """Settings of a run of simulations.

    Args:
        memory: budget in bytes; see ``simulate``.
    """

    memory: int = DEFAULT_MEMORY

    def run(self, simulations: Sequence[Simulation]) -> dict[str, Results]:
        """Run the simulations; returns their results by name."""
        return {
            one.name: simulate(
                one,
                self.seed_sequence(one.name),
                device=self.device,
                dtype=self.dtype,
                memory=self.memory,
                progress=self.progress,
                folder=self.folder,
            )
            for one in simulations
        }
