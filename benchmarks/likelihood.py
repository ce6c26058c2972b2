"""How long do a kernel matrix and a likelihood take at the sizes of fits?

    python benchmarks/likelihood.py
    python benchmarks/likelihood.py --quick

One thread, d = 8, at n = 200, 500, 1000 and 3000. The matrix against GPyTorch's RBFKernel, in both
precisions; one likelihood with priors and its gradient, new hyperparameters at every call, against
LAPACK's Cholesky factor and inverse of the same matrix alone, for one network and for two. Peers
take turns in one process. Prints medians of the repeats, and their ratios.
"""

from __future__ import annotations

import numpy as np
import torch
from gpytorch.kernels import Kernel, RBFKernel
from harness import in_turns, output, parser_of, print_table, processor, save

from resnet_gp.fitting.optimiser import free_parameters, gradient_of
from resnet_gp.kernels import ResNetLimitKernel, ResNetSumKernel
from resnet_gp.memory import keep_freed_memory
from resnet_gp.models import ExactRegression
from resnet_gp.models.priors import add_weak_priors, prior_density
from resnet_gp.threads import torch_threads

SIZES, FEATURES = (200, 500, 1000, 3000), 8
DTYPES = {"float64": torch.float64, "float32": torch.float32}
KERNELS = {"one network": ResNetLimitKernel, "two networks": ResNetSumKernel}


def matrix(n: int, dtype: torch.dtype, repeats: int) -> dict[str, np.ndarray]:
    """Seconds of a matrix with a new weight variance, and of an RBF kernel's."""
    x = torch.randn(n, FEATURES, dtype=dtype)
    rbf, ours = RBFKernel().to(dtype), ResNetLimitKernel(ard_num_dims=FEATURES).to(dtype)

    @torch.no_grad()
    def call(kernel: Kernel) -> None:
        kernel(x).to_dense()

    def call_ours(repeat: int) -> None:
        ours.weight_variance = 0.7 + 0.05 * (repeat % 20)
        call(ours)

    return in_turns({"peer": lambda _: call(rbf), "ours": call_ours}, repeats)


def likelihood(n: int, name: str, repeats: int) -> dict[str, np.ndarray]:
    """Seconds of a likelihood and its gradient, and of LAPACK's part of it."""
    x, y = torch.randn(n, FEATURES, dtype=torch.float64), torch.randn(n, dtype=torch.float64)
    kernel = KERNELS[name](
        input_bias=True, variance="no_growth", contrast=True, ard_num_dims=FEATURES
    )
    model = ExactRegression(x, y, kernel.double())
    add_weak_priors(model)
    prior, parameters = prior_density(model), free_parameters(model)
    matrix = model.noisy_covariance().detach()

    def call_ours(repeat: int) -> None:
        with torch.no_grad():
            parameters[-1].add_(0.01 * (-1) ** repeat)
            parameters[2].add_(1e-3)
        gradient_of(lambda: model.log_marginal_likelihood() + prior(), parameters)

    def lapack(_: int) -> None:
        torch.cholesky_inverse(torch.linalg.cholesky(matrix))

    return in_turns({"peer": lapack, "ours": call_ours}, repeats)


def main(arguments: list[str] | None = None) -> dict[str, object]:
    options = parser_of(__doc__).parse_args(arguments)
    sizes = SIZES[:1] if options.quick else SIZES
    result: dict[str, object] = {"processor": processor()}
    rows = []
    keep_freed_memory()
    with torch_threads(1):
        for n in sizes:
            repeats = 3 if options.quick else 60 if n <= 500 else 9
            found = {f"matrix, {name}": matrix(n, dtype, repeats) for name, dtype in DTYPES.items()}
            found |= {f"likelihood, {name}": likelihood(n, name, repeats) for name in KERNELS}
            for question, seconds in found.items():
                ours, peer = (float(np.median(seconds[who])) for who in ("ours", "peer"))
                result[f"{question}, n = {n}"] = {"seconds": ours, "ratio": ours / peer}
                rows.append([question, f"{n}", f"{1e3 * ours:.2f} ms", f"{ours / peer:.2f}"])
    print_table("against RBFKernel, and LAPACK", ["", "n", "ours", "ratio"], rows)
    save(result, output(options, "likelihood"))
    return result


if __name__ == "__main__":
    main()
