"""Every experiment passes at its quick size, and fails under sabotage."""

import numpy as np
import pytest
import torch

from resnet_gp.mean_ode import scales, training_lab
from resnet_gp.mean_ode.experiments import EXPERIMENTS
from resnet_gp.mean_ode.training import Networks
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.report.checks import judge
from resnet_gp.report.page import _jsonable, _numbers


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder for measurements that experiments share."""
    return tmp_path_factory.mktemp("kept")


def failures(name, lab):
    result = EXPERIMENTS[name].run(lab)
    return [verdict for verdict in judge(result.checks) if not verdict.passed]


# Networks of the wrong scale diverge, and their numbers overflow.
diverges = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_predictions_hold(name, kept):
    count = []
    lab = TrainingLab(quick=True, folder=kept, progress=count.append)
    result = EXPERIMENTS[name].run(lab)
    failed = [verdict for verdict in judge(result.checks) if not verdict.passed]
    assert not failed
    assert result.name == name
    assert sum(count) == EXPERIMENTS[name].cost(lab)
    assert all(np.isfinite(check.estimate) for check in result.checks)
    assert result.title
    assert result.summary
    assert result.theorem
    assert result.plot().axes
    assert set(_jsonable(_numbers(result))) == set(_numbers(result))


@diverges
@pytest.mark.parametrize(("power_L", "power_M"), [(1.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
def test_sabotage_a_missing_root_in_the_scale(monkeypatch, power_L, power_M):
    """1/(L sqrt(M)) and the like instead of 1/(LM)."""

    def prefactor(networks):
        L, _, _, M = networks.U.shape
        return networks.alpha[:, None, None] / (L**power_L * M**power_M)

    monkeypatch.setattr(Networks, "prefactor", property(prefactor))
    assert failures("chaos", TrainingLab(quick=True))


@pytest.mark.parametrize("power", [0.0, -2.0], ids=["not scaled by alpha", "U as V"])
def test_sabotage_wrong_scaling_of_the_learning_rates(monkeypatch, power):
    def rates(alpha, D, M, L):
        rate = alpha**power * (L * M * D)
        return rate, rate if power else alpha**-2 * (L * M * D)

    monkeypatch.setattr(scales, "learning_rates", rates)
    assert failures("dimension", TrainingLab(quick=True))


@diverges
@pytest.mark.parametrize("missing", ["L", "M", "D"])
def test_sabotage_a_missing_factor_in_the_learning_rates(monkeypatch, missing):
    right = scales.learning_rates

    def rates(alpha, D, M, L):
        return right(alpha, **{"D": D, "M": M, "L": L} | {missing: 1})

    monkeypatch.setattr(scales, "learning_rates", rates)
    assert failures("dimension" if missing == "D" else "chaos", TrainingLab(quick=True))


def test_numbers_do_not_depend_on_memory_or_workers(monkeypatch, tmp_path):
    lab = TrainingLab(seed=3, quick=True)
    data = [lab.data(draw, 4) for draw in range(5)]
    whole = lab.train("test", data, 3, 8, 5)
    monkeypatch.setattr(training_lab, "MEMORY", 1)
    one_by_one = lab.train("test", data, 3, 8, 5)
    np.testing.assert_allclose(one_by_one.output, whole.output, atol=1e-5)
    other = TrainingLab(seed=4, quick=True)
    assert (other.train("test", data, 3, 8, 5).output != whole.output).any()


def double(lab, number):
    return {"twice": np.array(2 * number), "random": lab.rng("x", number).random(3)}


def test_measurements_are_kept_and_come_in_order(tmp_path, monkeypatch):
    count = []
    lab = TrainingLab(folder=tmp_path, progress=count.append)
    parts = {f"part-{k}": (k,) for k in range(3)}
    measured = lab.keep_all(double, parts)
    assert [one["twice"] for one in measured] == [0, 2, 4]
    again = lab.keep_all(lambda *_: pytest.fail("measured again"), parts)
    np.testing.assert_array_equal(measured[1]["random"], again[1]["random"])
    assert len(count) == 6
    other_seed = TrainingLab(seed=1, folder=tmp_path).keep_all(double, parts)
    assert (other_seed[1]["random"] != measured[1]["random"]).any()


def test_workers_of_another_device_are_none():
    lab = TrainingLab(device=torch.device("meta"))
    with lab.workers() as working:
        assert working.pool is None
