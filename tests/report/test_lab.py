import ast
import re
from pathlib import Path

import pytest

import resnet_gp
from resnet_gp.report.lab import Lab

ROOT = Path(resnet_gp.__file__).parent


def test_sizes():
    assert Lab().size("full", "quick") == "full"
    assert Lab(quick=True).size("full", "quick") == "quick"


def test_seeds_depend_on_the_name_and_the_seed_alone():
    state = Lab(seed=3).seed_sequence("chaos", 1).generate_state(4).tolist()
    assert Lab(seed=3, quick=True).seed_sequence("chaos", 1).generate_state(4).tolist() == state
    for other in (Lab(seed=3).seed_sequence("chaos", 2), Lab(seed=4).seed_sequence("chaos", 1)):
        assert other.generate_state(4).tolist() != state


def imported(path):
    """Modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("report", "report"),
        ("networks", "networks|flow|activations|hermite|threads|progress"),
        ("verification", "verification|report|networks|kernels|functions|activations"),
        ("mean_ode", "mean_ode|report|networks|activations|progress"),
    ],
)
def test_rooms_import_only_what_lies_below_them(room, allowed):
    files = list((ROOT / room).glob("*.py"))
    assert files
    for path in files:
        own = [name for name in imported(path) if name.split(".")[0] == "resnet_gp"]
        wrong = [name for name in own if not re.match(rf"resnet_gp\.({allowed})\b", name)]
        assert not wrong, path


def test_nothing_imports_the_package_itself():
    """Its names load lazily, and its version is in the metadata: no arrow runs up to it."""
    modules = {path.stem for path in ROOT.iterdir()}
    for path in ROOT.rglob("*.py"):
        own = [name for name in imported(path) if name.split(".")[0] == "resnet_gp"]
        assert not [name for name in own if name.partition(".")[2].split(".")[0] not in modules], (
            path
        )


def test_nothing_but_the_command_line_imports_the_labs():
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT)
        if name.parts[0] in ("cli.py", "verification", "mean_ode"):
            continue
        labs = r"resnet_gp\.(verification|mean_ode)\b"
        assert not [one for one in imported(path) if re.match(labs, one)], path
