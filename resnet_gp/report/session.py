"""One run of the lab: from options to a lab, and from results to a report."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from resnet_gp.report.checks import Verdict
from resnet_gp.report.page import write_report
from resnet_gp.report.result import Result
from resnet_gp.verification import experiments
from resnet_gp.verification.experiments import Experiment
from resnet_gp.verification.lab import Lab

AnyLab = TypeVar("AnyLab")
TITLE = "ResNets of finite width and depth against their limit"
_UNFINISHED = "unfinished"  # folder of the simulations' states, gone when the report is written


class SessionError(ValueError):
    """An option that cannot be met, with its name."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def make_lab(out: Path, quick: bool, device: str, seed: int, memory: int) -> Lab:
    """A lab whose unfinished simulations are kept in ``out``.

    Raises:
        SessionError: the device is not there, or the folder cannot be written.
    """
    place = find_device(device)
    return Lab(seed, quick, place, memory=memory, folder=make_folder(out))


def make_folder(out: Path) -> Path:
    """Make ``out``; returns the folder in it for what is unfinished.

    Raises:
        SessionError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SessionError("--out", f"cannot write to {out}: {error.strerror}") from error
    return out / _UNFINISHED


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA if it is there, else the CPU.

    Raises:
        SessionError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SessionError("--device", f"{name} is not there: {reason}") from error
    if device.type not in ("cpu", "cuda"):
        raise SessionError("--device", f"{name} is neither a CPU nor a CUDA device")
    return device


def choose(names: list[str] | None, lab: Lab) -> dict[str, Experiment]:
    """The experiments of these names, which fit in the lab's memory.

    Raises:
        SessionError: an unknown name, or too little memory.
    """
    try:
        found = experiments.chosen(names)
    except ValueError as error:
        raise SessionError("--experiments", str(error)) from error
    needed = max(one.memory(lab) for one in found.values())
    if needed > lab.memory:
        raise SessionError("--memory", f"at least {-(-needed // 2**20)} MiB are needed")
    return found


class Conditions(Protocol):
    """What a report says of the lab of any room."""

    @property
    def seed(self) -> int: ...
    @property
    def quick(self) -> bool: ...
    @property
    def device(self) -> torch.device | str: ...
    @property
    def dtype(self) -> torch.dtype: ...


@dataclass
class Outcome:
    """Results so far, and how long they took."""

    results: list[Result] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, experiment: Callable[[AnyLab], Result], lab: AnyLab) -> None:
        start = time.perf_counter()
        self.results.append(experiment(lab))
        self.seconds[name] = time.perf_counter() - start


def report(out: Path, outcome: Outcome, lab: Conditions, title: str = TITLE) -> list[Verdict]:
    """Write the report and forget what was unfinished."""
    verdicts = write_report(out, outcome.results, title=title, facts=facts(lab, outcome))
    shutil.rmtree(out / _UNFINISHED, ignore_errors=True)
    return verdicts


def facts(lab: Conditions, outcome: Outcome) -> dict[str, Any]:
    """What it takes to run this again."""
    packages = ("resnet-gp", "torch", "gpytorch", "numpy", "scipy")
    device = torch.device(lab.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "size": "quick" if lab.quick else "full",
        "seed": lab.seed,
        "device": f"{device} {name}".strip(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "dtype": str(lab.dtype).removeprefix("torch."),
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
