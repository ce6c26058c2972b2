"""Gaussian processes from infinitely wide and deep ResNets, for GPyTorch and scikit-learn."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from resnet_gp.functions import correlation, kernel_matrix
from resnet_gp.kernels import ResNetLimitKernel, ResNetTangentKernel

if TYPE_CHECKING:
    from resnet_gp.estimators import ResNetGPRegressor

__version__ = version("resnet-gp")
__all__ = [
    "ResNetGPRegressor",
    "ResNetLimitKernel",
    "ResNetTangentKernel",
    "correlation",
    "kernel_matrix",
]

# What needs more than torch and gpytorch is imported when it is first asked for.
_LAZY = {"ResNetGPRegressor": "resnet_gp.estimators"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
