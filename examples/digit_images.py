# %% [markdown]
# # Reading digits
#
# The kernel of an infinitely wide and deep convolutional ResNet on scikit-learn's digits, images of
# 8 x 8 pixels, beside that of the fully connected network, which does not know which pixels are
# neighbours.
#
# - Correlation, under each kernel, of a digit with itself after a shift to the right. A weight for
#   each pixel sees where things are, with convolutions or without; the average over pixels hardly
#   does.
# - Test accuracy and log-loss against the number of training images, with the same classifier. The
#   weight variance w, the time for which the network acts, is chosen by left-out images.
#
#     python examples/digit_images.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from resnet_gp import ResNetGPClassifier
from resnet_gp.kernels import ConvResNetLimitKernel
from resnet_gp.models.leave_one_out import Spectrum

WEIGHT_VARIANCES = (1.0, 4.0, 16.0)
NOISE_LEVELS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1)
SHIFTS = range(4)  # pixels
# One pixel with 64 channels: the fully connected network.
KERNELS = {
    "convolutional": {"image_shape": (8, 8)},
    "convolutional, average": {"image_shape": (8, 8), "readout": "average"},
    "fully connected": {"image_shape": (64, 1, 1), "filter_size": 1},
}
CLASSIFIERS = ("convolutional", "fully connected")


def kernel_of(name: str, weight_variance: float) -> ConvResNetLimitKernel:
    kernel = ConvResNetLimitKernel(**KERNELS[name]).double()
    kernel.weight_variance = weight_variance
    return kernel.requires_grad_(False)


# %%
def correlations(name: str, images: np.ndarray) -> np.ndarray:
    """Mean correlation of images with themselves after each shift to the right."""
    found = []
    for shift in SHIFTS:
        moved = np.pad(images, ((0, 0), (0, 0), (shift, 0)), mode="edge")[:, :, :8]
        x, z = (torch.from_numpy(a.reshape(len(a), -1)) for a in (images, moved))
        kernel = kernel_of(name, 1.0)
        size = (kernel(x, diag=True) * kernel(z, diag=True)).sqrt()
        found.append(float((kernel(x, z).to_dense().diagonal() / size).mean()))
    return np.array(found)


# %%
def best_variance(name: str, X: np.ndarray, y: np.ndarray) -> float:
    """w whose kernel predicts left-out labels best, at its best noise level."""
    targets = 2.0 * torch.nn.functional.one_hot(torch.from_numpy(y), 10) - 1

    def error(w: float) -> float:
        K = kernel_of(name, w)(torch.from_numpy(X)).to_dense()
        spectrum = Spectrum(K / K.diagonal().mean(), targets.double())
        left_out = [spectrum.leave_one_out(noise) for noise in NOISE_LEVELS]
        return min(one.squared_error(targets) for one in left_out)

    return min(WEIGHT_VARIANCES, key=error)


def compare(X: np.ndarray, y: np.ndarray, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Accuracy and log-loss on the rows after the largest training set, ``sizes x 2``."""
    Z, truth = X[max(sizes) :], y[max(sizes) :]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CLASSIFIERS}
    for size in sizes:
        for name in CLASSIFIERS:
            w = best_variance(name, X[:size], y[:size])
            model = ResNetGPClassifier(kernel=kernel_of(name, w)).fit(X[:size], y[:size])
            p = model.predict_proba(Z)
            accuracy, loss = float((p.argmax(1) == truth).mean()), log_loss(truth, p)
            print(f"{size} images, {name}, w = {w:g}: {accuracy:.1%}, log-loss {loss:.3f}")
            found[name].append((accuracy, loss))
    return {name: np.array(values) for name, values in found.items()}


# %%
def draw(
    shifted: dict[str, np.ndarray],
    scores: dict[str, np.ndarray],
    sizes: tuple[int, ...],
    path: Path,
) -> None:
    from matplotlib.figure import Figure

    figure = Figure((11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, values in shifted.items():
        left.plot(SHIFTS, values, "o-", label=name)
    left.set(xlabel="shift, pixels", title="correlation with the shifted digit", xticks=SHIFTS)
    left.legend(frameon=False)
    for axis, column, title in ((middle, 0, "test accuracy"), (right, 1, "test log-loss")):
        for name, values in scores.items():
            axis.plot(sizes, values[:, column], "o-", label=name)
        axis.set(xscale="log", xlabel="training images", title=title)
        axis.set_xticks(sizes, map(str, sizes))
        axis.set_xticks([], minor=True)
    right.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> dict[str, dict[str, np.ndarray]]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--figure", type=Path, help="draw the comparison")
    options = parser.parse_args(arguments)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, y = digits.images[order], digits.target[order]
    images = (images - images.mean()) / images.std()  # of all pixels together: still images
    X = images.reshape(len(images), -1)
    sizes, test = ((60,), 200) if options.quick else ((50, 100, 200, 400), 1000)
    shifted = {name: correlations(name, images[:8]) for name in KERNELS}
    for name, values in shifted.items():
        print(f"{name}: correlation after a shift of 0, 1, 2, 3 pixels {values.round(3)}")
    last = max(sizes) + test
    scores = compare(X[:last], y[:last], sizes)
    if options.figure:
        draw(shifted, scores, sizes, options.figure)
    return {"correlations": shifted, "scores": scores}


# %%
if __name__ == "__main__":
    main()
