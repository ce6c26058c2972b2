"""How much do the kernels cost, against GPyTorch's own?

    python benchmarks/kernels.py [--n 3000] [--d 8] [--repeats 9] [--threads 2]
    python benchmarks/kernels.py --quick

Writes results/kernels.json and docs/kernels.png.

Measures:

- forward without gradients, against RBFKernel, with a new weight_variance at every call, so that
  the construction of its table counts;
- forward and backward to inputs and hyperparameters, against ARD Matern-5/2; both against BoTorch's
  InfiniteWidthBNNKernel of depth 3;
- the memory kept for the backward pass; peak memory of both passes, in processes of their own;
- other ways to compute the flow;
- the other kernels of the family at n = 1000 against the limit kernel, and the tables that each
  weight_variance needs;
- one product with the matrix of 20,000 points, in blocks of rows and with all of it in memory.

Peers take turns in one process. Prints medians of the repeats, and of their ratios.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from botorch.models.kernels import InfiniteWidthBNNKernel
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel
from harness import (
    HERE,
    high_water_mark,
    in_own_process,
    in_turns,
    output,
    parser_of,
    print_table,
    processor,
    save,
    subplots,
    timed,
)

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.flow import covariance
from resnet_gp.flow.general_covariance import general_covariance
from resnet_gp.flow.table import horizon_table
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.threads import torch_threads

FIGURE = HERE.parent / "docs" / "kernels.png"
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def forward(n: int, d: int, dtype: torch.dtype, repeats: int) -> dict[str, np.ndarray]:
    x = torch.randn(n, d, dtype=dtype)
    rbf, ours = RBFKernel().to(dtype), ResNetLimitKernel(ard_num_dims=d).to(dtype)
    bnn = InfiniteWidthBNNKernel(depth=3).to(dtype)

    @torch.no_grad()
    def call_ours(repeat: int) -> None:
        ours.weight_variance = 0.7 + 0.05 * repeat
        ours(x).to_dense()

    @torch.no_grad()
    def call_rbf(repeat: int) -> None:
        rbf(x).to_dense()

    @torch.no_grad()
    def call_bnn(repeat: int) -> None:
        bnn(x).to_dense()

    calls = {
        "RBFKernel": call_rbf,
        "ResNetLimitKernel": call_ours,
        "InfiniteWidthBNNKernel": call_bnn,
    }
    return in_turns(calls, repeats)


def step(kernel: Kernel, x: torch.Tensor) -> None:
    """One forward and backward pass to inputs and hyperparameters."""
    kernel.zero_grad()
    leaf = x.clone().requires_grad_()
    kernel(leaf).to_dense().sum().backward()


def with_gradient(n: int, d: int, dtype: torch.dtype, repeats: int) -> dict[str, np.ndarray]:
    x = torch.randn(n, d, dtype=dtype)
    kernels = {name: make(d).to(dtype) for name, make in WITH_GRADIENT.items()}
    calls = {name: (lambda _, k=kernel: step(k, x)) for name, kernel in kernels.items()}
    return in_turns(calls, repeats)


WITH_GRADIENT: dict[str, Callable[[int], Kernel]] = {
    "MaternKernel": lambda d: MaternKernel(2.5, ard_num_dims=d),
    "ResNetLimitKernel": lambda d: ResNetLimitKernel(ard_num_dims=d),
    "InfiniteWidthBNNKernel": lambda d: InfiniteWidthBNNKernel(depth=3),
}


def kept_bytes(name: str, n: int, d: int, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps for the backward pass, with the matrix; storages count once."""
    kernel, x = WITH_GRADIENT[name](d).to(dtype), torch.randn(n, d, dtype=dtype).requires_grad_()
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        keep(kernel(x).to_dense())
    return sum(storages.values())


def product_in_blocks(x: torch.Tensor, vector: torch.Tensor, rows: int) -> torch.Tensor:
    """The product with the kernel's matrix, some rows at a time."""
    kernel = ResNetLimitKernel(ard_num_dims=x.shape[-1]).to(x.dtype)
    return torch.cat([kernel(part, x) @ vector for part in x.split(rows)])


PRODUCTS = {"blocks of 1000 rows": 1000, "all rows": 10**9}


@torch.no_grad()
def print_product(name: str, n: int, d: int, dtype: torch.dtype) -> None:
    """Print seconds and added peak bytes of one product, after a small one that compiles."""
    torch.manual_seed(0)
    rows = PRODUCTS[name]
    x, vector = torch.randn(n, d, dtype=dtype), torch.randn(n, dtype=dtype)
    product_in_blocks(x[:1000], vector[:1000], rows)
    before = high_water_mark()
    product, seconds = timed(lambda: product_in_blocks(x, vector, rows))
    added = high_water_mark() - before
    exact = ResNetLimitKernel(ard_num_dims=d).to(dtype)(x[:50], x) @ vector
    error = float((product[:50] - exact).norm() / exact.norm())
    print(json.dumps({"seconds": seconds, "bytes": added, "error": error}))


