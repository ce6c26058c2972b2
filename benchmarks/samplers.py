"""What do the two samplers cost, and does the largest network fit?

    python benchmarks/samplers.py
    python benchmarks/samplers.py --quick

Times a network of width 1000 and depth 100 at four inputs, with explicit weights and exactly in
law. Then draws 200 networks of width and depth 5000 at two inputs, in a process of its own for its
peak memory.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np
import torch
from harness import high_water_mark, in_own_process, output, parser_of, save, timed

from resnet_gp.networks import SAMPLERS, ResNet, Simulation, simulate


def norms(depth: int, hidden: torch.Tensor) -> torch.Tensor:
    return hidden.square().mean(-1)


def seconds(simulation: Simulation, repeats: int = 1) -> float:
    """The shortest time of several runs."""
    seeds = map(np.random.SeedSequence, range(repeats))
    return min(timed(lambda s=seed: simulate(simulation, s))[1] for seed in seeds)


def compare(width: int, depth: int, inputs: int, networks: dict[str, int]) -> dict[str, float]:
    """Seconds that each sampler takes for one network."""
    points = torch.randn(inputs, 8, generator=torch.Generator().manual_seed(0))
    found = {}
    for sampler in SAMPLERS:
        one = Simulation(
            "one", ResNet(width, depth), points, networks[sampler], norms, sampler=sampler
        )
        found[sampler] = seconds(one, repeats=3) / networks[sampler]
    return found


def largest(size: int, networks: int) -> dict[str, float]:
    """Print time and peak memory of networks with n = L, in this process."""
    points = torch.tensor([[1.0, 1.0], [1.0, -1.3]])
    one = Simulation("largest", ResNet(size, size), points, networks, norms)
    taken = seconds(one)
    return {"seconds": taken, "peak MiB": high_water_mark() / 2**20}


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = parser_of(__doc__)
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
        f"n = L = {size}, m = 2, {count} networks": in_own_process(
            __file__, "--largest", size, count
        ),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(result, indent=1))
    save(result, output(options, "samplers"))
    return result


if __name__ == "__main__":
    main()
