"""How long does an import take?

    python benchmarks/import_time.py
    python benchmarks/import_time.py --quick

Processor time of each import, in processes of their own that take turns, and relative to gpytorch.
"""

from __future__ import annotations

import json

import numpy as np
from harness import output, parser_of, save, seconds_printed

IMPORTS = {
    "gpytorch": "import gpytorch",
    "resnet_gp": "import resnet_gp",
    "ResNetLimitKernel": "from resnet_gp import ResNetLimitKernel",
    "ResNetGPRegressor": "from resnet_gp import ResNetGPRegressor",
}
CODE = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    options = parser_of(__doc__).parse_args(arguments)
    repeats = 1 if options.quick else 7
    times = np.array(
        [[seconds_printed(CODE.format(one)) for one in IMPORTS.values()] for _ in range(repeats)]
    )
    ratios = np.median(times / times[:, :1], axis=0)
    result = {
        name: {"seconds": float(median), "against gpytorch": float(ratio)}
        for name, median, ratio in zip(IMPORTS, np.median(times, axis=0), ratios, strict=True)
    }
    print(json.dumps(result, indent=1))
    save(result, output(options, "import_time"))
    return result


if __name__ == "__main__":
    main()
