"""All experiments of the lab, by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resnet_gp.networks import Simulation
from resnet_gp.report.result import Result
from resnet_gp.verification import (
    commutation,
    correlation,
    covariance,
    family,
    independence,
    neuron_law,
    posterior,
    roles,
)
from resnet_gp.verification.lab import Lab


@dataclass(frozen=True)
class Experiment:
    """What it simulates, and the function that does so and returns its result."""

    plan: Callable[[Lab], list[Simulation]]
    run: Callable[[Lab], Result]

    def cost(self, lab: Lab) -> float:
        return sum(simulation.cost for simulation in self.plan(lab))

    def memory(self, lab: Lab) -> int:
        """Bytes of its largest block of networks."""
        return max(simulation.bytes_of_block(lab.dtype) for simulation in self.plan(lab))


EXPERIMENTS = {
    "neuron-law": Experiment(neuron_law.plan, neuron_law.run),
    "independence": Experiment(independence.plan, independence.run),
    "covariance": Experiment(covariance.plan, covariance.run),
    "correlation": Experiment(correlation.plan, correlation.run),
    "commutation": Experiment(commutation.plan, commutation.run),
    "roles": Experiment(roles.plan, roles.run),
    "family": Experiment(family.plan, family.run),
    "posterior": Experiment(posterior.plan, posterior.run),
}


def chosen(names: list[str] | None) -> dict[str, Experiment]:
    """The experiments of these names, in the order of the report; all if there are none.

    Args:
        names: each a name, or several joined by commas.

    Raises:
        ValueError: an unknown name.
    """
    wanted = [name.strip() for one in names or [] for name in one.split(",")]
    unknown = [name for name in wanted if name not in EXPERIMENTS]
    if unknown:
        raise ValueError(f"no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    return {name: one for name, one in EXPERIMENTS.items() if name in wanted or not wanted}
