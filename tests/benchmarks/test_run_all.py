from types import SimpleNamespace

import pytest
from scripts import load


@pytest.fixture
def started(monkeypatch):
    """The script, and commands in place of processes; fit_time fails."""
    script, commands = load("benchmarks", "run_all"), []

    def run(command, check):
        commands.append([command[1].rpartition("/")[2].removesuffix(".py"), *command[2:]])
        return SimpleNamespace(returncode=3 if "fit_time" in command[1] else 0)

    monkeypatch.setattr(script.subprocess, "run", run)
    monkeypatch.setattr(script, "has_gpu", lambda: False)
    monkeypatch.setattr(script.pages, "main", lambda arguments: None)
    return script, commands


def test_every_script_is_known():
    script = load("benchmarks", "run_all")
    files = {path.stem for path in script.HERE.glob("*.py")}
    assert set(script.BENCHMARKS) == files - {
        "harness", "page_format", "pages", "pages_classification", "pages_regression", "peers",
        "published", "ranks", "regression_sets", "run_all", "sparse_gps",
    }  # fmt: skip


def test_quick_runs_all_and_a_failure_stops_nothing(started, capsys):
    script, commands = started
    assert script.main(["--quick"]) == 1
    assert commands == [[name, "--quick"] for name in script.BENCHMARKS]
    assert "failed with status 3" in capsys.readouterr().out


def test_without_data_those_that_need_them_are_left_out(started, capsys):
    script, commands = started
    assert script.main([]) == 0
    assert {name for name, *_ in commands} == {
        name for name, one in script.BENCHMARKS.items() if not (one.data or one.gpu)
    }
    out = capsys.readouterr().out
    assert "needs --data" in out
    assert "needs a GPU" in out


def test_those_that_go_on_get_the_time_that_is_left(started, capsys):
    script, commands = started
    chosen = ["kernels", "sparse_fit", "regression", "simulation_based_calibration"]
    assert script.main(["--data", "sets", "--hours", "0.5", "--only", *chosen]) == 0
    assert commands == [
        ["kernels"],
        ["simulation_based_calibration", "--seconds", "1800"],
        ["regression", "--data", "sets", "--seconds", "1800"],
    ]
    assert "left out: 30 minutes are left" in capsys.readouterr().out


def test_a_failure_is_the_exit_status(started):
    script, _ = started
    assert script.main(["--data", "sets", "--only", "fit_time"]) == 1
    assert script.main(["--data", "sets", "--only", "kernels"]) == 0
