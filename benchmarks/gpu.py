"""How fast are kernels, products, fits and experiments on a GPU, and are they right?

    python benchmarks/gpu.py [--only kernels products fits verify mean-ode]
    python benchmarks/gpu.py --quick        # everything tiny, on the CPU where there is no GPU

Needs a CUDA machine and less than ten minutes. Writes results/gpu.json and docs/images/gpu.png.

Measures:

- kernels: matrices of ResNetLimitKernel against GPyTorch's RBF and Matern-5/2, all ARD, d = 8, with
  and without gradients to inputs and hyperparameters. Their bound is the time in which the matrix
  is written, from the bandwidth of a copy. Each call has a new weight_variance, so that the
  construction of its table counts. Largest error of a block of rows against the CPU in float64;
- products: ``kernel(x) @ v`` at once, and in blocks of rows that bound the memory. Their bound is
  that of 50 operations for each pair at the speed of a large product of matrices;
- fits: the regressor with exact inference: time, peak memory, error to the function;
- verify, mean-ode: the experiments of the command line, with all their verdicts.

Times of kernels are medians by CUDA events, of calls that take turns; each product and each fit is
one call after a small one. A part that fails is recorded with its error, and the others run; what
is left after ``--seconds`` (540) is recorded as left out.
"""

from __future__ import annotations

import functools
import gc
import math
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel
from harness import IMAGES, Cell, output, parser_of, print_table, save, subplots, timed

from resnet_gp import ResNetGPRegressor, ResNetLimitKernel
from resnet_gp.mean_ode.experiments import EXPERIMENTS as TRAINING
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.report import session
from resnet_gp.verification.experiments import EXPERIMENTS as SIMULATIONS
from resnet_gp.verification.simulation_lab import SimulationLab

FIGURE = IMAGES / "gpu.png"
D = 8
SECONDS = 540.0
OPERATIONS = 50  # of the kernel, for each pair
BLOCK = 2**28  # entries of a product's matrix that are in memory at a time
LONG = 120.0  # seconds of a product that is left out
OVER = "left out: the time is over"
CHECKED = 50  # rows that are compared with the CPU
NOISE, NEW = 0.2, 5000
DTYPES = {"float32": torch.float32, "float64": torch.float64}
KERNELS: dict[str, Callable[[], Kernel]] = {
    "RBF": lambda: RBFKernel(ard_num_dims=D),
    "Matern-5/2": lambda: MaternKernel(2.5, ard_num_dims=D),
    "ResNetLimit": lambda: ResNetLimitKernel(ard_num_dims=D, input_bias=True),
}
# Full sizes, and those of a quick run.
SIZES = {
    "kernels": ((1000, 3000, 10_000, 30_000), (100,)),
    "products": ((10_000, 100_000, 1_000_000), (1000,)),
    "fits": ((10_000, 50_000), (200,)),
    "repeats": (7, 1),
}


class Clock:
    """Time and peak memory of calls on a device: on a CPU, where no peak is known, the time.

    Args:
        device: of the calls.
        seconds: after which nothing starts.
    """

    def __init__(self, device: torch.device, seconds: float = math.inf) -> None:
        self.device, self.is_gpu = device, device.type == "cuda"
        self.end = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.end

    def measured(self, call: Callable[[], object]) -> tuple[float, int | None]:
        """Seconds, and the bytes that are allocated at most beyond those before."""
        if not self.is_gpu:
            return timed(call)[1], None
        self.clear()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        seconds = self.seconds(call)
        return seconds, torch.cuda.max_memory_allocated(self.device) - before

    def seconds(self, call: Callable[[], object]) -> float:
        if not self.is_gpu:
            return timed(call)[1]
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def in_turns(
        self, calls: dict[str, Callable[[], object]], repeats: int
    ) -> dict[str, tuple[float, int | None]]:
        """Median seconds and peak bytes of each call, after an untimed round."""
        taken: dict[str, list[float]] = {name: [] for name in calls}
        peaks = {name: self.measured(call)[1] for name, call in calls.items()}
        for _ in range(repeats):
            for name, call in calls.items():
                taken[name].append(self.seconds(call))
        return {name: (float(np.median(times)), peaks[name]) for name, times in taken.items()}

    def clear(self) -> None:
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()

    def bandwidth(self, entries: int) -> float:
        """Bytes a second that are written while a tensor is copied; as many are read."""
        source = torch.ones(entries, device=self.device)
        target = torch.empty_like(source)
        copied = self.in_turns({"copy": lambda: target.copy_(source)}, 5)["copy"][0]
        return 2 * source.nbytes / copied

    def speed(self, n: int, dtype: torch.dtype) -> float:
        """Operations a second of a product of two matrices."""
        matrix = torch.randn(n, n, device=self.device, dtype=dtype)
        return 2 * n**3 / self.in_turns({"product": lambda: matrix @ matrix}, 3)["product"][0]


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + np.abs(x[:, 3])


