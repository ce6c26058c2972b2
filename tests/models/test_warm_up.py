import pytest

from resnet_gp.models import warm_up


def test_compiles_for_both_precisions(capsys):
    pytest.importorskip("numba")
    steps = list(warm_up.compile_loops())
    assert len(steps) == 6
    assert steps[0] == "covariances in float64"
    assert steps[-1] == "nearest neighbours in float32"


def test_says_that_numba_is_missing(monkeypatch):
    monkeypatch.setattr(warm_up, "compiled_loops", lambda *_: None)
    with pytest.raises(RuntimeError, match=r"resnet-gp\[fast\]"):
        next(warm_up.compile_loops())
