from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# GPyTorch imports pykeops, and every process that does rewrites its cache at its end: where two do
# at the same time, or one is killed, a third finds an empty file. So each worker has a new cache.
if "PYTEST_XDIST_WORKER" in os.environ:
    keops_cache = tempfile.TemporaryDirectory(prefix="keops-", ignore_cleanup_errors=True)
    os.environ["KEOPS_CACHE_FOLDER"] = keops_cache.name

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
