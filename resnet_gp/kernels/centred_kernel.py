"""A kernel that centres its inputs."""

from __future__ import annotations

from typing import Any

import torch
from gpytorch.kernels import Kernel
from torch import Tensor


class CentredKernel(Kernel):
    """k(a - centre, b - centre): moves the origin of a kernel that is not translation invariant.

    Args:
        base_kernel: k.
        centre: the new origin, the same in every input dimension; 1/2 is that of the unit cube.
    """

    def __init__(self, base_kernel: Kernel, centre: float = 0.5) -> None:
        super().__init__(active_dims=base_kernel.active_dims)
        self.base_kernel = base_kernel
        self.centre = centre

    @property
    def batch_shape(self) -> torch.Size:
        return self.base_kernel.batch_shape

    @batch_shape.setter
    def batch_shape(self, shape: torch.Size) -> None:
        """GPyTorch, which sets it where batches are expanded, expands the base kernel too."""

    @property
    def is_stationary(self) -> bool:
        return self.base_kernel.is_stationary

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Any:
        # Not __call__, which would apply active_dims a second time.
        return self.base_kernel.forward(x1 - self.centre, x2 - self.centre, diag=diag, **params)

    def num_outputs_per_input(self, x1: Tensor, x2: Tensor) -> int:
        return self.base_kernel.num_outputs_per_input(x1, x2)
