from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Modules shared by tests; pytest itself puts nothing on the path with --import-mode=importlib.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("kernels.properties")


@pytest.fixture(params=["compiled", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the loops in numba and again in plain torch."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr("resnet_gp.flow.covariance._compiled_loops", lambda tensor: None)
        monkeypatch.setattr("resnet_gp.flow.cells._numba_loops", lambda: None)
    return request.param
