"""What Triton's kernels cost on a GPU by their machine code: python benchmarks/gpu_instructions.py

Needs no GPU. Kernels are compiled ahead of time, their registers and spills are read from the
binary, and the instructions of a covariance are counted: loops over dimensions and coefficients as
often as they run, and not what only gaps near zero and Clenshaw's rule (long horizons) need.

    --quick   the covariance for one architecture
    --all     registers and spills of every kernel that may be launched, for three architectures
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from resnet_gp.flow import on_triton
from resnet_gp.flow.depth import LIMIT
from resnet_gp.flow.table import GROUP
from resnet_gp.flow.unit_points import value_table

CAPABILITIES = (80, 90, 100)
BITS = {torch.float32: 32, torch.float64: 64}

# H200: clock, streaming multiprocessors, lanes of a warp, and lanes that a multiprocessor starts at
# each clock in each of its pipes; bytes per second to memory. Sources: NVIDIA's data sheet, and the
# CUDA C++ programming guide's table of arithmetic throughput for compute capability 9.0.
CLOCK, PROCESSORS, WARP = 1.755e9, 132, 32
PIPES = {"issue": 128, "special functions": 16, "loads and stores": 32, "float64": 64}
BANDWIDTH = 4.8e12

OPCODES = {
    "issue": "",
    "special functions": "MUFU|F2I|I2F|F2F",
    "loads and stores": "LD|ST|SHFL",
    "float64": "DFMA|DADD|DMUL|DSETP|DMNMX",
}


class Binary(NamedTuple):
    """A kernel for one architecture: bytes of spills, machine code, Triton's intermediate code."""

    registers: int
    stack: int
    sass: str
    intermediate: str


def compiled(variant: on_triton.Variant, dtype: torch.dtype, capability: int) -> Binary:
    """Compile a kernel as it is launched: pointers and lengths of rows are multiples of 16."""
    names, constants = variant.kernel.arg_names, variant.constants
    pointers = {"u", "v", "scale_u", "scale_v", "table", "out", "left", "right"}
    pointers |= {"by_u", "by_scale_u", "by_time"}
    rows = {"n", "m"} if "SYMMETRIC" in constants else set()
    signature = {
        name: "constexpr"
        if name in constants
        else f"*fp{BITS[dtype]}"
        if name in pointers
        else "i32"
        for name in names
    }
    source = ASTSource(
        variant.kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {
            (names.index(name),): [["tt.divisibility", 16]]
            for name in names
            if name in pointers | rows
        },
    )
    target = GPUTarget("cuda", capability, WARP)
    code = triton.compile(source, target=target, options=variant.options).asm
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code["cubin"])
        file.flush()
        usage, sass = _cuobjdump("-res-usage", file.name), _cuobjdump("-sass", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"no resource usage in {usage!r}")
    registers, stack, local = map(int, found.groups())
    return Binary(registers, stack + local, sass, code["ttir"])


def _cuobjdump(*arguments: str) -> str:
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


class Instruction(NamedTuple):
    address: int
    opcode: str
    target: int | None


def instructions(sass: str) -> list[Instruction]:
    """Those of the kernel up to the padding at its end."""
    found = []
    pattern = r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);"
    for address, opcode, operands in re.findall(pattern, sass):
        target = re.search(r"0x([0-9a-f]+)", operands) if opcode == "BRA" else None
        found.append(Instruction(int(address, 16), opcode, target and int(target[1], 16)))
        if opcode == "BRA" and found[-1].target == found[-1].address:
            return found[:-1]
    return found


