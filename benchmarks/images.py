"""Do convolutions help a Gaussian process to read digits, and what do they cost?

    python benchmarks/images.py --data DIR --matrix FILE
    python benchmarks/images.py --data DIR --rows 1000   # each draw's own covariances, with seconds
    python benchmarks/images.py --quick                  # scikit-learn's digits, seconds

DIR or DIR/images holds mnist_t10k.npz (keys X, n x 28 x 28 of bytes, and y). Models, on images of
mean 0 and standard deviation 1 each:

"convolutional"   the classifier with ConvResNetLimitKernel, filters of 5 x 5 pixels, w = 16
"connected"       the same with images of one pixel and a channel for each value, w = 15: the
                  fully connected network
"grid"            the classifier as it comes: fully connected kernels, standardised columns
"svm"             an RBF kernel, C and gamma by five folds; Platt's probabilities
"trained"         a network of two convolutions, pooling and two dense layers, trained by Adam with
                  dropout, and a temperature fitted to a fifth of the rows

w and the size of the filters were chosen by left-out rows among 500 images that are in no draw.
Every draw has other training and test rows. Cells are saved once they are done, and a run that was
stopped resumes. Seconds are those of the processor, training and test together.

Draws share most pairs of images. With ``--matrix``, the convolutional kernel of all images is
computed once, in two and a half hours of a core, and kept in FILE, 700 MiB; the cells of draws that
read it have no seconds. Without it, 1000 rows take some hours of a core, and 3000 half a day.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from classification import calibration_error
from harness import Cell, Cells, fill, mean_and_error, output, parsed, parser_of, print_table
from scipy.optimize import minimize_scalar
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.svm import SVC
from torch import Tensor, nn

from resnet_gp import ResNetGPClassifier
from resnet_gp.kernels import ConvResNetLimitKernel
from resnet_gp.models.calibration import log_loss as smoothed_log_loss

DRAWS = 5
SVC_GRID = {"C": 10.0 ** np.arange(0, 4), "gamma": 10.0 ** np.arange(-4, -1.5, 0.5)}
EPOCHS, BATCH, RATE = 60, 32, 1e-3
BLOCK = 100  # rows of the matrix of all images that are saved together
MEASURES = ("accuracy", "log_loss", "calibration_error", "seconds")

Model = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _fitted(model: ResNetGPClassifier, X: np.ndarray, y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    return model.fit(X.reshape(len(X), -1), y).predict_proba(Z.reshape(len(Z), -1))


def _fixed(kernel: ConvResNetLimitKernel, w: float) -> ConvResNetLimitKernel:
    kernel.weight_variance = w
    return kernel.requires_grad_(False)


def convolutional_kernel(
    shape: tuple[int, ...], make: Callable[..., ConvResNetLimitKernel] = ConvResNetLimitKernel
) -> ConvResNetLimitKernel:
    return _fixed(make(shape, filter_size=5), 16.0)


def convolutional(X: np.ndarray, y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    return _fitted(ResNetGPClassifier(kernel=convolutional_kernel(X.shape[1:])), X, y, Z)


class AllImages:
    """The matrix of all images, in a file that the next run completes.

    Copies of a kernel share it.
    """

    def __init__(self, file: Path, X: np.ndarray) -> None:
        n, rows = len(X), X.reshape(len(X), -1)
        if not file.exists():
            np.lib.format.open_memmap(file, "w+", np.float64, (n, n))[:] = np.nan
        self.matrix = np.load(file, mmap_mode="r+")
        if self.matrix.shape != (n, n):
            raise SystemExit(f"{file} is not of these {n} images")
        self.numbers = {row.tobytes(): number for number, row in enumerate(rows)}
        kernel, images = convolutional_kernel(X.shape[1:]), torch.from_numpy(rows)
        for first in range(0, n, BLOCK):
            own = slice(first, first + BLOCK)
            if np.isnan(self.matrix[own, first:]).any():
                block = kernel(images[own], images[first:]).to_dense().numpy()
                self.matrix[first:, own] = block.T
                self.matrix[own, first:] = block
                print(f"{min(first + BLOCK, n)} of {n} rows", flush=True)

    def __deepcopy__(self, memo: Any) -> AllImages:
        return self

    def rows_of(self, x: Tensor) -> list[int | None]:
        return [self.numbers.get(row.tobytes()) for row in x.numpy()]


class StoredKernel(ConvResNetLimitKernel):
    """A kernel that looks its entries up, if the matrix has them."""

    def __init__(self, stored: AllImages, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stored = stored

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        one, two = map(self.stored.rows_of, (x1, x2))
        if None in (*one, *two):
            return super().forward(x1, x2, diag, **params)
        return torch.from_numpy(self.stored.matrix[(one, two) if diag else np.ix_(one, two)])


def from_stored(stored: AllImages, X: np.ndarray, y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    kernel = convolutional_kernel(X.shape[1:], partial(StoredKernel, stored))
    return _fitted(ResNetGPClassifier(kernel=kernel), X, y, Z)


def connected(X: np.ndarray, y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    kernel = _fixed(ConvResNetLimitKernel((X[0].size, 1, 1), filter_size=1), 15.0)
    return _fitted(ResNetGPClassifier(kernel=kernel), X, y, Z)


def grid(X: np.ndarray, y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    return _fitted(ResNetGPClassifier(), X, y, Z)


def svm(X: np.ndarray, y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    X, Z = X.reshape(len(X), -1), Z.reshape(len(Z), -1)
    found = GridSearchCV(SVC(), SVC_GRID, cv=KFold(5)).fit(X, y)
    best, folds = SVC(**found.best_params_), min(5, np.unique(y, return_counts=True)[1].min())
    return CalibratedClassifierCV(best, ensemble=False, cv=int(folds)).fit(X, y).predict_proba(Z)


def trained(X: np.ndarray, y: np.ndarray, Z: np.ndarray) -> np.ndarray:
    torch.manual_seed(0)
    height, width = (size // 4 for size in X.shape[1:])
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(64 * height * width, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(X))
    held, rows = order[: len(X) // 5], order[len(X) // 5 :]
    x, z = (torch.from_numpy(images[:, None]).float() for images in (X, Z))
    labels, loss = torch.from_numpy(y.astype(np.int64)), nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    for _ in range(EPOCHS):
        for batch in torch.from_numpy(rows)[torch.randperm(len(rows))].split(BATCH):
            optimiser.zero_grad()
            loss(net(x[batch]), labels[batch]).backward()
            optimiser.step()
    net.eval()
    with torch.no_grad():
        logits = net(x[held]).double()
        found = minimize_scalar(
            lambda log: smoothed_log_loss(math.exp(log) * logits, labels[held], 0.05),
            bounds=(-5, 8), method="bounded", options={"xatol": 1e-4},
        )  # fmt: skip
        return torch.softmax(math.exp(found.x) * net(z).double(), 1).numpy()


MODELS: dict[str, Model] = {
    "convolutional": convolutional,
    "connected": connected,
    "grid": grid,
    "svm": svm,
    "trained": trained,
}


def load(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels without the 500 rows on which w and the filters were chosen."""
    folder = data / "images"
    path = (folder if folder.is_dir() else data) / "mnist_t10k.npz"
    with np.load(path, allow_pickle=False) as archive:
        X, y = archive["X"].astype(np.float64), archive["y"]
    rows = np.sort(np.random.RandomState(123).permutation(len(X))[500:])
    return X[rows], y[rows]


