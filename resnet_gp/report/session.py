"""One run of a lab: its options, the results of its experiments, and the report."""

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
from typing import Any

import torch

from resnet_gp.report.checks import Verdict
from resnet_gp.report.lab import Lab
from resnet_gp.report.page import write_report
from resnet_gp.report.result import ExperimentResult

_UNFINISHED = "unfinished"  # folder of unfinished measurements, deleted once the report is written


class SessionError(ValueError):
    """A command-line option that cannot be met; ``option`` is its name."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def make_folder(out: Path) -> Path:
    """Create `out`; returns its folder for unfinished measurements.

    Raises:
        SessionError: `out` cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SessionError("--out", f"cannot write to {out}: {error.strerror}") from error
    return out / _UNFINISHED


def find_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA if available, else the CPU.

    Raises:
        SessionError: the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SessionError("--device", f"{name} is not available: {reason}") from error
    if device.type not in ("cpu", "cuda"):
        raise SessionError("--device", f"{name} is neither a CPU nor a CUDA device")
    return device


@dataclass
class Outcome:
    """Results so far, and the seconds that each experiment took."""

    results: list[ExperimentResult] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, run: Callable[[Any], ExperimentResult], lab: Lab) -> None:
        """Run an experiment and add its result."""
        start = time.perf_counter()
        self.results.append(run(lab))
        self.seconds[name] = time.perf_counter() - start


def report(out: Path, title: str, outcome: Outcome, lab: Lab) -> list[Verdict]:
    """Write the report, with all settings of the run, and delete the unfinished measurements."""
    packages = ("resnet-gp", "torch", "gpytorch", "numpy", "scipy")
    device = torch.device(lab.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    facts = {
        "size": "quick" if lab.quick else "full",
        "seed": lab.seed,
        "device": f"{device} {name}".strip(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "dtype": str(lab.dtype).removeprefix("torch."),
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
    verdicts = write_report(out, outcome.results, title=title, facts=facts)
    shutil.rmtree(out / _UNFINISHED, ignore_errors=True)
    return verdicts
