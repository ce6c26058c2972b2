"""Which kernel an estimator uses, its bounds, and where the search for hyperparameters starts."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray

from resnet_gp.activations import AnyActivation, LeakyReLU, any_activation
from resnet_gp.fitting.optimiser import get_raw, set_raw
from resnet_gp.flow.depth import checked_depth
from resnet_gp.kernels import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.kernels.resnet_kernel import ResNetKernel

Array = NDArray[np.float64]
KernelName = Literal["limit", "tangent"]

_HORIZON_BOUNDS = (1e-3, 5e3)
# Of other activations, or with block biases: variances grow with w, up to like e^w.
_GENERAL_WEIGHT_BOUNDS = (1e-3, 20.0)
_BLOCK_BIAS_BOUNDS = (1e-4, 1e2)
_BLOCK_BIAS_START = 0.1
# Raw parameters are logarithms. The bounds keep L-BFGS-B where the covariance can be factorised.
_BOUNDS = {
    "likelihood.noise_covar.raw_noise": (1e-8, 1e2),
    "covar_module.raw_outputscale": (1e-6, 1e6),
}
# In standard deviations of the feature. At 10 a feature matters little but is not lost: with
# 10^4 here, boston's mean test RMSE was 2.61 instead of 2.57 (benchmarks/regression.py).
_LENGTHSCALE_BOUNDS = (1e-2, 10.0)
# Of other kernels, whose long lengthscales mean more.
_OTHER_LENGTHSCALE_BOUNDS = (1e-3, 1e3)


@dataclass(frozen=True)
class Start:
    """Where a search starts, in the units of standardised data."""

    horizon: float
    noise: float
    lengthscale: float | Array


@dataclass(frozen=True)
class KernelSpec:
    """The kernel that an estimator's parameters describe.

    Args:
        kernel: "limit", "tangent" or a GPyTorch kernel, of which copies are used.
        activation: of the first two, "relu" or, for the limit, any other.
        depth: number of residual blocks; None for the limit.
        block_bias: whether the residual blocks have biases.

    Raises:
        ValueError: names the argument that is wrong.
    """

    kernel: KernelName | Kernel
    activation: str | AnyActivation
    depth: int | None
    block_bias: bool

    def __post_init__(self) -> None:
        if not (isinstance(self.kernel, Kernel) or self.kernel in ("limit", "tangent")):
            raise ValueError(
                f'kernel must be "limit", "tangent" or a GPyTorch kernel, got {self.kernel!r}'
            )
        if self.activation in ("leaky_relu", "abs"):
            raise ValueError(
                f'activation={self.activation!r} is the same model as "relu": the learned '
                "weight_variance absorbs the slope"
            )
        any_activation(self.activation)
        checked_depth(self.depth)

    @property
    def is_homogeneous(self) -> bool:
        """Is a kernel of ours one scalar map of the correlation?"""
        activation = any_activation(self.activation)
        return isinstance(activation, LeakyReLU) and not self.block_bias

    @property
    def horizon_factor(self) -> float:
        """T / w; 1 where there is no T, and for the linear network, which does not depend on w."""
        activation = any_activation(self.activation)
        slope = activation.negative_slope if isinstance(activation, LeakyReLU) else 0.0
        return (1 - slope) ** 2 or 1.0

    def build(self, n_features: int) -> Kernel:
        """A new kernel of float64 parameters for inputs of so many features.

        Raises:
            ValueError: the user's kernel is for another number of features.
        """
        if isinstance(self.kernel, Kernel):
            wanted = self.kernel.ard_num_dims
            if wanted not in (None, 1, n_features) and self.kernel.active_dims is None:
                raise ValueError(f"kernel has ard_num_dims={wanted}, X has {n_features} features")
            return copy.deepcopy(self.kernel).double()
        kernel = self._our_kernel(n_features).double()
        # (lengthscale, bias, output scale) -> (s l, bias / s^2, s^2 scale) changes nothing: fix one
        kernel.get_parameter("raw_input_bias_variance").requires_grad_(False)
        return kernel

    def _our_kernel(self, n_features: int) -> ResNetKernel:
        arguments: dict[str, Any] = {
            "input_bias": True,
            "block_bias": self.block_bias,
            "variance": "no_growth" if self.is_homogeneous else "full",
            "ard_num_dims": n_features,
        }
        if self.kernel == "tangent":
            activation: Any = self.activation  # the kernel refuses what has no tangent kernel
            return ResNetTangentKernel(activation, self.depth, **arguments)
        contrast = self.is_homogeneous and self.depth is None
        return ResNetLimitKernel(self.activation, self.depth, contrast=contrast, **arguments)

    def bounds(self, model: Any) -> dict[str, tuple[float, float]]:
        """Bounds of a model's raw parameters by name.

        Of a user's kernel, only the lengthscale has bounds, unless it came with its own.
        """
        bounds = dict(_BOUNDS)
        ours = "covar_module.base_kernel.raw_"
        if not isinstance(self.kernel, Kernel):
            low, high = (bound / self.horizon_factor for bound in _HORIZON_BOUNDS)
            weights = (low, high) if self.is_homogeneous else _GENERAL_WEIGHT_BOUNDS
            bounds[ours + "lengthscale"] = _LENGTHSCALE_BOUNDS
            bounds[ours + "weight_variance"] = weights
            bounds[ours + "block_bias_variance"] = _BLOCK_BIAS_BOUNDS
        raw = {name: (math.log(low), math.log(high)) for name, (low, high) in bounds.items()}
        kernel = model.covar_module.base_kernel
        if isinstance(self.kernel, Kernel) and kernel.has_lengthscale:
            constraint = kernel.raw_lengthscale_constraint
            if not math.isfinite(constraint.upper_bound):
                ends = torch.tensor(_OTHER_LENGTHSCALE_BOUNDS, dtype=torch.float64)
                low, high = constraint.inverse_transform(ends).tolist()
                raw[ours + "lengthscale"] = (low, high)
        return raw

    def raw(self, model: Any, start: Start) -> Array:
        """The raw free parameters of a model at a start; the model stays where it is.

        A user's kernel starts at its own values, the lengthscales of a simple one multiplied.
        """
        before = get_raw(model)
        kernel = model.covar_module.base_kernel
        if model.likelihood.noise_covar.raw_noise.requires_grad:
            model.likelihood.noise = start.noise
        model.covar_module.outputscale = 1.0
        scale = torch.as_tensor(start.lengthscale, dtype=torch.float64)
        if not isinstance(self.kernel, Kernel):
            kernel.lengthscale = scale
            kernel.weight_variance = self._within(start.horizon / self.horizon_factor)
            if self.block_bias:
                kernel.block_bias_variance = _BLOCK_BIAS_START
        elif kernel.has_lengthscale and kernel.raw_lengthscale.requires_grad:
            kernel.lengthscale = kernel.lengthscale.detach() * scale.mean()
        raw = get_raw(model)
        set_raw(model, before)
        return raw

    def _within(self, weight_variance: float) -> float:
        return weight_variance if self.is_homogeneous else min(weight_variance, 4.0)
