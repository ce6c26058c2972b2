"""Theorem 2 for convolutional ResNets: the covariance of both readouts against networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resnet_gp.kernels import ConvResNetLimitKernel
from resnet_gp.networks import Simulation
from resnet_gp.networks.convolutional import ConvResNet, ConvSimulation
from resnet_gp.report.checks import Check, equality_checks
from resnet_gp.report.fits import Array, power_law
from resnet_gp.report.result import Axes, ExperimentResult, guide, points, size_axes
from resnet_gp.verification.observables import at_pairs, moments
from resnet_gp.verification.simulation_lab import SimulationLab

SHAPE = (2, 3, 4)
PAIRS = ((0, 0), (1, 1), (0, 1), (0, 2))
READOUTS: tuple[Literal["flatten", "average"], ...] = ("flatten", "average")
WIDTHS, DEPTHS = (24, 72, 216), (1, 2, 4)
LAW = ConvResNet(128, 3, "relu", 1.3, 0.2, 0.1, image_shape=SHAPE)


def images() -> Tensor:
    """Three images, of which the second is the first with other values in a corner."""
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[1] = torch.where(torch.arange(24) % 4 < 2, x[0], x[1])
    return x


def gram(hidden: Tensor) -> Tensor:
    """Both readouts' q(a, b), ``N x readouts x m x m``, from ``N x m x n x height x width``."""
    flat, mean = hidden.flatten(2), hidden.mean((-2, -1))
    return torch.stack([x @ x.mT / x.shape[-1] for x in (flat, mean)], 1)


def observed(depth: int, hidden: Tensor) -> Tensor:
    """q(a, b) at ``PAIRS``, ``N x (readouts pairs)``."""
    first, second = (list(indices) for indices in zip(*PAIRS, strict=True))
    return gram(hidden)[:, :, first, second].flatten(1)


def predicted(law: ConvResNet, limit: bool = False) -> Array:
    """The kernel at ``PAIRS`` for both readouts, at the network's depth or in the limit."""
    found = []
    for readout in READOUTS:
        kernel = ConvResNetLimitKernel(
            law.image_shape, law.filter_size, readout, "circular" if law.circular else "zero",
            str(law.activation), None if limit else law.depth, input_bias=True,
            block_bias=law.block_bias_variance > 0,
        ).double()  # fmt: skip
        kernel.weight_variance = law.weight_variance
        kernel.input_bias_variance = law.input_bias_variance
        if kernel.block_bias:
            kernel.block_bias_variance = law.block_bias_variance
        with torch.no_grad():
            found.append(at_pairs(kernel(images()).to_dense().numpy(), PAIRS))
    return np.concatenate(found)


def laws(lab: SimulationLab) -> list[ConvResNet]:
    """Networks whose means are tested."""
    wide = replace(LAW, width=lab.size(512, 256), depth=lab.size(5, 2))
    return [
        replace(wide, activation=activation, circular=circular, filter_size=size)
        for activation, circular, size in (("relu", False, 3), ("relu", True, 3), ("abs", False, 5))
    ]


def plan(lab: SimulationLab) -> list[Simulation]:
    x, networks = images(), lab.size(100, 64)
    means: list[Simulation] = [
        ConvSimulation(f"convolution-mean-{number}", law, x, networks, observed)
        for number, law in enumerate(laws(lab))
    ]
    expected = torch.from_numpy(predicted(LAW))

    def errors(depth: int, hidden: Tensor) -> Tensor:
        return (observed(depth, hidden).double().cpu() - expected).square()

    for width in WIDTHS:
        law, count = replace(LAW, width=width), lab.size(1000, 150)
        means.append(ConvSimulation(f"convolution-n{width}", law, x, count, errors))
    for depth in DEPTHS:
        law, count = replace(LAW, depth=depth, block_bias_variance=0.0), lab.size(2000, 300)
        means.append(ConvSimulation(f"convolution-L{depth}", law, x, count, observed))
    return means


@dataclass(frozen=True)
class ConvolutionResult(ExperimentResult):
    """Root mean squared errors by width, and distances of means to the limit by depth."""

    errors: tuple[Array, Array]
    biases: tuple[Array, Array]

    name = "convolution"
    title = "Convolutional ResNets"
    theorem = "Theorem 2, for images"
    summary = (
        "Means over convolutional ResNets with explicit filters are tested against the kernel of "
        "the same depth: for both readouts and paddings, ReLU and |u|, biases, filters of 3 x 3 "
        "and 5 x 5 pixels. The error falls like 1/√n in the channels, and the distance to the "
        "limit in the depth as that of the kernels of these depths."
    )
    panels = (1, 2)

    def draw(self, axes: Axes) -> None:
        points(axes[0], WIDTHS, *self.errors)
        guide(axes[0], WIDTHS, self.errors[0][0], -0.5)
        size_axes(axes[0], WIDTHS, "channels", title="L2 error of q(a, b)")
        points(axes[1], DEPTHS, *self.biases)
        guide(axes[1], DEPTHS, self.biases[0][-1] * DEPTHS[-1] / DEPTHS[0])
        size_axes(axes[1], DEPTHS, "L", title="limit less mean of q(a, a)")
        for axis in axes:
            axis.legend(frameon=False)


def run(lab: SimulationLab) -> ConvolutionResult:
    found = lab.run(plan(lab))
    checks: list[Check] = []
    for number, law in enumerate(laws(lab)):
        own = moments(found[f"convolution-mean-{number}"][law.depth])
        padding = "circular" if law.circular else "zero"
        where = f"{law.activation}, {padding}, {law.filter_size} x {law.filter_size}"
        names = [f"k(x{i}, x{j}), {readout}, {where}" for readout in READOUTS for i, j in PAIRS]
        checks += equality_checks(
            names, own.mean, own.standard_error, predicted(law), group=f"convolutions, {where}"
        )
    squares = [moments(found[f"convolution-n{width}"][LAW.depth]) for width in WIDTHS]
    pair = PAIRS.index((0, 1))
    root = np.sqrt([one.mean[pair] for one in squares])
    noise = np.array([one.standard_error[pair] for one in squares]) / (2 * root)
    # One relative error: those of each width would weigh roots more that are small by chance.
    relative = np.sqrt(np.mean((noise / root) ** 2))
    slope = power_law(np.array(WIDTHS, float), root, relative * root).estimate(1)
    checks.append(Check("slope of log L2 error of k(x0, x1) in log n", *slope, -0.5))
    deep = [replace(LAW, depth=depth, block_bias_variance=0.0) for depth in DEPTHS]
    means = [moments(found[f"convolution-L{law.depth}"][law.depth]) for law in deep]
    limit = predicted(deep[0], limit=True)[0]
    bias = limit - np.array([one.mean[0] for one in means])
    error = np.array([one.standard_error[0] for one in means])
    expected = limit - np.array([predicted(law)[0] for law in deep])
    names = [f"distance of k(x0, x0) to the limit, L = {depth}" for depth in DEPTHS]
    checks += equality_checks(names, bias, error, expected, group="distance in the depth")
    sizes = np.array(DEPTHS, float)
    slope = power_law(sizes, bias, error).estimate(1)
    theory = float(power_law(sizes, expected, error).parameters[1])
    checks.append(Check("slope of log distance to the limit in log L", *slope, theory))
    return ConvolutionResult(tuple(checks), (root, noise), (bias, error))
