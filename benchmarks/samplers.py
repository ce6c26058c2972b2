"""What do the two samplers cost, and does the largest network fit?

    python benchmarks/samplers.py
    python benchmarks/samplers.py --quick

Times a network of width 1000 and depth 100 at four inputs, with explicit weights and exactly in
law; and, in a process of its own for its peak memory, 200 networks of width and depth 5000 at two
inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from resnet_gp.networks import SAMPLERS, ResNet, Simulation, simulate

RESULTS = Path(__file__).parent / "results" / "samplers.json"


def norms(depth: int, hidden: torch.Tensor) -> torch.Tensor:
    return hidden.square().mean(-1)


def seconds(simulation: Simulation, repeats: int = 1) -> float:
    """The least of some runs."""
    times = []
    for seed in range(repeats):
        start = time.perf_counter()
        simulate(simulation, np.random.SeedSequence(seed))
        times.append(time.perf_counter() - start)
    return min(times)


def compare(width: int, depth: int, inputs: int, networks: dict[str, int]) -> dict[str, float]:
    """Seconds for a network, of each sampler."""
    points = torch.randn(inputs, 8, generator=torch.Generator().manual_seed(0))
    found = {}
    for sampler in SAMPLERS:
        one = Simulation(
            "one", ResNet(width, depth), points, networks[sampler], norms, sampler=sampler
        )
        found[sampler] = seconds(one, repeats=3) / networks[sampler]
    return found


def largest(size: int, networks: int) -> dict[str, float]:
    """Time and peak memory of networks with n = L, in this process."""
    points = torch.tensor([[1.0, 1.0], [1.0, -1.3]])
    one = Simulation("largest", ResNet(size, size), points, networks, norms)
    taken = seconds(one)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"seconds": taken, "peak MiB": peak}


def in_own_process(size: int, networks: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--largest", str(size), str(networks)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing saved")
    parser.add_argument("--largest", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.largest:
        found = largest(*options.largest)
        print(json.dumps(found))
        return found
    width, depth, networks = (100, 10, 8) if options.quick else (1000, 100, 64)
    times = compare(width, depth, 4, {"exact": networks, "explicit": 4})
    size, count = (200, 8) if options.quick else (5000, 200)
    result = {
        f"n = {width}, L = {depth}, m = 4: seconds for a network": times,
        "explicit / exact": times["explicit"] / times["exact"],
        f"n = L = {size}, m = 2, {count} networks": in_own_process(size, count),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(result, indent=1))
    if not options.quick:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