def alone(task: str, name: str, n: int, d: int, dtype: str, threads: int) -> Any:
    """Measure a kernel or product in a process of its own."""
    sizes = ["--n", n, "--d", d, "--dtype", dtype, "--threads", threads]
    return in_own_process(__file__, f"--{task}", name, *sizes, threads=threads)


def print_peak(name: str, n: int, d: int, dtype: torch.dtype) -> None:
    """Print the peak resident bytes that one forward and backward pass adds."""
    kernel = WITH_GRADIENT[name](d).to(dtype)
    step(kernel, torch.randn(600, d, dtype=dtype))  # code and workspaces
    before = high_water_mark()
    step(kernel, torch.randn(n, d, dtype=dtype))
    print(high_water_mark() - before)


def ways(n: int, d: int, dtype: torch.dtype, repeats: int) -> dict[str, np.ndarray]:
    """Times of one matrix by numba, by torch in tiles, and by torch.compile once compiled."""
    x = torch.randn(n, d, dtype=dtype)
    kernel = ResNetLimitKernel(ard_num_dims=d).to(dtype)
    with torch.no_grad():
        unit, scale = covariance.unit_and_scale(x, None, None)
    one = torch.ones((), dtype=dtype)

    def whole(unit: torch.Tensor, scale: torch.Tensor, coefficients: torch.Tensor, kappa: float):
        gap = (1 - unit @ unit.mT).clamp(0, 2)
        root = gap.sqrt()
        variable = (2 + 2 * kappa) * root / ((2 - gap).sqrt() + 2**0.5 + kappa * root) - 1
        ratio = coefficients[0].expand_as(gap)
        for k in range(1, len(coefficients)):
            ratio = ratio * variable + coefficients[k]
        return scale[:, None] * scale * (1 - gap * ratio * ratio)

    compiled = torch.compile(whole)

    @torch.no_grad()
    def by_compile(repeat: int) -> None:
        table = horizon_table((1 + 1e-3 * repeat) * one, dtype)
        compiled(unit, scale, table.polynomial.coefficients, float(table.kappa))

    @torch.no_grad()
    def by_kernel(repeat: int) -> None:
        kernel.weight_variance = 1 + 1e-3 * repeat
        kernel(x).to_dense()

    def by_tiles(repeat: int) -> None:
        with mock.patch("resnet_gp.flow.autograd._numba_module", return_value=None):
            by_kernel(repeat)

    _, first = timed(lambda: (by_compile(0), by_compile(1)))
    seconds = in_turns(
        {"numba": by_kernel, "torch tiles": by_tiles, "torch.compile": by_compile}, repeats
    )
    return seconds | {"torch.compile, first calls": np.array([first])}


FAMILY: dict[str, Callable[[], Kernel]] = {
    "limit": ResNetLimitKernel,
    "100 blocks": lambda: ResNetLimitKernel(depth=100),
    "tangent": ResNetTangentKernel,
    "tangent, 100 blocks": lambda: ResNetTangentKernel(depth=100),
    "sum of two": ResNetSumKernel,
    "erf": lambda: ResNetLimitKernel("erf"),
    "gelu": lambda: ResNetLimitKernel("gelu"),
    "tanh": lambda: ResNetLimitKernel("tanh"),
    "relu, block bias": lambda: ResNetLimitKernel(block_bias=True),
}
DIRECT = ("erf", "gelu")


def family(d: int, dtype: torch.dtype, quick: bool) -> dict[str, dict[str, float]]:
    """Median seconds of a matrix whose table exists, and of making the table."""
    n, repeats = (100, 2) if quick else (1000, 7)
    x = torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(0))
    names = list(FAMILY)[: 4 if quick else None]
    kernels = {name: FAMILY[name]().to(dtype) for name in names}
    calls: dict[str, Callable[[int], object]] = {
        name: (lambda _, k=kernel: k(x).to_dense()) for name, kernel in kernels.items()
    }
    one = torch.ones((), dtype=dtype)
    for name in set(DIRECT) & set(names):
        calls[f"{name}, direct"] = lambda _, a=name: general_covariance(
            x, x, one, activation=a, path="direct"
        )
    with torch.no_grad():
        seconds = {name: np.median(values) for name, values in in_turns(calls, repeats).items()}
        first_calls: dict[str, list[float]] = {name: [] for name in names}
        for repeat in range(2 if quick else 3):
            for name, kernel in kernels.items():
                for part in getattr(kernel, "components", (kernel,)):
                    part.weight_variance = 1.1 + 0.1 * repeat
                first_calls[name].append(timed(lambda k=kernel: k(x).to_dense())[1])
    return {
        name: {
            "seconds": float(value),
            "ratio": float(value / seconds["limit"]),
            **(
                {"table": max(0.0, float(np.median(first_calls[name]) - value))}
                if name in names
                else {}
            ),
        }
        for name, value in seconds.items()
    }


