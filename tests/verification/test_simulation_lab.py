from dataclasses import replace

import pytest

from resnet_gp.report.session import SessionError
from resnet_gp.verification.experiments import EXPERIMENTS, choose
from resnet_gp.verification.simulation_lab import SimulationLab


def test_experiments_by_name():
    lab = SimulationLab()
    assert choose(None, lab) == EXPERIMENTS
    assert list(choose(["roles,covariance", "posterior"], lab)) == [
        "covariance",
        "roles",
        "posterior",
    ]
    with pytest.raises(SessionError, match="no experiment rolls; there are neuron-law, indep") as e:
        choose(["rolls"], lab)
    assert e.value.option == "--experiments"


def test_too_little_memory():
    with pytest.raises(SessionError, match=r"at least [0-9]+ MiB are needed") as error:
        choose(["family"], SimulationLab(memory=2**20))
    assert error.value.option == "--memory"
    assert list(choose(["family"], SimulationLab())) == ["family"]


def test_a_simulation_does_not_depend_on_what_else_runs():
    lab = SimulationLab(seed=3, quick=True)
    plan = [one for one in EXPERIMENTS["roles"].plan(lab) if one.network.width == 1024]
    alone, together = lab.run(plan[-1:]), lab.run(plan)
    name, depth = plan[-1].name, plan[-1].network.depth
    assert (alone[name][depth].mean == together[name][depth].mean).all()
    other = replace(lab, seed=4).run(plan[-1:])
    assert (alone[name][depth].mean != other[name][depth].mean).any()


def test_names_of_simulations_are_file_names_and_unique():
    for quick in (True, False):
        lab = SimulationLab(quick=quick)
        names = [one.name for e in EXPERIMENTS.values() for one in e.plan(lab)]
        assert len(set(names)) == len(names)
        assert all(
            set(name) <= set("abcdefghijklmnopqrstuvwxyzMLPRNet_-.0123456789") for name in names
        )
