"""The kernels that the classifier tries: a grid over horizons and input biases."""

from __future__ import annotations

from typing import NamedTuple

from gpytorch.kernels import Kernel

from resnet_gp.activations import get_activation
from resnet_gp.kernels import ResNetLimitKernel, ResNetTangentKernel

HORIZONS = (0.5, 2.0, 5.0, 15.0, 40.0, 100.0)
INPUT_BIAS_VARIANCES = (0.0, 1.0)


class KernelSetting(NamedTuple):
    """Which kernel, for how long the correlation flows, and the variance of the input bias."""

    name: str
    horizon: float
    input_bias_variance: float


def kernel_settings(name: str) -> list[KernelSetting]:
    """All settings of "limit", of "tangent", or of "both"."""
    names = ("limit", "tangent") if name == "both" else (name,)
    return [
        KernelSetting(kind, horizon, bias)
        for kind in names
        for horizon in HORIZONS
        for bias in INPUT_BIAS_VARIANCES
    ]


def make_kernel(setting: KernelSetting, activation: str, negative_slope: float) -> Kernel:
    """The kernel in float64, without the growth that any output scale absorbs.

    The limit kernel is the contrast of the correlation: at long horizons all correlations are close
    to one, and the noise would have to be small against the rest.
    """
    slope = get_activation(activation, negative_slope).negative_slope
    bias = setting.input_bias_variance
    common = {"negative_slope": negative_slope, "growth": False, "input_bias": bias > 0}
    if setting.name == "limit":
        kernel: Kernel = ResNetLimitKernel(activation, contrast=True, **common).double()
    else:
        kernel = ResNetTangentKernel(activation, **common).double()
    kernel.weight_variance = setting.horizon / ((1 - slope) ** 2 or 1.0)
    if bias > 0:
        kernel.input_bias_variance = bias
    return kernel.requires_grad_(False)
