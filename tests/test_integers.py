"""Integers of some size, and the errors for all else."""

import numpy as np
import pytest

from resnet_gp.integers import check_integer, check_number, is_integer


@pytest.mark.parametrize("value", [1, 3, np.int64(2), np.uint8(1)])
def test_integers(value):
    assert is_integer(value)
    check_integer("n", value)


@pytest.mark.parametrize("value", [0, -1, True, np.True_, 2.0, "2", None, [2]])
def test_others_are_named(value):
    assert not is_integer(value)
    with pytest.raises(ValueError, match="n_jobs must be an integer of at least 1, got"):
        check_integer("n_jobs", value)


def test_the_least_is_allowed():
    check_integer("n", 0, least=0)
    with pytest.raises(ValueError, match="of at least 3, got 2"):
        check_integer("n", 2, least=3)


def test_numbers():
    for value in (0, -1.5, np.float32(2)):
        check_number("rate", value)
    for value in ("a", None, np.nan, np.inf, [1.0]):
        with pytest.raises(ValueError, match="rate must be a finite number, got"):
            check_number("rate", value)
