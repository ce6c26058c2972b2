"""How long do chains of hyperparameters take, and what does a gradient cost?

    python benchmarks/sampling_time.py
    python benchmarks/sampling_time.py --quick

Four chains of 500 draws (after 500 of warm-up) of a regression with n = 200 simulated rows and
d = 6 features, in two processes: seconds, largest r-hat, divergences, fewest effective draws. Then
gradients per second of the log density of the same Pyro model at n = 1000, with our kernel and with
BoTorch's InfiniteWidthBNNKernel of depth 3 in turns: with one thread, as in chains that run in
processes of their own, and with all threads.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import torch
from gpytorch.kernels import Kernel
from gpytorch.priors import LogNormalPrior
from harness import in_turns, output, parser_of, save

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import GPRegression, run_nuts
from resnet_gp.bayes.chain import Potential
from resnet_gp.bayes.diagnostics import effective_draws, r_hat
from resnet_gp.threads import torch_threads

D = 6


def simulated(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised rows; two of the features have no effect."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, D, dtype=torch.float64, generator=generator)
    noise = torch.randn(n, dtype=torch.float64, generator=generator)
    y = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + x[:, 3].abs() + 0.2 * noise
    return x, (y - y.mean()) / y.std()


def ours() -> Kernel:
    return ResNetLimitKernel(input_bias=True, ard_num_dims=D)


def infinite_width_bnn() -> Kernel:
    """BoTorch's kernel, with priors on its two variances so that they are drawn."""
    from botorch.models.kernels import InfiniteWidthBNNKernel

    kernel = InfiniteWidthBNNKernel(depth=3)
    for name in ("weight_var", "bias_var"):
        kernel.register_prior(f"{name}_prior", LogNormalPrior(0.0, 1.0), name)
    return kernel


def chains(n: int, draws: int, number: int, jobs: int, depth: int) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = run_nuts(
            GPRegression(*simulated(n), ours()), num_chains=number, num_draws=draws,
            num_warmup=draws, n_jobs=jobs, max_tree_depth=depth,
        )  # fmt: skip
    return {
        "n": n, "d": D, "chains": number, "draws": draws, "processes": jobs,
        "seconds": found.seconds,
        "largest r-hat": max(r_hat(found).values()),
        "fewest effective draws": min(effective_draws(found).values()),
        "divergences": found.num_divergences,
    }  # fmt: skip


def gradients(n: int, repeats: int, threads: int) -> dict[str, float]:
    """Gradients per second, each at different values."""

    def way(kernel: Kernel):
        potential = Potential(GPRegression(*simulated(n), kernel), ())

        def gradient(repeat: int) -> None:
            potential.value_and_gradient(
                {name: value + 1e-3 * repeat for name, value in potential.start.items()}
            )

        return gradient

    with torch_threads(threads):
        ways = {"ours": way(ours()), "InfiniteWidthBNNKernel": way(infinite_width_bnn())}
        seconds = in_turns(ways, repeats)
    rates = {name: 1 / float(np.median(values)) for name, values in seconds.items()}
    ratio = np.median(seconds["InfiniteWidthBNNKernel"] / seconds["ours"])
    return {"n": n, "threads": threads, **rates, "ratio": float(ratio)}


def main(arguments: list[str] | None = None) -> dict[str, object]:
    options = parser_of(__doc__).parse_args(arguments)
    n, rows, draws, number, jobs, depth, repeats = (
        (20, 60, 12, 2, 1, 3, 2) if options.quick else (200, 1000, 500, 4, 2, 10, 15)
    )
    threads = sorted({1, torch.get_num_threads()})
    result: dict[str, object] = {
        "gradients a second": [gradients(rows, repeats, count) for count in threads]
    }
    result["chains"] = chains(n, draws, number, jobs, depth)
    print(json.dumps(result, indent=1))
    save(result, output(options, "sampling_time"))
    return result


if __name__ == "__main__":
    main()
