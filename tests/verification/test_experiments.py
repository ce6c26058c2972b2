"""Every experiment passes at its quick size, and fails under sabotage."""

from dataclasses import replace

import numpy as np
import pytest

from resnet_gp.networks import ResNet
from resnet_gp.report.checks import judge
from resnet_gp.report.page import _jsonable, _numbers
from resnet_gp.verification import (
    convolution,
    correlation_curve,
    covariance_along_depth,
    predictions,
    roles,
)
from resnet_gp.verification.experiments import EXPERIMENTS
from resnet_gp.verification.simulation_lab import SimulationLab


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_predictions_hold(name):
    result = EXPERIMENTS[name].run(SimulationLab(seed=0, quick=True))
    failed = [verdict for verdict in judge(result.checks) if not verdict.passed]
    assert not failed
    assert result.name == name
    assert all(np.isfinite(check.estimate) for check in result.checks)
    assert result.title
    assert result.theorem
    assert result.summary
    assert result.plot().axes
    assert set(_jsonable(_numbers(result))) == set(_numbers(result))


def scores():
    """z-scores of the correlation checks that fail."""
    result = correlation_curve.run(SimulationLab(seed=0, quick=True))
    return [abs(v.check.z) for v in judge(result.checks) if not v.passed and v.check.z is not None]


def test_sabotage_twice_the_rate_of_the_ode(monkeypatch):
    right = predictions.covariance

    def wrong(network, inputs, **arguments):
        fast = ResNet(network.width, network.depth, weight_variance=2 * network.weight_variance)
        return right(fast, inputs, **arguments)

    monkeypatch.setattr(correlation_curve, "covariance", wrong)
    assert max(scores()) > 10


def test_sabotage_he_weights(monkeypatch):
    """Variance 2/n instead of 1/n."""
    monkeypatch.setattr(ResNet, "layer_scale", property(lambda network: 2 / network.depth))
    assert max(scores()) > 10


def test_sabotage_a_missing_root_of_the_depth(monkeypatch):
    monkeypatch.setattr(ResNet, "layer_scale", property(lambda network: 1.0))
    assert max(scores()) > 10


@pytest.mark.parametrize("scale", [2.0, 10.0])
def test_sabotage_is_seen_in_every_mean_covariance(scale, monkeypatch):
    """He weights, and at L = 10 the missing root: every z-score at t = 1 is above 10."""
    monkeypatch.setattr(covariance_along_depth, "error_design", lambda lab: ((50, 500), (50,), 20))
    monkeypatch.setattr(covariance_along_depth, "mean_design", lambda lab: (8192, 200, (10,)))
    monkeypatch.setattr(ResNet, "layer_scale", property(lambda network: scale / network.depth))
    result = covariance_along_depth.run(SimulationLab(quick=True))
    ends = [check for check in result.checks if "t = 1.0" in check.name]
    assert len(ends) == 6
    assert min(abs(check.z) for check in ends) > 10


def test_sabotage_of_convolutions(monkeypatch):
    """A kernel whose filters are one pixel smaller on each side."""
    right = convolution.predicted

    def wrong(law, limit=False):
        return right(replace(law, filter_size=1), limit)

    monkeypatch.setattr(convolution, "predicted", wrong)
    result = convolution.run(SimulationLab(quick=True))
    worst = [abs(v.check.z) for v in judge(result.checks) if not v.passed]
    assert max(worst) > 10


@pytest.mark.parametrize(("variance", "bias"), [(1.0, 0.0), (0.3, 2.0), (2.0, 1.0)])
def test_noise_of_mean_squared_errors(variance, bias):
    errors = bias + variance**0.5 * np.random.default_rng(0).normal(size=(20_000, 16))
    means = (errors**2).mean(1)
    expected = roles.relative_noise(variance, bias**2, 16)
    assert means.std() / means.mean() == pytest.approx(expected, rel=0.03)
