import math

import numpy as np
import pytest
import torch

from resnet_gp.fitting import maximise, optimiser
from resnet_gp.fitting.optimiser import get_raw, set_raw, value_and_gradient
from resnet_gp.flow.domain import DomainError


class Hill(torch.nn.Module):
    """Two summits on a line, the higher one at 3."""

    def __init__(self):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.frozen = torch.nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=False)

    def height(self):
        x, y = self.place
        low, high = torch.exp(-((x + 3) ** 2)), 2 * torch.exp(-((x - 3) ** 2))
        return low + high - (y - 1) ** 2


def test_finds_the_summit_and_leaves_the_module_there():
    hill = Hill()
    result = maximise(hill.height, hill, {}, [np.array([2.0, 0.0])])
    assert result.converged
    assert result.value == pytest.approx(2, abs=1e-8)
    np.testing.assert_allclose(hill.place.detach(), [3, 1], atol=1e-4)
    assert get_raw(hill).shape == (2,)


def test_goes_on_from_the_best_candidate():
    starts = [np.array([-2.5, 0.0]), np.array([2.5, 0.0])]
    for order in (starts, starts[::-1]):
        assert maximise(Hill.height.__get__(h := Hill()), h, {}, order).value > 1.9


def test_keeps_the_best_of_candidates_and_restarts():
    hill = Hill()
    low, high = np.array([-2.5, 0.0]), np.array([2.5, 0.0])
    result = maximise(hill.height, hill, {}, [low], [high])
    assert result.values == pytest.approx([1, 2], abs=1e-6)
    assert result.value == max(result.values)
    assert hill.place[0].item() == pytest.approx(3, abs=1e-3)


def test_stays_within_bounds():
    hill = Hill()
    maximise(hill.height, hill, {"place": (-1.0, 0.5)}, [np.array([9.0, 9.0])])
    assert hill.place.detach().tolist() == [0.5, 0.5]


def test_says_when_it_did_not_converge():
    hill = Hill()
    assert not maximise(hill.height, hill, {}, [np.array([2.0, -3.0])], max_iter=1).converged


def test_a_gain_below_the_least_ends_a_run():
    start = [np.array([2.2, 0.2])]
    fine = maximise(Hill.height.__get__(h := Hill()), h, {}, start)
    coarse = maximise(Hill.height.__get__(h := Hill()), h, {}, start, least_gain=0.1)
    assert coarse.iterations < fine.iterations
    assert coarse.converged
    assert 1 < coarse.value < fine.value


def test_a_run_that_fails_once_may_still_end_by_its_least_gain(monkeypatch):
    """The status of every search counts, not only of the first."""
    hill, calls = Hill(), []

    def failing_once(*args, **kwargs):
        result = minimize(*args, **kwargs)
        calls.append(result)
        if len(calls) == 1:
            result.status, result.success = 2, False
        else:
            result.fun -= 1.0  # as if the second search had gained something
        return result

    minimize = optimiser.minimize
    monkeypatch.setattr(optimiser, "minimize", failing_once)
    found = maximise(hill.height, hill, {}, [np.array([2.2, 0.2])], least_gain=0.1)
    assert len(calls) == 2
    assert calls[1].status == 99
    assert found.converged


def test_iterations_of_a_run_that_starts_again_count_together(monkeypatch):
    hill, asked = Hill(), []

    def failing(*args, **kwargs):
        asked.append(kwargs["options"]["maxiter"])
        assert len(asked) <= 3
        result = minimize(*args, **kwargs)
        result.status, result.success, result.nit = 2, False, 4
        result.fun -= len(asked)  # as if each search gained something
        return result

    minimize = optimiser.minimize
    monkeypatch.setattr(optimiser, "minimize", failing)
    found = maximise(hill.height, hill, {}, [np.array([2.2, 0.2])], max_iter=10)
    assert asked == [10, 6, 2]
    assert found.iterations >= 10
    assert not found.converged


def test_a_summit_that_rounding_hides_counts_as_found():
    hill = Hill()

    def rough():  # the gradient still points uphill where the value no longer rises
        return hill.height() + 1e-2 * (hill.place.sum() - hill.place.detach().sum())

    result = maximise(rough, hill, {}, [np.array([2.0, 0.0])])
    assert result.converged
    assert result.value == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("error", [torch.linalg.LinAlgError, DomainError])
def test_walks_around_impossible_points(error):
    hill = Hill()

    def cliff():
        if hill.place[0] > 3.5:
            raise error("not here")
        return hill.height()

    assert maximise(cliff, hill, {}, [np.array([1.5, 0.0])]).value == pytest.approx(2, abs=1e-6)


def test_a_step_beyond_a_cliff_is_shortened_not_given_up():
    """Slopes that grow towards the summit make steps that jump over the cliff behind it."""
    hill, calls = Hill(), []

    def cliff():
        calls.append(hill.place.detach().tolist())
        if hill.place[0] > 3.5:
            raise DomainError("not here")
        return -50 * torch.log1p((hill.place - 3).square() @ torch.ones(2).double() * 4)

    assert maximise(cliff, hill, {}, [np.array([-4.0, 0.5])]).value > -1e-4
    beyond = [i for i, place in enumerate(calls) if place[0] > 3.5]
    assert beyond
    steps = [abs(calls[i + 1][0] - calls[i - 1][0]) for i in beyond if 0 < i < len(calls) - 1]
    assert min(steps) > 1e-6


def test_values_that_are_no_numbers_are_impossible():
    hill = Hill()

    def edge():
        height = hill.height()
        return height * math.nan if hill.place[0] > 3.5 else height

    found = maximise(edge, hill, {}, [np.array([1.5, 0.0])])
    assert found.value == pytest.approx(2, abs=1e-6)


def test_keeps_the_best_point_seen_when_a_run_ends_worse(monkeypatch):
    hill = Hill()

    def lost(*args, **kwargs):
        result = minimize(*args, **kwargs)
        result.x, result.fun = np.array([9.0, 9.0]), 1e15
        return result

    minimize = optimiser.minimize
    monkeypatch.setattr(optimiser, "minimize", lost)
    found = maximise(hill.height, hill, {}, [np.array([2.0, 0.0])])
    assert found.value == pytest.approx(2, abs=1e-6)
    np.testing.assert_allclose(hill.place.detach(), [3, 1], atol=1e-2)


def test_raises_when_every_point_is_impossible():
    hill = Hill()

    def nowhere():
        raise torch.linalg.LinAlgError("not positive definite")

    with pytest.raises(torch.linalg.LinAlgError, match="anywhere"):
        maximise(nowhere, hill, {}, [np.zeros(2)])

    def outside():
        raise DomainError("horizon")

    with pytest.raises(DomainError, match="horizon"):
        maximise(outside, hill, {}, [np.zeros(2)])


def test_raw_parameters_round_trip_without_the_frozen_ones():
    hill = Hill()
    set_raw(hill, np.array([1.5, -2.5]))
    assert hill.place.detach().tolist() == [1.5, -2.5]
    assert get_raw(hill).tolist() == [1.5, -2.5]
    assert hill.frozen.tolist() == [1, 1, 1]


def test_gradient_is_that_of_the_objective():
    hill = Hill()
    at, step = np.array([2.0, 0.5]), 1e-6
    _, gradient = value_and_gradient(hill.height, hill, at)
    for i, direction in enumerate(np.eye(2)):
        above, _ = value_and_gradient(hill.height, hill, at + step * direction)
        below, _ = value_and_gradient(hill.height, hill, at - step * direction)
        assert gradient[i] == pytest.approx((above - below) / (2 * step), rel=1e-6)
