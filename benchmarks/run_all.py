"""Run every benchmark, one after the other.

    python benchmarks/run_all.py --data DIR [--hours 8] [--only kernels regression]
    python benchmarks/run_all.py --quick                # the quick mode of each, minutes in all

DIR holds the folders ``regression``, ``classification`` and ``images`` of .npz sets; without it,
the benchmarks that need data are left out. Short ones come first. Benchmarks that can resume get
the remaining time; the others start only if it is enough. Then pages.py updates the tables of
README and docs. Exits with status 1 if a benchmark failed.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pages
from harness import HERE, print_table


class Benchmark(NamedTuple):
    """Minutes on two cores, whether it reads data, whether it resumes, and needs a GPU."""

    minutes: float
    data: bool = False
    resumes: bool = False
    gpu: bool = False


BENCHMARKS = {
    "import_time": Benchmark(1),
    "first_use": Benchmark(3),
    "neighbours": Benchmark(15, resumes=True),
    "accuracy": Benchmark(2),
    "samplers": Benchmark(2),
    "mean_ode_trainer": Benchmark(2),
    "kernels": Benchmark(5),
    "likelihood": Benchmark(2),
    "gpu": Benchmark(10, gpu=True),
    "gpu_instructions": Benchmark(1),
    "dask_fit": Benchmark(15),
    "sampling_time": Benchmark(8),
    "small_data": Benchmark(10, resumes=True),
    "scaling": Benchmark(60, resumes=True),
    "fit_time": Benchmark(20, data=True),
    "sparse_fit": Benchmark(40, data=True),
    "activations": Benchmark(90, data=True, resumes=True),
    "ablation": Benchmark(120, data=True, resumes=True),
    "full_bayes": Benchmark(20, data=True, resumes=True),
    "finite_posterior": Benchmark(30, resumes=True),
    "bayesian_optimisation": Benchmark(200, resumes=True),
    "simulation_based_calibration": Benchmark(60, resumes=True),
    "calibration": Benchmark(60, resumes=True),
    "images": Benchmark(600, data=True, resumes=True),
    "convolution": Benchmark(3, data=True),
    "nominal": Benchmark(40, data=True, resumes=True),
    "classification": Benchmark(240, data=True, resumes=True),
    "regression": Benchmark(600, data=True, resumes=True),
    "large": Benchmark(20, resumes=True),
}


def run(name: str, options: argparse.Namespace, left: float) -> str:
    """Run one benchmark and return a description of how it ended.

    Args:
        left: seconds for this benchmark and those after it.
    """
    benchmark, command = BENCHMARKS[name], [sys.executable, str(HERE / f"{name}.py")]
    if options.quick:
        command.append("--quick")
    else:
        if benchmark.data and options.data is None:
            return "left out: needs --data"
        if benchmark.gpu and not has_gpu():
            return "left out: needs a GPU"
        if left <= 0 or (not benchmark.resumes and left < 60 * benchmark.minutes):
            return f"left out: {max(left, 0) / 60:.0f} minutes are left"
        if benchmark.data:
            command += ["--data", str(options.data)]
        if benchmark.resumes and left < math.inf:
            command += ["--seconds", f"{left:.0f}"]
    print(f"{name} ...", flush=True)
    status = subprocess.run(command, check=False).returncode
    return f"failed with status {status}" if status else "done"


def has_gpu() -> bool:
    import torch  # takes seconds

    return torch.cuda.is_available()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of .npz sets")
    parser.add_argument("--hours", type=float, default=math.inf, help="in all")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="minutes, nothing saved")
    options = parser.parse_args(arguments)
    chosen = {name: one for name, one in BENCHMARKS.items() if name in (options.only or BENCHMARKS)}
    rows = [
        [name, f"{one.minutes:.0f}", *("yes" if flag else "" for flag in one[1:])]
        for name, one in chosen.items()
    ]
    print_table(
        "benchmarks", ["", "minutes on two cores", "needs data", "goes on", "needs a GPU"], rows
    )
    end = time.monotonic() + 3600 * options.hours
    ends = {name: run(name, options, end - time.monotonic()) for name in chosen}
    print_table("ends", ["", ""], ends.items())
    if not options.quick:
        pages.main([])
    return int(any(text.startswith("failed") for text in ends.values()))


if __name__ == "__main__":
    sys.exit(main())