def standardised(X: np.ndarray) -> np.ndarray:
    return (X - X.mean((1, 2), keepdims=True)) / X.std((1, 2), keepdims=True)


def scores(y: np.ndarray, p: np.ndarray) -> Cell:
    confidence, hit = p.max(1), p.argmax(1) == y
    return {
        "accuracy": round(float(hit.mean()), 4),
        "log_loss": round(float(log_loss(y, p, labels=np.arange(10))), 4),
        "calibration_error": round(calibration_error(confidence, hit), 4),
    }


def report(cells: Cells) -> None:
    for rows in sorted({cell["rows"] for cell in cells.all}):
        table = [
            [name, *(mean_and_error(cells.values(m, rows=rows, model=name)) for m in MEASURES)]
            for name in MODELS
            if cells.where(rows=rows, model=name)
        ]
        print_table(f"{rows} training images", ["", *MEASURES], table)


def main(arguments: list[str] | None = None) -> Cells:
    parser = parser_of(__doc__, "mnist_t10k.npz, or that holds it in images/", resumes=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument("--test", type=int, default=5000, help="test images of a draw")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--matrix", type=Path, help="file of the kernel of all images")
    options = parsed(parser, arguments)
    if options.quick:
        digits = load_digits()
        X, y = digits.images, digits.target
        options.rows, options.test, options.draws = [100], 200, 1
    else:
        X, y = load(options.data)
    X, models = standardised(X), dict(MODELS)
    if options.matrix:
        models["convolutional"] = partial(from_stored, AllImages(options.matrix, X))

    def measure(rows: int, draw: int, model: str) -> Iterator[Cell]:
        order = np.random.default_rng(draw).permutation(len(X))
        train, test = order[:rows], order[-options.test :]
        start = time.process_time()
        p = models[model](X[train], y[train], X[test])
        cell = {"rows": rows, "draw": draw, "model": model} | scores(y[test], p)
        if models[model] is MODELS[model]:
            cell["seconds"] = round(time.process_time() - start, 1)
        yield cell

    cells = Cells(output(options, "images"), ("rows", "draw", "model"))
    work = [
        (rows, draw, model)
        for rows in options.rows
        for draw in range(options.draws)
        for model in options.models
    ]
    fill(cells, work, measure, options.seconds)
    report(cells)
    return cells


if __name__ == "__main__":
    main()
