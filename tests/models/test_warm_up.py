import importlib
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from resnet_gp.kernels import ResNetLimitKernel, ResNetSumKernel
from resnet_gp.models import ExactRegression, warm_up


class Threads(ThreadPoolExecutor):
    """In place of processes, which import everything anew."""

    def __init__(self, workers, context):
        assert context.get_start_method() == "spawn"
        super().__init__(workers)


def test_compiles_for_both_precisions(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(warm_up, "ProcessPoolExecutor", Threads)
    assert sorted(warm_up.compile_loops()) == ["float32", "float64"]
    pickle.dumps(warm_up._compile)  # as processes need


def test_says_that_numba_is_missing(monkeypatch):
    monkeypatch.setattr(warm_up, "compiled_loops", lambda *_: None)
    with pytest.raises(RuntimeError, match=r"resnet-gp\[fast\]"):
        next(warm_up.compile_loops())


def test_a_fit_finds_its_loops_compiled():
    """A cached array of another layout, say, would be compiled for again."""
    pytest.importorskip("numba")
    compiled = importlib.import_module("resnet_gp.flow.compiled")
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2)
    warm_up._covariances(x)
    entries = compiled.covariance, compiled.gradient
    before = [list(entry.signatures) for entry in entries]
    options = {"input_bias": True, "variance": "no_growth", "contrast": True, "ard_num_dims": 2}
    for kernel in (ResNetLimitKernel(**options), ResNetSumKernel(**options)):
        model = ExactRegression(x, x[:, 0], kernel.double())
        model.log_marginal_likelihood().backward()
        model.posterior().law(x + 0.1)
    assert [list(entry.signatures) for entry in entries] == before
