"""What does the batched trainer of deep ResNets save against autograd?

    python benchmarks/mean_ode_trainer.py
    python benchmarks/mean_ode_trainer.py --quick

Full-batch steps of 10 networks (D = 10, M = 10, L = 1000, 10 samples) by ``resnet_gp.mean_ode``,
by torch's autograd for one network after another, and by autograd for all networks in batched
products. Prints median seconds per step of all networks, the ways taking turns, and the peak memory
that each adds in a process of its own. Compare the memory with that of batched autograd: a loop
over networks holds one of them at a time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch
from harness import high_water_mark, in_own_process, in_turns, output, parser_of, save

from resnet_gp.mean_ode import ResidualMLP
from resnet_gp.mean_ode.training import Networks, train
from resnet_gp.threads import torch_threads


def networks(D: int, M: int, L: int, seeds: int, samples: int = 10) -> Networks:
    generator = torch.Generator().manual_seed(0)
    U, V = torch.randn(2, L, seeds, D, M, generator=generator) * D**0.5
    X, Y = torch.randn(2, seeds, samples, D, generator=generator)
    return Networks(U, V, X, Y, torch.ones(seeds))


def batched_trainer(start: Networks, steps: int) -> None:
    train(start, steps)


def autograd_loop(start: Networks, steps: int) -> None:
    L, seeds, D, M = start.U.shape
    for seed in range(seeds):
        network = ResidualMLP(D, M, L)
        network.load_state_dict({"U": start.U[:, seed], "V": start.V[:, seed]})
        optimiser = torch.optim.SGD(network.parameter_groups())
        for _ in range(steps):
            optimiser.zero_grad()
            ((network(start.X[seed]) - start.Y[seed]).square().mean() / 2).backward()
            optimiser.step()


def autograd_batched(start: Networks, steps: int) -> None:
    """The module's products, with a leading batch of networks."""
    L, _, D, M = start.U.shape
    U, V = (stack.clone().requires_grad_() for stack in (start.U, start.V))
    optimiser = torch.optim.SGD([U, V], lr=L * M * D)
    for _ in range(steps):
        optimiser.zero_grad()
        h = start.X
        for P, Q in zip((U / D).unbind(), (V / (L * M)).unbind(), strict=True):
            h = torch.baddbmm(h, torch.tanh(torch.bmm(h, P)), Q.mT)
        ((h - start.Y).square().mean((1, 2)).sum() / 2).backward()
        optimiser.step()


WAYS: dict[str, Callable[[Networks, int], None]] = {
    "batched trainer": batched_trainer,
    "autograd, batched": autograd_batched,
    "autograd, loop": autograd_loop,
}


def seconds(start: Networks, repeats: int, steps: int = 3) -> dict[str, float]:
    """Median seconds per step, after an untimed call of each way."""
    ways = {name: (lambda _, w=way: w(start, steps)) for name, way in WAYS.items()}
    return {name: float(np.median(s)) / steps for name, s in in_turns(ways, repeats).items()}


def print_peak(name: str, sizes: list[int]) -> None:
    WAYS[name](networks(4, 4, 4, 2), 2)  # code and workspaces
    start = networks(*sizes)
    before = high_water_mark()
    WAYS[name](start, 2)
    print(high_water_mark() - before)


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs=4, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak:
        print_peak(options.peak, options.sizes)
        return {}
    sizes, repeats = ([10, 10, 100, 10], 5) if options.quick else ([10, 10, 1000, 10], 7)
    with torch_threads(options.threads):
        times = seconds(networks(*sizes), repeats)
    ours = times["batched trainer"]
    measured = list(WAYS)[:2] if options.quick else WAYS
    result = {
        "sizes D, M, L, networks": sizes,
        "threads": options.threads,
        "seconds per step": times,
        "time against the batched trainer": {name: value / ours for name, value in times.items()},
        "added peak MiB": {
            name: in_own_process(__file__, "--peak", name, "--sizes", *sizes) / 2**20
            for name in measured
        },
    }
    print(json.dumps(result, indent=1))
    save(result, output(options, "mean_ode_trainer"))
    return result


if __name__ == "__main__":
    main()
