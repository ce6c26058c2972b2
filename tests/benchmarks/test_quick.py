"""Every benchmark has a quick mode, and it runs."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kernels(capsys):
    results = load("kernels").main(["--quick"])
    assert results["forward, float64, ResNetLimitKernel"]["ratio"] > 0
    assert "peak, float32, MaternKernel" in results
    assert results["family, float64, tangent"]["seconds"] > 0
    assert "with gradients" in capsys.readouterr().out


def test_regression_saves_every_cell_and_resumes(tmp_path, monkeypatch):
    benchmark = load("regression")
    out = tmp_path / "cells.json"
    cells = benchmark.main(["--quick", "--out", str(out)])
    assert len(cells) == 4
    assert all(cell["rmse"] < 0.5 for cell in cells)
    monkeypatch.setattr(benchmark, "cell", lambda *_: pytest.fail("a cell was run twice"))
    assert benchmark.main(["--quick", "--out", str(out)]) == cells


def test_fit_time():
    result = load("fit_time").main(["--quick"])
    assert result["ratio"] > 0
    assert result["nats below the best"] < 0.5
