"""How accurate are covariances of images, and how long do they take?

    python benchmarks/convolution.py --data DIR
    python benchmarks/convolution.py --quick          # scikit-learn's digits only, nothing saved

DIR or DIR/images holds mnist_t10k.npz. Errors are the largest of an entry, relative to
sqrt(k(a, a) k(b, b)), against ten times as many steps, at the steps as they are and at twice as
many: of forty digits as they are, standardised one by one, nearly equal, and nearly opposite, of
28 x 28 and of 8 x 8 pixels. Seconds are those of the processor, all threads together, at w = 1.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import torch
from harness import output, parsed, parser_of, print_table, processor, save
from images import load, standardised
from sklearn.datasets import load_digits
from torch import Tensor

from resnet_gp.flow.convolution import network as networks
from resnet_gp.flow.convolution.covariance import conv_covariance
from resnet_gp.flow.convolution.network import ConvFlow, conv_network
from resnet_gp.kernels import ConvResNetLimitKernel

VARIANCES = (0.1, 0.5, 0.8, 1.0, 2.0, 4.0, 9.0, 20.0, 60.0, 100.0)
COUNT, NEAR = 40, 1e-3
MATRICES = (("flatten", 8, 1797), ("flatten", 28, 1000), ("average", 8, 500))
STEPS = {"error": 1, "error with half the step": 2, "exact": 10}


def kinds(X: np.ndarray) -> Iterator[Tensor]:
    """``COUNT`` images each: as they are, standardised, nearly equal, and nearly opposite."""
    X = X[:COUNT] / X.max()
    yield torch.from_numpy(X.reshape(COUNT, -1))
    own = torch.from_numpy(standardised(X).reshape(COUNT, -1))
    yield own
    yield torch.cat([own[:1], own[:1] + NEAR * own[1:]])
    yield torch.cat([own[:1], NEAR * own[1:] - own[:1]])


def errors(x: Tensor, side: int, w: float) -> dict[str, float]:
    """The largest errors for these images."""
    network, variance = conv_network((side, side)), torch.tensor(w, dtype=torch.float64)
    found, original = {}, networks._limit_steps
    for name, factor in STEPS.items():
        finer = patch.object(
            networks, "_limit_steps", lambda count, g, by=factor: original(by * count, g)
        )
        with finer, torch.no_grad():
            found[name] = conv_covariance(x, x, network, variance)
    exact = found.pop("exact")
    scale = (exact.diagonal()[:, None] * exact.diagonal()).sqrt()
    return {name: float(((K - exact) / scale).abs().max()) for name, K in found.items()}


def evaluations(w: float) -> int:
    """How many times E[phi phi] is evaluated at each pixel."""
    variances = torch.tensor([w, 0.0, 0.0], dtype=torch.float64)
    steps = ConvFlow(conv_network((1, 1)), variances).steps
    return int(steps.combined.any(1).sum())


def seconds(X: np.ndarray, readout: str) -> float:
    kernel = ConvResNetLimitKernel(X.shape[1:], readout=readout).requires_grad_(False)
    x = torch.from_numpy(standardised(X).reshape(len(X), -1))
    kernel(x[:2], x[2:4]).to_dense()  # compiles
    start = time.process_time()
    kernel(x).to_dense()
    return time.process_time() - start


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = parser_of(__doc__, "mnist_t10k.npz, or that holds it in images/")
    options = parsed(parser, arguments)
    sets, variances, most = {8: load_digits().images}, VARIANCES, max(n for _, _, n in MATRICES)
    if options.quick:
        variances, most = (1.0, 4.0), 20
    else:
        sets[28], _ = load(options.data)
    accuracy = []
    for w in variances:
        found = [errors(x, side, w) for side, X in sets.items() for x in kinds(X)]
        worst = {name: max(one[name] for one in found) for name in found[0]}
        accuracy.append({"w": w, **worst, "evaluations": evaluations(w)})
    matrices = []
    for readout, side, n in MATRICES:
        if side in sets:
            X = sets[side][: min(n, most)]
            own = {"readout": readout, "side": side, "rows": len(X)}
            matrices.append(own | {"seconds": seconds(X, readout)})
    result = {"processor": processor(), "accuracy": accuracy, "matrices": matrices}
    for name, rows in (("accuracy", accuracy), ("matrices", matrices)):
        texts = [[v if isinstance(v, str) else f"{v:.3g}" for v in row.values()] for row in rows]
        print_table(name, list(rows[0]), texts)
    save(result, output(options, "convolution"))
    return result


if __name__ == "__main__":
    main()
