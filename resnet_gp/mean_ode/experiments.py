"""All experiments by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from resnet_gp.mean_ode import chaos, dimension, grid, lazy, phases, rates, separation, widths
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.report.result import ExperimentResult

TITLE = "Deep ResNets in training against the Neural Mean ODE"


class TrainingExperiment(NamedTuple):
    """An experiment on trained networks; ``cost`` is the number of its measurements."""

    run: Callable[[TrainingLab], ExperimentResult]
    cost: Callable[[TrainingLab], int]


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