def limits(clock: Clock, quick: bool) -> Iterator[Cell]:
    """What the device can do."""
    yield {"what": "copy, bytes a second", "value": clock.bandwidth(2**16 if quick else 2**28)}
    for name, dtype in DTYPES.items():
        value = clock.speed(200 if quick else 8192, dtype)
        yield {"what": "product, operations a second", "dtype": name, "value": value}


def kernels(clock: Clock, quick: bool) -> Iterator[Cell]:
    bandwidth = clock.bandwidth(2**16 if quick else 2**28)
    for n in SIZES["kernels"][quick]:
        for name, dtype in DTYPES.items():
            for gradients in (False, True):
                if clock.is_over:
                    yield {"n": n, "dtype": name, "gradients": gradients, "error": OVER}
                    continue
                try:
                    yield from _matrices(clock, n, name, dtype, gradients, quick, bandwidth)
                except torch.OutOfMemoryError as error:  # of the peers, or ours: the size is named
                    yield {"n": n, "dtype": name, "gradients": gradients, "error": str(error)}
                clock.clear()


def _matrices(
    clock: Clock, n: int, name: str, dtype: torch.dtype, gradients: bool, quick: bool, rate: float
) -> Iterator[Cell]:
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here = x.to(clock.device, dtype)
    made = {kind: make().to(clock.device, dtype) for kind, make in KERNELS.items()}

    def call(kernel: Kernel) -> None:
        if isinstance(kernel, ResNetLimitKernel):
            kernel.weight_variance = kernel.weight_variance.item() * 1.001
        if not gradients:
            with torch.no_grad():
                kernel(here).to_dense()
            return
        kernel.zero_grad()
        kernel(here.clone().requires_grad_()).to_dense().sum().backward()

    calls = {kind: (lambda kernel=kernel: call(kernel)) for kind, kernel in made.items()}
    for kind, (seconds, peak) in clock.in_turns(calls, SIZES["repeats"][quick]).items():
        cell = {
            "n": n, "dtype": name, "gradients": gradients, "kernel": kind, "seconds": seconds,
            "bound": n**2 * dtype.itemsize / rate, "peak bytes": peak,
        }  # fmt: skip
        if not gradients:
            cell["error"] = _error(made[kind], here)
        yield cell


@torch.no_grad()
def _error(kernel: Kernel, x: torch.Tensor) -> float:
    """Largest error of a few rows against the CPU in float64, relative to the largest entry."""
    ours = kernel(x[:CHECKED], x).to_dense().double().cpu()
    exact = kernel.to("cpu", torch.float64)(x[:CHECKED].double().cpu(), x.double().cpu()).to_dense()
    kernel.to(x)
    return float((ours - exact).abs().max() / exact.abs().max())


