"""Everything in the README that can be run is run."""

import re
import shlex
from pathlib import Path

import markdown_blocks
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return markdown_blocks.blocks(README, language)


@pytest.mark.parametrize("code", blocks("python"), ids=markdown_blocks.first_line)
def test_python_block(code):
    markdown_blocks.run(code, "README.md")


def test_there_are_python_blocks():
    assert len(blocks("python")) >= 2


def test_command_line_blocks(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from resnet_gp.cli import app

    monkeypatch.setattr("resnet_gp.demo.run", lambda *data: iter(()))  # test_cli runs it
    monkeypatch.setattr("resnet_gp.demo.draw", lambda path, results: path.touch())
    from resnet_gp.verification import experiments

    fast = {"roles": experiments.EXPERIMENTS["roles"]}  # the others: tests/verification
    monkeypatch.setattr(experiments, "EXPERIMENTS", fast)
    from resnet_gp.mean_ode import experiments as mean_ode

    fast_too = {"dimension": mean_ode.EXPERIMENTS["dimension"]}  # the others: tests/mean_ode
    monkeypatch.setattr(mean_ode, "EXPERIMENTS", fast_too)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    numbers = np.random.default_rng(0).normal(size=(20, 2))
    for name in ("old.csv", "new.csv"):
        np.savetxt(name, numbers, delimiter=",", header="age,target", comments="")
    lines = [line for block in blocks("console") for line in block.splitlines()]
    commands = [line.removeprefix("$ ").split("#")[0] for line in lines if "$ resnet-gp" in line]
    assert commands
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)`", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
