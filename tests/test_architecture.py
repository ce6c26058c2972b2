"""Data flows one way: each room of the package reads only rooms below it."""

import ast
from pathlib import Path

import pytest

import resnet_gp

PACKAGE = Path(resnet_gp.__file__).parent

# The floors of docs/architecture.md, from the ground up.
GROUND = {"activations", "hermite", "integers", "memory", "progress", "threads"}
READS = {
    "activations": {"hermite"},
    "hermite": set(),
    "integers": set(),
    "threads": set(),
    "progress": set(),
    "memory": set(),
    "flow": GROUND,
    "functions": GROUND | {"flow"},
    "kernels": GROUND | {"flow"},
    "networks": GROUND | {"flow"},
    "predictive": GROUND,
    "models": GROUND | {"flow", "kernels", "predictive"},
    "fitting": GROUND | {"flow", "kernels", "predictive", "models"},
    "bayes": GROUND | {"flow", "kernels", "networks", "predictive", "models", "fitting"},
    "distributed": GROUND | {"flow", "kernels", "predictive", "models", "fitting"},
    "columns": GROUND | {"fitting"},
    "estimators": GROUND
    | {"flow", "kernels", "predictive", "models", "fitting", "bayes", "columns"},
    "tables": GROUND | {"predictive", "fitting", "columns", "estimators"},
    "report": GROUND,
    "verification": GROUND | {"flow", "functions", "kernels", "networks", "report"},
    "mean_ode": GROUND | {"networks", "report"},
    "demo": GROUND | {"predictive", "estimators"},
    "cli": GROUND
    | {
        "predictive",
        "models",
        "estimators",
        "tables",
        "report",
        "verification",
        "mean_ode",
        "demo",
    },
}


def rooms():
    names = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    return names | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def imported(path):
    """Modules of the package that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name


def test_every_room_is_on_the_plan():
    assert rooms() == READS.keys()


def test_the_plan_has_no_circles():
    def below(room, path=()):
        assert room not in path, f"{room} reads itself through {path}"
        for other in READS[room]:
            below(other, (*path, room))

    for room in READS:
        below(room)


@pytest.mark.parametrize("room", sorted(READS))
def test_a_room_reads_only_rooms_below_it(room):
    folder = PACKAGE / room
    files = folder.rglob("*.py") if folder.is_dir() else [PACKAGE / f"{room}.py"]
    wrong = set()
    for path in files:
        for name in imported(path):
            top, *rest = name.split(".")
            if top == "resnet_gp" and (not rest or rest[0] not in READS[room] | {room}):
                wrong.add(f"{path.relative_to(PACKAGE)}: {name}")
    assert not wrong


def test_scikit_learn_estimators_are_known_to_estimators_alone():
    """Fits, models and posteriors take tensors: no estimator, no validation of user input."""
    wrong = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for room in READS["estimators"] | {"distributed"}
        for path in (PACKAGE / room).rglob("*.py")
        for name in imported(path)
        if name.startswith(("sklearn.base", "sklearn.utils.validation", "sklearn.exceptions"))
    }
    assert not wrong
