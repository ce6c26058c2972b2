"""How long does the first use wait for numba to compile?

    python benchmarks/first_use.py
    python benchmarks/first_use.py --quick

Seconds on the clock of a kernel matrix, of the default fit of 100 rows and of a classification,
each in a process of its own, with an empty cache of compiled code and with a full one; and of
``resnet-gp compile``, which fills it. Fits and that command compile in two processes.
"""

from __future__ import annotations

import json
import tempfile

import numpy as np
from harness import output, parser_of, processor, save, seconds_printed

MATRIX = """
import time
import torch
from resnet_gp import ResNetLimitKernel
start = time.perf_counter()
ResNetLimitKernel()(torch.randn(100, 4)).to_dense()
print(time.perf_counter() - start)
"""
FIT = """
import time
import numpy as np
from resnet_gp import ResNet{kind}
rng = np.random.default_rng(0)
X = rng.normal(size=(100, 4))
y = X[:, 0] + np.sin(2 * X[:, 1]) + 0.1 * rng.normal(size=100)
model = ResNet{kind}(verbose=False)
start = time.perf_counter()
model.fit(X, {targets})
print(time.perf_counter() - start)
"""
USES = {
    "first matrix": MATRIX,
    "first fit": FIT.format(kind="GPRegressor", targets="y"),
    "first classification": FIT.format(kind="GPClassifier", targets="y > 0"),
}
COMPILE = """
import time
start = time.perf_counter()
from resnet_gp.models.warm_up import compile_loops
list(compile_loops())
print(time.perf_counter() - start)
"""


def seconds(code: str, cache: str) -> float:
    return seconds_printed(code, NUMBA_CACHE_DIR=cache, OMP_NUM_THREADS="1")


def main(arguments: list[str] | None = None) -> dict[str, object]:
    options = parser_of(__doc__).parse_args(arguments)
    result: dict[str, object] = {"processor": processor()}
    for name, code in list(USES.items())[: 1 if options.quick else None]:
        times = []
        for _ in range(1 if options.quick else 3):
            with tempfile.TemporaryDirectory() as cache:
                times.append([seconds(code, cache), seconds(code, cache)])
        empty, full = np.median(times, axis=0)
        result[name] = {"empty cache": empty, "full cache": full, "compiling": empty - full}
    if not options.quick:
        with tempfile.TemporaryDirectory() as cache:
            result["resnet-gp compile"] = seconds(COMPILE, cache)
    print(json.dumps(result, indent=1))
    save(result, output(options, "first_use"))
    return result


if __name__ == "__main__":
    main()
