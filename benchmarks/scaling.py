"""How do time and error grow with the number of rows, for each inference?

    python benchmarks/scaling.py [--rows 500 1000 2000 4000 8000 16000 32000 64000]
    python benchmarks/scaling.py --quick

A smooth function of six features (two have no effect) with noise of deviation 0.2. Compares the
regressor with exact inference (hyperparameters from at most 2000 rows, up to 16,000 rows in all)
and with sparse inference (300 inducing points). Prints seconds of the fit, after a small one that
compiles; the error to the function at 5000 new points; and the share of their targets in 90 %
intervals. Draws docs/images/scaling.png. Fits on Dask workers: ``dask_fit.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from harness import IMAGES, Cell, Cells, fill, output, parser_of, print_table, subplots, timed

from resnet_gp import ResNetGPRegressor

D, NOISE, NEW = 6, 0.2, 5000
ROWS = (500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000)
MOST = {"exact": 16_000, "sparse": 10**9}
WARM_UP = 100

Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
#: From rows, targets, inducing points and iterations: predictions, and whether it converged.
Fit = Callable[[np.ndarray, np.ndarray, int, int], tuple[Predict, bool]]


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + np.abs(x[:, 3])


def regressor(inference: str) -> Fit:
    def fit(x: np.ndarray, y: np.ndarray, inducing: int, iterations: int) -> tuple[Predict, bool]:
        model = ResNetGPRegressor(
            inference=inference,
            n_inducing=inducing,
            max_iter=iterations,
            max_exact_samples=MOST["exact"],
            random_state=0,
            verbose=False,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the result says whether it converged
            model.fit(x, y)
        return lambda new: model.predict(new, return_std=True), model.converged_

    return fit


def measure(fit: Fit, inference: str, rows: int, inducing: int, iterations: int) -> Cell:
    rng = np.random.default_rng(rows)
    x, new = rng.normal(size=(rows, D)), rng.normal(size=(NEW, D))
    y = truth(x) + NOISE * rng.normal(size=rows)
    fit(x[:WARM_UP], y[:WARM_UP], 10, 2)
    (predict, converged), seconds = timed(lambda: fit(x, y, inducing, iterations))
    (mean, std), predicting = timed(lambda: predict(new))
    targets = truth(new) + NOISE * rng.normal(size=NEW)
    return {
        "inference": inference, "rows": rows, "inducing": inducing, "seconds": seconds,
        "seconds of predictions": predicting, "converged": converged,
        "rmse": float(np.sqrt(np.mean((mean - truth(new)) ** 2))),
        "coverage": float(np.mean(np.abs(targets - mean) < 1.6449 * std)),
    }  # fmt: skip


def draw(cells: Cells) -> None:
    figure, axes = subplots((9, 3.4), 1, 2)
    for inference in MOST:
        own = sorted(cells.where(inference=inference), key=lambda cell: cell["rows"])
        rows = [cell["rows"] for cell in own]
        for axis, what in zip(axes, ("seconds", "rmse"), strict=True):
            axis.plot(rows, [cell[what] for cell in own], "o-", ms=4, label=inference)
    for axis, name in zip(axes, ("seconds of the fit", "error to the function"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="rows", title=name)
    axes[0].legend(frameon=False)
    figure.savefig(IMAGES / "scaling.png", dpi=110)


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, resumes=True)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    options = parser.parse_args(arguments)
    inducing, iterations = 300, 200
    if options.quick:
        options.rows, inducing, iterations = [60], 10, 2
    cells = Cells(output(options, "scaling"), ["inference", "rows"])
    todo = [(way, rows) for rows in options.rows for way, most in MOST.items() if rows <= most]
    fill(
        cells,
        todo,
        lambda way, rows: measure(regressor(way), way, rows, inducing, iterations),
        options.seconds,
    )
    print_table(
        f"d = {D}, {inducing} inducing points",
        ["rows", "inference", "seconds", "predictions", "error", "in 90 % interval"],
        [
            [
                cell["rows"], cell["inference"], f"{cell['seconds']:.1f}",
                f"{cell['seconds of predictions']:.2f}", f"{cell['rmse']:.4f}",
                f"{cell['coverage']:.1%}",
            ]
            for cell in sorted(cells.all, key=lambda cell: cell["rows"])
        ],
    )  # fmt: skip
    if not options.quick:
        draw(cells)
    return cells


if __name__ == "__main__":
    main()
