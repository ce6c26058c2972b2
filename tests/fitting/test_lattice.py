import math

import numpy as np
import pytest
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.fitting import lattice
from resnet_gp.fitting.lattice import maximise_on_lattice, tabulated_parameters
from resnet_gp.kernels import ResNetSumKernel


class Hill(torch.nn.Module):
    """A ridge: the best x is half of log w, whose summit lies at w = 10."""

    def __init__(self, impossible=()):
        super().__init__()
        self.kernel = ResNetLimitKernel("erf").double()
        self.kernel.raw_lengthscale.requires_grad_(False)
        self.x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.impossible, self.seen = impossible, set()

    def height(self):
        log_w = self.kernel.raw_weight_variance.sum()
        place = float(log_w.detach()) / math.log(2)
        self.seen.add(round(place, 9))
        if round(place) in self.impossible:
            raise torch.linalg.LinAlgError("not positive definite")
        summit = 5 * (log_w - math.log(10)) ** 2
        return -summit - 3 * (self.x.sum() - log_w / 2) ** 2


def climb(hill, bounds=None, **options):
    start = [np.array([0.0, 0.1])]  # x and log w
    return maximise_on_lattice(hill.height, hill, bounds or {}, start, **options)


def test_walks_to_the_best_lattice_point_and_optimises_the_rest():
    hill = Hill()
    found = climb(hill)
    assert hill.kernel.weight_variance.item() == pytest.approx(8)
    assert hill.x.item() == pytest.approx(math.log(8) / 2, abs=1e-4)
    assert found.value == pytest.approx(-5 * math.log(10 / 8) ** 2, abs=1e-6)
    assert hill.seen == {0, 1, 2, 3, 4}  # each place once, and none on the other side
    assert hill.kernel.raw_weight_variance.requires_grad


def test_stays_within_bounds_and_stops_at_impossible_points():
    name = "kernel.raw_weight_variance"
    climb(hill := Hill(), bounds={name: (math.log(0.3), math.log(5))})
    assert hill.kernel.weight_variance.item() == pytest.approx(4)
    climb(hill := Hill(impossible=(2,)))
    assert hill.kernel.weight_variance.item() == pytest.approx(2)


def test_the_watch_sees_all_parameters():
    told = []
    climb(Hill(), watch=lambda raw, value: told.append(raw))
    assert {raw.shape for raw in told} == {(2,)}


def test_an_interruption_keeps_the_best_point(monkeypatch):
    hill, calls = Hill(), iter(range(10**9))
    maximise = lattice.maximise

    def interrupted(*arguments, **options):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return maximise(*arguments, **options)

    monkeypatch.setattr(lattice, "maximise", interrupted)
    found = climb(hill)
    assert found.interrupted
    assert hill.kernel.weight_variance.item() == pytest.approx(2)
    assert hill.kernel.raw_weight_variance.requires_grad


def test_an_interruption_between_two_runs_keeps_the_best_point(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(lattice, "value_and_gradient", interrupted)  # which finds the next point
    found = climb(hill := Hill())
    assert found.interrupted
    assert hill.kernel.weight_variance.item() == pytest.approx(1)
    assert np.isfinite(found.value)


def test_only_kernels_with_tables_are_on_the_lattice():
    def names(*arguments, **options):
        return list(tabulated_parameters(ResNetLimitKernel(*arguments, **options)))

    assert names("erf") == names("tanh", 3) == ["raw_weight_variance"]
    assert names("gelu", block_bias=True) == ["raw_weight_variance", "raw_block_bias_variance"]
    assert names("relu") == names("relu", block_bias=True) == names("erf", 3) == []


def test_each_network_of_a_sum_has_its_own_place():
    """One network is best at w = 2, the other at w = 8."""
    kernel = ResNetSumKernel("erf").double()
    wanted = torch.tensor([2.0, 8.0], dtype=torch.float64).log()

    def height():
        places = torch.stack([one.raw_weight_variance.sum() for one in kernel.components])
        others = sum(one.raw_lengthscale.square().sum() for one in kernel.components)
        return (
            -3 * (places - wanted).square().sum() - others - (kernel.raw_ratio - 1).square().sum()
        )

    assert list(tabulated_parameters(kernel)) == [
        f"component_{c}.raw_weight_variance" for c in (1, 2)
    ]
    maximise_on_lattice(height, kernel, {}, [np.zeros(5)])
    weights = [one.weight_variance.item() for one in kernel.components]
    assert weights == pytest.approx([2, 8])
    assert kernel.raw_ratio.item() == pytest.approx(1, abs=1e-4)
