"""Our kernels in the models of ``pyro.contrib.gp``."""

from __future__ import annotations

import gpytorch
from linear_operator import to_dense
from pyro.contrib.gp.kernels import Kernel
from torch import Tensor


class ContribKernel(Kernel):
    """A GPyTorch kernel as a kernel of ``pyro.contrib.gp``.

    Pyro learns its hyperparameters as parameters; for priors over them, use ``GPRegression``.

    Args:
        kernel: any GPyTorch kernel, output scale included.
        input_dim: number of input dimensions.
        active_dims: the ``input_dim`` dimensions to use; None for the first ones.

    Example:
        >>> kernel = ContribKernel(ScaleKernel(ResNetLimitKernel(input_bias=True)), input_dim=3)
        >>> model = pyro.contrib.gp.models.GPRegression(X, y, kernel)
    """

    def __init__(
        self, kernel: gpytorch.kernels.Kernel, input_dim: int, active_dims: list[int] | None = None
    ) -> None:
        super().__init__(input_dim, active_dims)
        self.kernel = kernel

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Covariance matrix ``n x m``, or its diagonal, ``n``."""
        x = self._slice_input(X)
        z = None if Z is None else self._slice_input(Z)
        covariance: Tensor = to_dense(self.kernel(x, z, diag=diag))
        return covariance