@torch.no_grad()
def products(clock: Clock, quick: bool) -> Iterator[Cell]:
    for name, dtype in DTYPES.items():
        speed = clock.speed(200 if quick else 8192, dtype)
        kernel = KERNELS["ResNetLimit"]().to(clock.device, dtype)
        for way, multiply in PRODUCTS.items():
            rate = 0.0  # seconds for each pair, in the product before
            for n in SIZES["products"][quick]:
                cell: Cell = {"n": n, "dtype": name, "way": way, "bound": OPERATIONS * n**2 / speed}
                if clock.is_over or rate * n**2 > LONG:
                    yield {**cell, "error": f"left out: it would take {rate * n**2:.0f} s"}
                    continue
                x = torch.randn(n, D, generator=torch.Generator().manual_seed(0))
                x = x.to(clock.device, dtype)
                v = torch.ones(n, 1, device=clock.device, dtype=dtype)
                multiply(kernel, x[:1000], v[:1000])
                try:
                    call = functools.partial(multiply, kernel, x, v)
                    cell["seconds"], cell["peak bytes"] = clock.measured(call)
                    rate = cell["seconds"] / n**2
                except torch.OutOfMemoryError as error:
                    cell["error"] = str(error)
                yield cell
                clock.clear()


def at_once(kernel: Kernel, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return kernel(x) @ v


def by_blocks(kernel: Kernel, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.cat([kernel(part, x) @ v for part in x.split(max(1, BLOCK // len(x)))])


PRODUCTS = {"at once": at_once, "blocks of rows": by_blocks}


def fits(clock: Clock, quick: bool) -> Iterator[Cell]:
    for n in SIZES["fits"][quick]:
        for name in ("float32", "float64") if n <= 10_000 else ("float32",):
            if clock.is_over:
                yield {"n": n, "dtype": name, "error": OVER}
                continue
            yield {"n": n, "dtype": name, **_fit(clock, n, name, quick)}
            clock.clear()


def _fit(clock: Clock, n: int, name: str, quick: bool) -> Cell:
    rng = np.random.default_rng(n)
    x, new = rng.normal(size=(n, D)), rng.normal(size=(NEW, D))
    y = truth(x) + NOISE * rng.normal(size=n)
    model = ResNetGPRegressor(
        inference="exact", hyperparameters="map", n_components=1, residuals="gaussian",
        max_exact_samples=n, device=str(clock.device), dtype=name, verbose=False,
        random_state=0, max_iter=1 if quick else None,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of searches that end early
        model.fit(x[:100], y[:100])
        seconds, peak = clock.measured(lambda: model.fit(x, y))
    (mean, std), predicting = timed(lambda: model.predict(new, return_std=True))
    targets = truth(new) + NOISE * rng.normal(size=NEW)
    return {
        "seconds": seconds, "peak bytes": peak, "seconds of predictions": predicting,
        "rmse": float(np.sqrt(np.mean((mean - truth(new)) ** 2))),
        "coverage": float(np.mean(np.abs(targets - mean) < 1.6449 * std)),
    }  # fmt: skip


def verify(clock: Clock, quick: bool) -> Iterator[Cell]:
    names = ["correlation"] if quick else list(SIMULATIONS)
    lab = SimulationLab(seed=0, quick=quick, device=clock.device, memory=2**30)
    yield _verdicts("theory", clock, lab, {name: SIMULATIONS[name] for name in names})


def mean_ode(clock: Clock, quick: bool) -> Iterator[Cell]:
    names = ["dimension"] if quick else list(TRAINING)
    lab = TrainingLab(seed=0, quick=quick, device=clock.device)
    yield _verdicts("training", clock, lab, {name: TRAINING[name] for name in names})


def _verdicts(title: str, clock: Clock, lab: Any, experiments: dict[str, Any]) -> Cell:
    """Run experiments as the command line does, with one family of checks."""
    outcome, left_out = session.Outcome(), []
    for name, one in experiments.items():
        if clock.is_over:
            left_out.append(name)
        else:
            outcome.add(name, one.run, lab)
    with tempfile.TemporaryDirectory() as folder:
        verdicts = session.report(Path(folder), title, outcome, lab)
    failed = [verdict.check.name for verdict in verdicts if not verdict.passed]
    return {
        "seconds": outcome.seconds, "checks": len(verdicts), "failed": failed, "left out": left_out
    }  # fmt: skip


PARTS: dict[str, Callable[[Clock, bool], Iterator[Cell]]] = {
    "limits": limits,
    "kernels": kernels,
    "products": products,
    "fits": fits,
    "verify": verify,
    "mean-ode": mean_ode,
}


def run_part(name: str, clock: Clock, quick: bool) -> dict[str, Any]:
    """The cells of a part, its seconds, and the error that ended it, if any."""
    cells: list[Cell] = []
    part: dict[str, Any] = {"cells": cells}
    start = time.perf_counter()
    try:
        for cell in PARTS[name](clock, quick):
            cells.append(cell)
            print(name, cell, flush=True)
    except Exception as error:  # the other parts run
        traceback.print_exc()
        part["failed"] = f"{type(error).__name__}: {error}"
    part["seconds"] = time.perf_counter() - start
    clock.clear()
    return part


def describe(device: torch.device) -> dict[str, Any]:
    facts = {"device": str(device), "torch": torch.__version__, "cuda": torch.version.cuda}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"name": properties.name, "memory": properties.total_memory}
    return facts


def show(results: dict[str, Any]) -> None:
    parts = results["parts"]
    for name in ("kernels", "products", "fits"):
        cells = parts.get(name, {"cells": []})["cells"]
        headings = list(dict.fromkeys(key for cell in cells for key in cell))
        rows = [[_text(cell.get(key)) for key in headings] for cell in cells]
        if rows:
            print_table(name, headings, rows, left=0)
    ends = [
        [name, f"{part['seconds']:.0f}", part.get("failed", "done")] for name, part in parts.items()
    ]
    print_table("parts", ["", "seconds", "end"], ends)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)[:60]


def draw(results: dict[str, Any], path: Path) -> None:
    """Times of matrices by size, with their bound, and of products."""
    kernels, products = (results["parts"].get(name, {}) for name in ("kernels", "products"))
    figure, axes = subplots((12, 3.6), 1, 3)
    for axis, gradients in zip(axes, (False, True), strict=False):
        cells = [
            cell
            for cell in kernels.get("cells", [])
            if "seconds" in cell and cell["gradients"] == gradients and cell["dtype"] == "float32"
        ]
        for kind in KERNELS:
            own = [cell for cell in cells if cell["kernel"] == kind]
            axis.plot([c["n"] for c in own], [c["seconds"] for c in own], "o-", ms=4, label=kind)
        own = [cell for cell in cells if cell["kernel"] == "RBF"]
        axis.plot([c["n"] for c in own], [c["bound"] for c in own], "k:", label="writing it")
        title = "with gradients" if gradients else "matrix"
        axis.set(xlabel="n", title=f"{title}, float32: seconds")
    for name in DTYPES:
        of_type = [cell for cell in products.get("cells", []) if cell["dtype"] == name]
        for way in PRODUCTS:
            own = [cell for cell in of_type if cell["way"] == way and "seconds" in cell]
            label = f"{way}, {name}"
            axes[2].plot(
                [c["n"] for c in own], [c["seconds"] for c in own], "o-", ms=4, label=label
            )
        own = of_type[: len(of_type) // len(PRODUCTS)]
        axes[2].plot([c["n"] for c in own], [c["bound"] for c in own], ":", label=f"bound, {name}")
    axes[2].set(xlabel="n", title="kernel(x) @ v: seconds")
    for axis in axes:
        if any(len(line.get_xdata()) for line in axis.lines):
            axis.set(xscale="log", yscale="log")
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = parser_of(__doc__, resumes=True)
    chosen = [name for name in PARTS if name != "limits"]
    parser.add_argument("--only", nargs="+", choices=chosen, metavar="PART", default=chosen)
    parser.add_argument("--figure", type=Path, help="where to draw; default: docs/images/gpu.png")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() and not options.quick:
        parser.error("PyTorch finds no CUDA device here; --quick runs everything tiny on the CPU")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    clock, path = Clock(device, options.seconds or SECONDS), output(options, "gpu")
    results: dict[str, Any] = {**describe(device), "quick": options.quick, "parts": {}}
    for name in ("limits", *options.only):
        results["parts"][name] = run_part(name, clock, options.quick)
        save(results, path)
    show(results)
    figure = options.figure or (None if options.quick else FIGURE)
    if figure:
        draw(results, figure)
    return results


if __name__ == "__main__":
    failed = [name for name, part in main()["parts"].items() if "failed" in part]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
