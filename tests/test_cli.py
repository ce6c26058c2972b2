import json
import os
import subprocess
import sys
from contextlib import nullcontext

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


def fast_verify(monkeypatch):
    """One experiment that takes no time, in place of all."""
    from resnet_gp.verification import experiments, roles

    monkeypatch.setattr(roles, "widths", lambda lab: (1024, 4096, 16384))
    one = experiments.EXPERIMENTS["roles"]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"roles": one})


def test_verify_writes_a_report(tmp_path, monkeypatch):
    fast_verify(monkeypatch)
    out = tmp_path / "deep" / "out"
    result = invoke("verify", "--out", out, "--quick", "--device", "cpu", "--seed", 3)
    content = json.loads((out / "results.json").read_text())
    # Networks this narrow do not tell 1/L from 1/L^2: "differs" fails, and so does the command.
    assert result.exit_code == 1, result.output
    assert "2 of 5 checks failed: χ² of the fit" in result.stdout
    assert content["seed"] == 3
    assert content["device"].startswith("cpu")
    assert sum(check["passed"] for check in content["checks"]) == 3
    assert {p.name for p in out.iterdir()} == {"report.html", "results.json", "figures"}


def test_verify_exits_with_0_if_every_prediction_holds(tmp_path):
    result = invoke("verify", "--out", tmp_path, "--quick", "--experiments", "roles")
    assert result.exit_code == 0, result.output


def test_verify_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    from resnet_gp.networks import simulation
    from resnet_gp.verification import roles

    fast_verify(monkeypatch)
    arguments = ("verify", "--out", tmp_path / "one", "--quick")
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(roles, "fit_roles", stop)
        result = invoke(*arguments)
    assert result.exit_code == 130
    assert "the same command goes on from here" in result.output
    kept = sorted((tmp_path / "one" / "unfinished").iterdir())
    assert len(kept) == 9
    with monkeypatch.context() as patch:
        patch.setattr(simulation, "layers", lambda *_: pytest.fail("simulated again"))
        assert invoke(*arguments).exit_code == 1
    invoke("verify", "--out", tmp_path / "two", "--quick")
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text())["checks"]
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--experiments", "rolls"), "--experiments: no experiment rolls"),
        (("--device", "cuda:99"), "--device: cuda:99 is not there"),
        (("--memory", "1"), "--memory: at least"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_verify_names_the_argument_that_is_wrong(tmp_path, arguments, message):
    result = invoke("verify", "--out", tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_verify_needs_a_folder_that_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    result = invoke("verify", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "--out: cannot write to" in result.output


def fast_mean_ode(monkeypatch):
    """The quickest experiment in place of all."""
    from resnet_gp.mean_ode import experiments

    one = experiments.EXPERIMENTS["dimension"]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"dimension": one})


def test_mean_ode_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    from resnet_gp.mean_ode import dimension

    fast_mean_ode(monkeypatch)
    out = tmp_path / "deep" / "out"
    arguments = ("mean-ode", "--out", out, "--quick", "--device", "cpu", "--seed", 3)
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(dimension, "_slopes", stop)
        result = invoke(*arguments)
    assert result.exit_code == 130
    assert "the same command goes on from here" in result.output
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "unfinished").iterdir()}
    assert len(kept) == 3
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        patch.setattr("resnet_gp.mean_ode.experiments.with_workers", nullcontext)
        result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "dimension" in result.stdout
    assert kept == {path.name: path.stat().st_mtime_ns for path in (out / "unfinished").iterdir()}
    content = json.loads((out / "results.json").read_text())
    assert content["passed"]
    assert content["seed"] == 3
    assert (out / "report.html").exists()
    assert (out / "figures" / "dimension.png").exists()


def test_mean_ode_exits_with_1_if_a_prediction_fails(tmp_path, monkeypatch):
    from resnet_gp.mean_ode import dimension

    fast_mean_ode(monkeypatch)
    monkeypatch.setattr("resnet_gp.mean_ode.experiments.with_workers", nullcontext)
    monkeypatch.setattr(dimension, "_rate_ratio", lambda D: [1.0, 1.0, 1.0])  # wrong step sizes
    result = invoke("mean-ode", "--out", tmp_path, "--quick")
    assert result.exit_code == 1, result.output
    assert "1 of 7 checks failed: critical step sizes: D/(LM) over" in result.stdout
    assert not json.loads((tmp_path / "results.json").read_text())["passed"]
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "cuda:99"), "--device: cuda:99 is not there"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_mean_ode_names_the_argument_that_is_wrong(tmp_path, arguments, message):
    result = invoke("mean-ode", "--out", tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_mean_ode_needs_a_folder_that_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    result = invoke("mean-ode", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "--out: cannot write to" in result.output
