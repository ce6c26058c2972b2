import numpy as np
import pytest

from resnet_gp.fitting.standardise import Standardiser


def test_columns_get_mean_zero_and_variance_one():
    values = np.random.default_rng(0).normal(5, 3, size=(50, 4))
    result = Standardiser.of(values)(values).numpy()
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-13)
    np.testing.assert_allclose(result.std(0), 1, rtol=1e-13)


def test_constant_columns_become_zero():
    # The computed deviation of this column is not zero: 0.1 has no exact mean in floating point.
    values = np.column_stack([np.full(10, 0.1), np.arange(10.0)])
    standardiser = Standardiser.of(values)
    assert standardiser.scale[0] == 1
    assert (standardiser(values).numpy()[:, 0] == 0).all()


@pytest.mark.parametrize("size", [1e-300, 1e-12, 1e12, 1e300])
def test_extreme_units_do_not_overflow(size):
    values = np.array([-1.0, 0.0, 1.0]) * size
    result = Standardiser.of(values)(values).numpy()
    np.testing.assert_allclose(result, np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-12)
