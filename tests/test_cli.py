import json
import os
import subprocess
import sys

import numpy as np
import pytest
from test_demo import save_set
from typer.testing import CliRunner

import resnet_gp
from resnet_gp.cli import app


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def test_version():
    assert invoke("--version").stdout.strip() == resnet_gp.__version__


def test_demo_on_a_folder(tmp_path):
    save_set(tmp_path / "data", "toy")
    save_set(tmp_path / "data", "large", n=90)
    out = tmp_path / "deep" / "out"
    result = invoke(
        "demo", "--data", tmp_path / "data", "--splits", 1, "--out", out, "--max-samples", 50
    )
    assert result.exit_code == 0, result.output
    assert "large is skipped: 80 training rows" in result.stdout
    for word in ("toy", "RMSE", "NLPD", "in 90% interval", "seconds", "Matern"):
        assert word in result.stdout
    assert {s["data"] for s in json.loads((out / "demo.json").read_text())["scores"]} == {"toy"}
    assert (out / "demo.png").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "other"])
def test_a_folder_without_sets_is_an_error(tmp_path, kind):
    folder = tmp_path / "data"
    if kind != "missing":
        folder.mkdir()
    if kind == "other":
        np.savez(folder / "strange.npz", a=np.ones(3))
    result = invoke("demo", "--data", folder, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert {"missing": "not a folder", "empty": "no .npz sets", "other": "lacks X"}[
        kind
    ] in result.output


def test_too_few_samples_allowed_is_an_error(tmp_path):
    save_set(tmp_path / "data")
    result = invoke("demo", "--data", tmp_path / "data", "--max-samples", 5)
    assert result.exit_code == 2
    assert "--max-samples 5" in result.output


def test_pykeops_is_quiet():
    """It prints at import, by GPyTorch, that there is no CUDA: before any of our own lines."""
    code = "import resnet_gp.cli, gpytorch, pykeops"
    pytest.importorskip("pykeops")
    environment = {name: value for name, value in os.environ.items() if "KEOPS" not in name}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert result.stdout == ""
