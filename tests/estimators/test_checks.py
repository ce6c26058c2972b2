from types import SimpleNamespace

import numpy as np
import pytest
import torch

from resnet_gp.estimators.checks import (
    check_alpha,
    check_choices,
    check_integers,
    torch_device,
)


def test_choices():
    check_choices(SimpleNamespace(way="a"), {"way": ("a", "b")})
    with pytest.raises(ValueError, match='way must be "a" or "b", got \'c\''):
        check_choices(SimpleNamespace(way="c"), {"way": ("a", "b")})


@pytest.mark.parametrize("value", [2, 7, np.int64(3)])
def test_integers(value):
    check_integers(SimpleNamespace(count=value), {"count": 2})


@pytest.mark.parametrize("value", [1, 2.0, "2", None])
def test_not_such_integers(value):
    with pytest.raises(ValueError, match="count must be an integer of at least 2, got"):
        check_integers(SimpleNamespace(count=value), {"count": 2})


def test_none_where_it_may_be():
    check_integers(SimpleNamespace(count=None), {"count": 2}, optional=["count"])


def test_alpha():
    np.testing.assert_array_equal(check_alpha(0.5, 3), [0.5] * 3)
    np.testing.assert_array_equal(check_alpha([0, 1], 2), [0, 1])
    with pytest.raises(ValueError, match=r"alpha must be a number or of shape \(3,\), got \(2,\)"):
        check_alpha([0, 1], 3)
    for bad in (-1.0, np.inf, [0.0, np.nan]):
        with pytest.raises(ValueError, match="alpha must be finite and not negative"):
            check_alpha(bad, 2)


def test_devices(monkeypatch):
    assert torch_device("cpu") == torch.device("cpu")
    for device in ("abacus", "meta", None, 3.0):
        with pytest.raises(ValueError, match="device must be"):
            torch_device(device)

    def without_cuda(*args, **kwargs):
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "zeros", without_cuda)
    with pytest.raises(ValueError, match=r"device must be.*not compiled with CUDA"):
        torch_device("cuda")
