import numpy as np
import pytest

pytest.importorskip("distributed")

from resnet_gp.distributed import Partitions, fit
from resnet_gp.distributed.column_moments import ColumnMoments, column_moments
from resnet_gp.fitting.standardise import Standardiser


def test_moments_are_those_of_numpy_and_stable(client, chunked):
    rng = np.random.default_rng(1)
    x = 1e8 + rng.normal(size=(500, 3))
    x[:, 1] = 0.1
    pairs = Partitions(client, *chunked(x, x[:, 0], rows=90)).pairs
    for part, values in zip(column_moments(client, pairs), (x, x[:, 0]), strict=True):
        found, expected = part.standardiser("X"), Standardiser.of(values)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-15)
        np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-7)


def test_no_rows_change_nothing():
    x = np.random.default_rng(1).normal(size=(50, 3))
    empty = ColumnMoments.of(x[:0])
    np.testing.assert_array_equal((empty + ColumnMoments.of(x)).mean, ColumnMoments.of(x).mean)
    assert (empty + empty).count == 0


@pytest.mark.parametrize("value", [1e200, -1.797e308])
def test_marks_of_missing_values_are_refused(client, chunked, value):
    x, y = np.random.default_rng(0).normal(size=(2, 60, 3))
    y = y[:, 0]
    y[7] = value
    with pytest.raises(ValueError, match=r"y holds .* in column 0 \(counted from 0\)"):
        fit(client, *chunked(x, y, rows=20))
    y[7], x[5, 1] = 0, value
    with pytest.raises(ValueError, match=r"X holds .* in column 1"):
        fit(client, *chunked(x, y, rows=20))


def test_what_no_sum_of_squares_can_hold_is_refused(client, chunked):
    x, y = np.random.default_rng(0).normal(size=(2, 60, 3))
    with pytest.raises(ValueError, match=r"y varies by less than 1e-150 in column 0"):
        fit(client, *chunked(x, 1e-170 * y[:, 0], rows=20))
