"""All experiments by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resnet_gp.networks import Simulation
from resnet_gp.report.result import ExperimentResult
from resnet_gp.report.session import SessionError
from resnet_gp.verification import (
    commutation,
    convolution,
    correlation_curve,
    covariance_along_depth,
    family,
    independence,
    network_posterior,
    neuron_law,
    roles,
)
from resnet_gp.verification.simulation_lab import SimulationLab

TITLE = "ResNets of finite width and depth against their limit"


@dataclass(frozen=True)
class SimulationExperiment:
    """An experiment on random networks; ``plan`` lists its simulations, ``run`` makes them."""

    run: Callable[[SimulationLab], ExperimentResult]
    plan: Callable[[SimulationLab], list[Simulation]]

    def cost(self, lab: SimulationLab) -> float:
        """Total cost of its simulations."""
        return sum(simulation.cost for simulation in self.plan(lab))

    def memory(self, lab: SimulationLab) -> int:
        """Bytes of its largest block of networks."""
        return max(simulation.bytes_of_block(lab.dtype) for simulation in self.plan(lab))


EXPERIMENTS = {
    "neuron-law": SimulationExperiment(neuron_law.run, neuron_law.plan),
    "independence": SimulationExperiment(independence.run, independence.plan),
    "covariance": SimulationExperiment(covariance_along_depth.run, covariance_along_depth.plan),
    "correlation": SimulationExperiment(correlation_curve.run, correlation_curve.plan),
    "commutation": SimulationExperiment(commutation.run, commutation.plan),
    "roles": SimulationExperiment(roles.run, roles.plan),
    "family": SimulationExperiment(family.run, family.plan),
    "convolution": SimulationExperiment(convolution.run, convolution.plan),
    "posterior": SimulationExperiment(network_posterior.run, network_posterior.plan),
}


def choose(names: list[str] | None, lab: SimulationLab) -> dict[str, SimulationExperiment]:
    """Return the experiments of these names in the order of the report, or all of them.

    Args:
        names: each a name, or several joined by commas.
        lab: its memory has to hold the largest block of networks.

    Raises:
        SessionError: a name is unknown, or the memory is too small.
    """
    wanted = [name.strip() for one in names or [] for name in one.split(",")]
    unknown = [name for name in wanted if name not in EXPERIMENTS]
    if unknown:
        known = ", ".join(EXPERIMENTS)
        message = f"no experiment {', '.join(unknown)}; there are {known}"
        raise SessionError("--experiments", message)
    found = {name: one for name, one in EXPERIMENTS.items() if name in wanted or not wanted}
    needed = max(one.memory(lab) for one in found.values())
    if needed > lab.memory:
        raise SessionError("--memory", f"at least {-(-needed // 2**20)} MiB are needed")
    return found
