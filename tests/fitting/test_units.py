import numpy as np
import pytest
import torch

from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.fitting.units import Units
from resnet_gp.predictive import Law

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)) * [1.0, 10.0, 0.1] + 5


@pytest.mark.parametrize("outputs", [None, 2])
def test_standard_units_there_and_back(outputs):
    y = RNG.normal(size=50 if outputs is None else (50, outputs)) * 7 - 3
    units = Units(Standardiser.of(X), Standardiser.of(y))
    scaled = units.y(y)
    np.testing.assert_allclose(units.mean(scaled), y)
    np.testing.assert_allclose(scaled.std(0, correction=0), 1)
    np.testing.assert_allclose(units.deviation(torch.ones_like(scaled))[0], y.std(0))
    covariance = torch.eye(50).double() if outputs is None else torch.ones(50, 50, 2).double()
    np.testing.assert_allclose(units.covariance(covariance)[0, 0], y.var(0))
    law = units.law(Law.normal(scaled.numpy(), 2.0))
    np.testing.assert_allclose(law.mean, y)
    np.testing.assert_allclose(law.std[0], 2 * y.std(0))
    slopes = torch.ones(50, 3).double() if outputs is None else torch.ones(50, 3, 2).double()
    expected = y.std(0) / X.std(0).reshape(-1, *[1] * y.std(0).ndim)
    np.testing.assert_allclose(units.slope(slopes, X)[0], expected)
    again = Units.from_tensors(units.tensors())
    np.testing.assert_array_equal(again.mean(scaled), units.mean(scaled))
    np.testing.assert_array_equal(again.x(X), units.x(X))
