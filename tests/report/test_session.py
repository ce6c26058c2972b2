from dataclasses import replace

import pytest
import torch

from resnet_gp.report.session import SessionError, choose, find_device, make_lab
from resnet_gp.verification.experiments import EXPERIMENTS, chosen
from resnet_gp.verification.lab import Lab


def test_experiments_by_name():
    assert list(chosen(None)) == list(EXPERIMENTS)
    assert list(chosen(["roles,covariance", "posterior"])) == ["covariance", "roles", "posterior"]
    with pytest.raises(ValueError, match="no experiment rolls; there are neuron-law, indep"):
        chosen(["rolls"])


def test_devices():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "tpu", "meta"):
        with pytest.raises(SessionError, match=name) as error:
            find_device(name)
        assert error.value.option == "--device"


def test_a_folder_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SessionError, match="cannot write to") as error:
        make_lab(file / "out", True, "cpu", 0, 2**30)
    assert error.value.option == "--out"


def test_too_little_memory():
    with pytest.raises(SessionError, match=r"at least [0-9]+ MiB are needed") as error:
        choose(["family"], Lab(memory=2**20))
    assert error.value.option == "--memory"
    assert list(choose(["family"], Lab())) == ["family"]


def test_a_simulation_does_not_depend_on_what_else_runs():
    lab = Lab(seed=3, quick=True)
    plan = [one for one in EXPERIMENTS["roles"].plan(lab) if one.network.width == 1024]
    alone, together = lab.run(plan[-1:]), lab.run(plan)
    name, depth = plan[-1].name, plan[-1].network.depth
    assert (alone[name][depth].mean == together[name][depth].mean).all()
    other = replace(lab, seed=4).run(plan[-1:])
    assert (alone[name][depth].mean != other[name][depth].mean).any()


def test_names_of_simulations_are_file_names_and_unique():
    for quick in (True, False):
        names = [one.name for e in EXPERIMENTS.values() for one in e.plan(Lab(quick=quick))]
        assert len(set(names)) == len(names)
        assert all(
            set(name) <= set("abcdefghijklmnopqrstuvwxyzMLPRNet_-.0123456789") for name in names
        )
