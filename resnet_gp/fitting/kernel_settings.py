"""The kernels that the classifier tries: a grid over horizons, input biases and encodings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from gpytorch.kernels import Kernel

from resnet_gp.fitting.kernel_spec import checked_kernel
from resnet_gp.kernels import ResNetLimitKernel, ResNetTangentKernel

HORIZONS = (0.5, 2.0, 5.0, 15.0, 40.0, 100.0)
INPUT_BIAS_VARIANCES = (0.0, 1.0)


class KernelSetting(NamedTuple):
    """One kernel to try.

    Attributes:
        name: "limit", "tangent" or "given".
        horizon: T; NaN for a given kernel.
        input_bias_variance: 0 for none, NaN for a given kernel.
        active_dims: the columns of the inputs that the kernel uses.
        lengthscale: of each of them; None for 1.
    """

    name: str
    horizon: float
    input_bias_variance: float
    active_dims: tuple[int, ...]
    lengthscale: tuple[float, ...] | None = None


def kernel_settings(name: str, blocks: list[tuple[int, ...]]) -> list[KernelSetting]:
    """List all settings of "limit", "tangent" or "both", for each block of columns.

    A given kernel has one setting, for the first block.
    """
    if name == "given":
        return [KernelSetting("given", math.nan, math.nan, blocks[0])]
    names = ("limit", "tangent") if name == "both" else (name,)
    return [
        KernelSetting(kind, horizon, bias, block)
        for block in blocks
        for kind in names
        for horizon in HORIZONS
        for bias in INPUT_BIAS_VARIANCES
    ]


def weighed_settings(
    settings: Sequence[KernelSetting], n_inputs: int, lengthscale: tuple[float, ...]
) -> list[KernelSetting]:
    """The settings of the first block, for all columns of the inputs over their lengthscales."""
    columns, first = tuple(range(n_inputs)), settings[0].active_dims
    return [
        setting._replace(active_dims=columns, lengthscale=lengthscale)
        for setting in settings
        if setting.active_dims == first
    ]


def make_kernel(setting: KernelSetting, given: Kernel | None = None) -> Kernel:
    """Make the kernel in float64, without growth, which any output scale absorbs.

    A given kernel is copied.

    The limit kernel is the contrast of the correlation: at long horizons all correlations are close
    to one, and noise would have to be tiny not to hide their differences.
    """
    if given is not None:
        return checked_kernel(given, len(setting.active_dims)).requires_grad_(False)
    bias = setting.input_bias_variance
    common: dict[str, Any] = {
        "variance": "no_growth",
        "input_bias": bias > 0,
        "active_dims": setting.active_dims,
        "ard_num_dims": None if setting.lengthscale is None else len(setting.active_dims),
    }
    if setting.name == "limit":
        kernel: Kernel = ResNetLimitKernel(contrast=True, **common).double()
    else:
        kernel = ResNetTangentKernel(**common).double()
    kernel.weight_variance = setting.horizon
    if setting.lengthscale is not None:
        kernel.lengthscale = torch.tensor(setting.lengthscale, dtype=torch.float64)
    if bias > 0:
        kernel.input_bias_variance = bias
    return kernel.requires_grad_(False)
