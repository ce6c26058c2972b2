from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from resnet_gp.flow import on_torch, paths


def test_numba_on_the_cpu():
    pytest.importorskip("numba")
    assert paths.path_of(torch.ones(1)).__name__ == "resnet_gp.flow.on_numba"


def test_torch_without_numba(monkeypatch):
    monkeypatch.setattr("resnet_gp.flow.autograd._numba_module", lambda name: None)
    assert paths.path_of(torch.ones(1)) is on_torch


def test_torch_on_other_devices():
    assert paths.path_of(torch.ones(1, device="meta")) is on_torch


class TestOnGPUs:
    @pytest.fixture
    def tensor(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        return SimpleNamespace(device=torch.device("cuda"))

    def test_triton(self, tensor):
        pytest.importorskip("triton")
        assert paths.path_of(tensor).__name__ == "resnet_gp.flow.on_triton"

    def test_torch_without_triton(self, tensor, monkeypatch):
        monkeypatch.setattr(paths, "_triton_module", lambda: None)
        assert paths.path_of(tensor) is on_torch

    def test_torch_on_old_ones(self, tensor, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        assert paths.path_of(tensor) is on_torch

    def test_torch_on_those_of_amd(self, tensor, monkeypatch):
        monkeypatch.setattr(torch.version, "hip", "6.0")
        assert paths.path_of(tensor) is on_torch


def test_triton_is_not_imported_on_the_cpu():
    code = (
        "import sys, torch, resnet_gp; resnet_gp.ResNetLimitKernel()(torch.ones(2, 2)).to_dense()"
    )
    code += "; assert 'resnet_gp.flow.on_triton' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
