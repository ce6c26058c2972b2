from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Modules shared by tests; pytest itself puts nothing on the path with --import-mode=importlib.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("kernels.properties")


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    """What leaves torch with more threads slows every later test, and its neighbour's process."""
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.fixture(params=["compiled", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the loops in numba and again in plain torch."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr("resnet_gp.flow.autograd._numba_module", lambda name: None)
    return request.param


@pytest.fixture(scope="module")
def few_rows_learn() -> Iterator[None]:
    """Nearest inference learns from left-out rows, however few rows there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resnet_gp.fitting.nearest._FEW_ROWS", 0)
        yield
