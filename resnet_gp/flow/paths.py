"""The choice of what computes a covariance of unit vectors: numba, Triton or plain torch."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from resnet_gp.flow import on_torch
from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.flow.unit_points import Gradients, Points

_CAPABILITY = (8, 0)  # of the oldest device for which Triton's code is compiled in the tests


class Path(Protocol):
    """One way to compute a covariance matrix K and what depends on it; none builds a graph."""

    def covariance(self, points: Points) -> Tensor:
        """K, ``b x n x m``."""

    def gradient(self, points: Points, grad: Tensor, units: bool) -> Gradients:
        """The gradient of sum_ij grad_ij K_ij, ``grad`` being ``b x n x m``.

        Where both sides are the same, it is the sum of both sides' that counts. Without ``units``,
        the gradient in the unit vectors may be left out.
        """

    def with_gradient(self, points: Points) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
        """K of one set of points, and ``gradient`` as a function of a symmetric ``grad`` alone."""

    @property
    def product(self) -> Any:
        """(points, right) -> K right, ``b x n x k``; ``right`` is ``b x m x k``."""

    @property
    def product_gradient(self) -> Any:
        """(points, left, right, units) -> ``gradient`` for grad = left right'.

        ``left`` is ``b x n x k``, ``right`` is ``b x m x k``.
        """


def path_of(tensor: Tensor) -> Path:
    """The path for tensors like this one: on its device, of its dtype.

    Compiled loops on the CPU if numba is installed; Triton, if it is, on NVIDIA devices; plain
    torch elsewhere.
    """
    loops = compiled_loops("flow.on_numba", tensor) or _triton_kernels(tensor)
    return cast(Path, loops or on_torch)


def _triton_kernels(tensor: Tensor) -> ModuleType | None:
    if tensor.device.type != "cuda" or torch.version.hip is not None:
        return None
    if torch.cuda.get_device_capability(tensor.device) < _CAPABILITY:
        return None
    return _triton_module()


@functools.cache
def _triton_module() -> ModuleType | None:
    try:
        return importlib.import_module("resnet_gp.flow.on_triton")
    except ImportError:  # an extra
        return None
