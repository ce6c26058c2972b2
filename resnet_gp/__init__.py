"""Gaussian processes from infinitely wide and deep ResNets, for GPyTorch and scikit-learn."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_gp.activations import Activation
    from resnet_gp.estimators import ResNetGPClassifier, ResNetGPRegressor
    from resnet_gp.functions import correlation, kernel_matrix
    from resnet_gp.kernels import ResNetLimitKernel, ResNetTangentKernel

__version__ = version("resnet-gp")
__all__ = [
    "Activation",
    "ResNetGPClassifier",
    "ResNetGPRegressor",
    "ResNetLimitKernel",
    "ResNetTangentKernel",
    "correlation",
    "kernel_matrix",
]

# Imported when first asked for: only the estimators need more than torch and gpytorch.
_LAZY = {
    "Activation": "resnet_gp.activations",
    "ResNetGPClassifier": "resnet_gp.estimators",
    "ResNetGPRegressor": "resnet_gp.estimators",
    "ResNetLimitKernel": "resnet_gp.kernels",
    "ResNetTangentKernel": "resnet_gp.kernels",
    "correlation": "resnet_gp.functions",
    "kernel_matrix": "resnet_gp.functions",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
