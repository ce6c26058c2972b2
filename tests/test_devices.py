"""Everything of ``device_cases`` on a GPU, and on a simulated one where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from device_cases import CASES, LONG_CASES
from simulated_device import simulated_cuda

HAS_CUDA = torch.cuda.is_available()
# Searches of hyperparameters stop at slightly different points.
TOLERANCE = 1e-5


def found(case: Any, device: torch.device) -> list[np.ndarray]:
    values = []
    for value in case(device):
        if isinstance(value, torch.Tensor):
            assert value.device.type == device.type
            value = value.detach().cpu().numpy()
        values.append(np.asarray([] if value is None else value, dtype=float))
    return values


def compare(name: str, device: torch.device) -> None:
    case = CASES[name]
    for ours, cpu in zip(found(case, device), found(case, torch.device("cpu")), strict=True):
        size = np.abs(cpu[np.isfinite(cpu)]).max(initial=1e-6)
        np.testing.assert_allclose(ours, cpu, rtol=0, atol=TOLERANCE * size)


@pytest.mark.skipif(HAS_CUDA, reason="there is a GPU, on which the same is tested")
@pytest.mark.parametrize("name", CASES)
def test_on_a_simulated_gpu(name):
    with simulated_cuda() as device:
        compare(name, device)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA machine")
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name):
    compare(name, torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA machine")
@pytest.mark.parametrize("name", LONG_CASES)
def test_long_cases_on_a_gpu(name):
    LONG_CASES[name](torch.device("cuda"))