def counts(sass: str, entries: int, d: int, groups: int) -> dict[str, float]:
    """Instructions per entry and pipe of a covariance of one component.

    Args:
        sass: machine code.
        entries: of a tile in one thread.
        d: dimensions, a multiple of GROUP.
        groups: of GROUP coefficients of the table's polynomial, in the power basis.
    """
    code = instructions(sass)
    jumps = [(one.address, one.target) for one in code if one.target]
    loops = [(target, address) for address, target in jumps if target < address]
    inner = [
        loop
        for loop in loops
        if not any(loop[0] <= a and b <= loop[1] for a, b in loops if (a, b) != loop)
    ]
    products, times = {}, {}
    for loop in inner:
        body = [one.opcode for one in code if loop[0] <= one.address <= loop[1]]
        products[loop], sums, loads = (
            sum(opcode.startswith(names) for opcode in body)
            for names in (("FFMA", "DFMA"), ("FADD", "DADD"), ("LDG",))
        )
        if sums:  # differences of near points, or Clenshaw's rule
            times[loop] = 0.0
        elif loads <= GROUP:  # Horner's rule
            times[loop] = GROUP * groups * entries / products[loop]
        else:  # inner products
            times[loop] = d * entries / products[loop]
    weights = dict.fromkeys((one.address for one in code), 1.0)
    for (first, last), often in times.items():
        weights |= dict.fromkeys((a for a in weights if first <= a <= last), often)
    for address, target in jumps:  # over loops that do not run
        over = [times[loop] for loop in inner if address < loop[0] and loop[1] < target]
        if over and not any(over):
            weights |= dict.fromkeys((a for a in weights if address < a < target), 0.0)
    return {
        pipe: sum(weights[one.address] for one in code if re.match(names, one.opcode)) / entries
        for pipe, names in OPCODES.items()
    }


def covariance_counts(
    dtype: torch.dtype, symmetric: bool, d: int = 8, horizon: float = 1.0
) -> tuple[dict[str, float], Binary]:
    """``counts`` of the limit's covariance on compute capability 9.0, and its binary."""
    variant = on_triton.covariance_variant(dtype, False, symmetric)
    binary = compiled(variant, dtype, 90)
    coefficients = value_table(torch.tensor([[horizon]], dtype=dtype), dtype, LIMIT)[1]
    tile = variant.constants["ROWS"] * variant.constants["COLUMNS"]
    entries = tile // (WARP * variant.warps)
    return counts(binary.sass, entries, d, coefficients.shape[-1] // GROUP), binary


def milliseconds(found: dict[str, float], entries: float) -> dict[str, float]:
    """The time in which each pipe of an H200 can start the instructions of so many entries."""
    rate = PROCESSORS * CLOCK
    return {pipe: 1e3 * entries * found[pipe] / (rate * lanes) for pipe, lanes in PIPES.items()}


CASES = ((torch.float32, True), (torch.float32, False), (torch.float64, True))


def print_reckoning(cases: Sequence[tuple[torch.dtype, bool]], n: int = 30_000) -> None:
    for dtype, symmetric in cases:
        found, binary = covariance_counts(dtype, symmetric)
        times = milliseconds(found, n**2 / (2 if symmetric else 1))
        written = 1e3 * n**2 * BITS[dtype] / 8 / BANDWIDTH
        print(
            f"{dtype}, {'one set of points' if symmetric else 'two sets of points'}, d = 8, T = 1:"
        )
        print(f"  {binary.registers} registers, {binary.stack} bytes of spills")
        for pipe, one in times.items():
            print(f"  {pipe}: {found[pipe]:.1f} instructions per entry, {one:.2f} ms for n = {n}")
        print(f"  longest {max(times.values()):.2f} ms; writing the matrix {written:.2f} ms")


def print_resources() -> None:
    for capability in CAPABILITIES:
        for dtype in BITS:
            for variant in on_triton.variants(dtype):
                binary = compiled(variant, dtype, capability)
                name, constants = variant.kernel.__name__, variant.constants
                spills = f"SPILLS {binary.stack} bytes" if binary.stack else "no spills"
                print(f"sm_{capability} {name} {dtype} {constants}: ", end="")
                print(f"{binary.registers} registers, {spills}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--all", action="store_true", help="resources of all kernels; minutes")
    parser.add_argument("--quick", action="store_true", help="the float32 covariance only")
    options = parser.parse_args(arguments)
    print_reckoning(CASES[:1] if options.quick else CASES)
    if options.all:
        print_resources()


if __name__ == "__main__":
    main()
