"""The kernels that the classifier tries: a grid over horizons, input biases and encodings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

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
    """

    name: str
    horizon: float
    input_bias_variance: float
    active_dims: tuple[int, ...]


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


def settings_of(
    settings: Sequence[KernelSetting], columns: tuple[int, ...], places: tuple[int, ...]
) -> list[KernelSetting]:
    """The settings for some columns of the inputs, moved to others."""
    return [one._replace(active_dims=places) for one in settings if one.active_dims == columns]


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
    }
    if setting.name == "limit":
        kernel: Kernel = ResNetLimitKernel(contrast=True, **common).double()
    else:
        kernel = ResNetTangentKernel(**common).double()
    kernel.weight_variance = setting.horizon
    if bias > 0:
        kernel.input_bias_variance = bias
    return kernel.requires_grad_(False)
