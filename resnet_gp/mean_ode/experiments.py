"""All experiments by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resnet_gp.mean_ode import chaos, dimension, grid, lazy, phases, rates, separation, widths
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.report.lab import Experiment

TITLE = "Deep ResNets in training against the Neural Mean ODE"


@dataclass(frozen=True)
class TrainingExperiment(Experiment[TrainingLab]):
    """An experiment on trained networks; ``measurements`` is their number."""

    measurements: Callable[[TrainingLab], int]

    def cost(self, lab: TrainingLab) -> float:
        """Number of measurements."""
        return self.measurements(lab)


def _on_grid(lab: TrainingLab) -> int:
    return grid.repeats(lab) + len(grid.sizes(lab)) + grid.draws(lab)


EXPERIMENTS = {
    "rates": TrainingExperiment(rates.run, _on_grid),
    "separation": TrainingExperiment(separation.run, _on_grid),
    "widths": TrainingExperiment(widths.run, lambda lab: len(widths.WIDTHS) + grid.draws(lab)),
    "dimension": TrainingExperiment(dimension.run, lambda lab: len(dimension.DIMENSIONS)),
    "phases": TrainingExperiment(phases.run, lambda lab: sum(phases.draws(lab).values())),
    "lazy": TrainingExperiment(lazy.run, lazy.draws),
    "chaos": TrainingExperiment(chaos.run, chaos.draws),
}