def draw(results: dict) -> None:
    """Draw times relative to the first of each question, on a logarithmic axis."""
    wanted = ("forward", "with gradients", "family")
    bars = {
        key: value["ratio"]
        for key, value in results.items()
        if key.startswith(wanted) and ", float64, " in key and value["ratio"]
    }
    figure, axes = subplots((7, 0.28 * len(bars) + 1))
    axes.barh([key.replace(", float64, ", ": ") for key in bars], list(bars.values()))
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="time, as a ratio to the first of the question (float64)")
    axes.axvline(1, color="black", linewidth=0.8)
    figure.savefig(FIGURE, dpi=120)


def main(arguments: list[str] | None = None) -> dict:
    parser = parser_of(__doc__)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--d", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", choices=list(WITH_GRADIENT), help=argparse.SUPPRESS)
    parser.add_argument("--product", choices=list(PRODUCTS), help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float64", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    with torch_threads(options.threads):
        if options.peak:
            print_peak(options.peak, options.n, options.d, DTYPES[options.dtype])
            return {}
        if options.product:
            print_product(options.product, options.n, options.d, DTYPES[options.dtype])
            return {}
        return answers(options)


def answers(options: argparse.Namespace) -> dict:
    """Print, save and draw the answers, and return them."""
    n, d, repeats = (300, 4, 2) if options.quick else (options.n, options.d, options.repeats)
    rows: list[list[str]] = []
    results: dict = {"processor": processor(), "n": n, "d": d, "threads": options.threads}
    questions = {"forward": forward, "with gradients": with_gradient}
    dtypes = DTYPES
    if options.quick:
        dtypes = {"float64": torch.float64}
    else:
        questions["ways to compute it"] = ways
    for question, measure in questions.items():
        for name, dtype in dtypes.items():
            seconds = measure(n, d, dtype, repeats)
            first = next(iter(seconds.values()))
            for which, values in seconds.items():
                ratio = float(np.median(values / first)) if len(values) == len(first) else None
                median = float(np.median(values))
                results[f"{question}, {name}, {which}"] = {"seconds": median, "ratio": ratio}
                shown = "" if ratio is None else f"{ratio:.2f}"
                rows.append([question, name, which, f"{1e3 * median:.1f} ms", shown])
    for name, dtype in dtypes.items():
        for which, measured in family(d, dtype, options.quick).items():
            results[f"family, {name}, {which}"] = measured
            shown = f"{1e3 * measured['seconds']:.1f} ms"
            if "table" in measured:
                shown += f" (table {1e3 * measured['table']:.0f} ms)"
            rows.append(["family, n = 1000", name, which, shown, f"{measured['ratio']:.2f}"])
    for name in dtypes:
        kernels = list(WITH_GRADIENT)[: 1 if options.quick else None]
        peaks = {w: alone("peak", w, n, d, name, options.threads) for w in kernels}
        first_peak = max(next(iter(peaks.values())), 1)
        for which, value in peaks.items():
            results[f"peak, {name}, {which}"] = {"bytes": value, "ratio": value / first_peak}
            shown = f"{value / 2**20:.0f} MiB"
            rows.append(["peak memory", name, which, shown, f"{value / first_peak:.2f}"])
    for name, dtype in dtypes.items():
        kept = {which: kept_bytes(which, n, d, dtype) for which in WITH_GRADIENT}
        for which, value in kept.items():
            ratio = value / kept["MaternKernel"]
            results[f"kept for backward, {name}, {which}"] = {"bytes": value, "ratio": ratio}
            shown = f"{value / 2**20:.0f} MiB"
            rows.append(["kept for backward", name, which, shown, f"{ratio:.2f}"])
    size = 1500 if options.quick else 20_000
    question = f"matrix-vector product, n = {size}"
    for which in ["blocks of 1000 rows"] if options.quick else PRODUCTS:
        result = alone("product", which, size, d, "float64", options.threads)
        results[f"{question}, float64, {which}"] = result
        shown = f"{result['seconds']:.1f} s, {result['bytes'] / 2**20:.0f} MiB"
        rows.append([question, "float64", which, shown, ""])
    title = f"n = {n}, d = {d}, {options.threads} threads"
    headings = ["question", "dtype", "which", "median", "ratio to the first"]
    print_table(title, headings, rows, left=3)
    save(results, output(options, "kernels"))
    if not options.quick:
        draw(results)
    return results


if __name__ == "__main__":
    main()
