"""The kernel of an estimator: how it is built and checked, its bounds, where its search starts."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from gpytorch import Module
from gpytorch.kernels import Kernel, ScaleKernel
from numpy.typing import NDArray

from resnet_gp.activations import AnyActivation, LeakyReLU, any_activation
from resnet_gp.fitting.optimiser import get_raw, set_raw
from resnet_gp.flow.depth import checked_depth
from resnet_gp.kernels import (
    ConvResNetLimitKernel,
    ResNetLimitKernel,
    ResNetSumKernel,
    ResNetTangentKernel,
)
from resnet_gp.kernels.network_kernel import NetworkKernel
from resnet_gp.kernels.resnet_kernel import ResNetKernel
from resnet_gp.kernels.resnet_sum_kernel import (
    HORIZON_STEP,
    LENGTHSCALE_STEP,
    RATIO_STEP,
    checked_components,
)

Array = NDArray[np.float64]
Bounds = tuple[float, float]
KernelName = Literal["limit", "tangent"]

# The bounds keep L-BFGS-B where the covariance can be factorised.
_NOISE_BOUNDS = (1e-8, 1e2)
_OUTPUTSCALE_BOUNDS = (1e-6, 1e6)
_RATIO_BOUNDS = (1e-6, 1e6)
_INPUT_BIAS_BOUNDS = (1e-4, 1e4)
_HORIZON_BOUNDS = (1e-3, 5e3)
# In standard deviations of the feature. At 10 a feature matters little but is not lost: with
# 10^4 here, boston's mean test RMSE was 2.61 instead of 2.57 (benchmarks/regression.py).
_LENGTHSCALE_BOUNDS = (1e-2, 10.0)
# Kernels that are not homogeneous: their moments are known, and their tables short, at variances up
# to a hundred; the variances grow with w, up to like e^w.
_GENERAL_LENGTHSCALE_BOUNDS = (0.25, 10.0)
_GENERAL_WEIGHT_BOUNDS = (1e-2, 8.0)
_BLOCK_BIAS_BOUNDS = (1e-3, 10.0)
_GENERAL_WEIGHT_START, _BLOCK_BIAS_START = 1.0, 0.1  # where tables are cheap
# Kernels of other packages, whose long lengthscales mean more.
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
        kernel: "limit", "tangent" or a GPyTorch kernel, which is copied.
        activation: "relu", or any other for the limit.
        depth: number of residual blocks; None for the limit.
        block_bias: whether the residual blocks have biases.
        n_components: number of independent networks whose sum has the covariance.
        groups: a number for each feature, which those share whose lengthscales are alike; see
            ``add_weak_priors``. None for unrelated ones.

    Raises:
        ValueError: names the argument that is wrong.
    """

    kernel: KernelName | Kernel
    activation: str | AnyActivation
    depth: int | None
    block_bias: bool
    n_components: int = 1
    groups: tuple[int, ...] | None = None

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
        if checked_components(self.n_components) > 1 and isinstance(self.kernel, Kernel):
            raise ValueError(
                f'n_components={self.n_components} needs kernel="limit" or "tangent"; your own '
                "kernel can be a sum itself"
            )

    @property
    def name(self) -> str:
        """A name of the kernel for the user, such as "limit + limit"."""
        own = type(self.kernel).__name__ if isinstance(self.kernel, Kernel) else self.kernel
        return " + ".join([own] * self.n_components)

    def with_inputs(self, count: int) -> KernelSpec:
        """The same kernel with further inputs, whose lengthscales are like no other's."""
        if self.groups is None:
            return self
        first = max(self.groups) + 1
        return replace(self, groups=(*self.groups, *range(first, first + count)))

    def ungrouped(self) -> KernelSpec:
        """The same kernel with unrelated lengthscales."""
        return replace(self, groups=None)

    @property
    def is_ours(self) -> bool:
        """Whether the kernel is one of this package by its name."""
        return not isinstance(self.kernel, Kernel)

    @property
    def is_fixed(self) -> bool:
        """Is the kernel the user's, without hyperparameters to learn?"""
        own = self.kernel
        return isinstance(own, Kernel) and not any(p.requires_grad for p in own.parameters())

    @property
    def is_homogeneous(self) -> bool:
        """Is a kernel of ours one scalar map of the correlation?"""
        activation = any_activation(self.activation)
        return isinstance(activation, LeakyReLU) and not self.block_bias

    @property
    def is_integrated(self) -> bool:
        """Is each entry of a matrix integrated by itself, which takes longer than LAPACK?"""
        return self.block_bias and isinstance(any_activation(self.activation), LeakyReLU)

    def build(self, n_features: int) -> Kernel:
        """A new kernel with float64 parameters.

        Raises:
            ValueError: the user's kernel does not fit the number of features, or is a batch.
        """
        if isinstance(self.kernel, Kernel):
            return checked_kernel(self.kernel, n_features)
        kernel = self._our_kernel(n_features).double()
        # (lengthscale, bias, output scale) -> (s l, bias / s^2, s^2 scale) changes nothing: fix one
        for component in _components(kernel):
            component.get_parameter("raw_input_bias_variance").requires_grad_(False)
        return kernel

    def _our_kernel(self, n_features: int) -> ResNetKernel | ResNetSumKernel:
        arguments: dict[str, Any] = {
            "input_bias": True,
            "block_bias": self.block_bias,
            "variance": "no_growth" if self.is_homogeneous else "full",
            "ard_num_dims": n_features,
        }
        if self.kernel == "limit":
            arguments["contrast"] = self.is_homogeneous and self.depth is None
        if self.n_components > 1:
            arguments |= {"kind": self.kernel, "n_components": self.n_components}
            return ResNetSumKernel(self.activation, self.depth, **arguments)
        new: Any = ResNetLimitKernel if self.kernel == "limit" else ResNetTangentKernel
        kernel: ResNetKernel = new(self.activation, self.depth, **arguments)
        return kernel

    def bounds(self, model: Any) -> dict[str, Bounds]:
        """Bounds of a model's raw parameters by name, also of kernels within the user's kernel.

        Parameters whose constraint has an upper end of its own are left out.
        """
        found = {"likelihood.noise_covar.raw_noise": _logarithms(_NOISE_BOUNDS)}
        for path, module in model.covar_module.named_modules(prefix="covar_module"):
            for name, bounds in _natural_bounds(module):
                constraint = module.constraint_for_parameter_name(f"raw_{name}")
                if not math.isfinite(constraint.upper_bound):
                    lowest = float(constraint.lower_bound) * (1 + 1e-6)
                    ends = torch.tensor(bounds, dtype=torch.float64).clamp(min=lowest)
                    low, high = constraint.inverse_transform(ends).tolist()
                    found[f"{path}.raw_{name}"] = (low, high)
        return found

    def raw(self, model: Any, start: Start) -> Array:
        """The raw free parameters of a model at a start; the model stays where it is.

        A user's kernel starts at its own values, the lengthscales of a simple one multiplied where
        its constraint allows that.
        """
        before = get_raw(model)
        kernel = model.covar_module.base_kernel
        if model.likelihood.noise_covar.raw_noise.requires_grad:
            model.likelihood.noise = start.noise
        model.covar_module.outputscale = 1.0
        if not isinstance(self.kernel, Kernel):
            for c, component in enumerate(_components(kernel)):
                self._move(component, start, c)
            if self.n_components > 1:
                kernel.ratio = RATIO_STEP ** torch.arange(1.0, self.n_components)
        elif kernel.has_lengthscale and kernel.raw_lengthscale.requires_grad:
            moved = kernel.lengthscale.detach() * float(np.mean(start.lengthscale))
            if kernel.raw_lengthscale_constraint.check(moved):
                kernel.lengthscale = moved
        raw = get_raw(model)
        set_raw(model, before)
        return raw

    def _move(self, kernel: ResNetKernel, start: Start, steps: int) -> None:
        """Set a component's hyperparameters, those of the first being ``steps`` before."""
        scale = torch.as_tensor(start.lengthscale, dtype=torch.float64) * LENGTHSCALE_STEP**steps
        kernel.lengthscale = scale.clamp(*_lengthscale_bounds(kernel))
        if self.is_homogeneous:
            horizon = min(start.horizon * HORIZON_STEP**steps, _HORIZON_BOUNDS[1])
            kernel.weight_variance = horizon / kernel.horizon_factor
        else:
            kernel.weight_variance = min(start.horizon, _GENERAL_WEIGHT_START)
        if self.block_bias:
            kernel.block_bias_variance = _BLOCK_BIAS_START


def _components(kernel: Kernel) -> tuple[ResNetKernel, ...]:
    """The networks of a kernel of ours."""
    if isinstance(kernel, ResNetSumKernel):
        return kernel.components
    return (kernel,) if isinstance(kernel, ResNetKernel) else ()


def takes_whole_inputs(kernel: object) -> bool:
    """Is it a kernel, or made of one, of inputs whose columns must keep their scales?"""
    parts = kernel.modules() if isinstance(kernel, Kernel) else ()
    return any(isinstance(part, ConvResNetLimitKernel) for part in parts)


def check_neighbours(inference: str, kernel: object) -> None:
    """Raise a ValueError if "nearest" is asked for with a kernel of images.

    It would evaluate the kernel at all pairs of each neighbourhood, a thousand for each image.
    """
    if inference == "nearest" and takes_whole_inputs(kernel):
        raise ValueError(
            'inference="nearest" would take minutes for a few images: with a kernel of images, use '
            '"exact" or "sparse"'
        )


def checked_kernel(kernel: Kernel, n_features: int) -> Kernel:
    """A copy, with float64 parameters, of a user's kernel for inputs with ``n_features`` columns.

    Raises:
        ValueError: the kernel is for another number of features, or a batch of kernels.
    """
    _check_features(kernel, n_features, n_features)
    own = copy.deepcopy(kernel).double()
    try:
        with torch.no_grad():
            shape = tuple(own(torch.eye(2, n_features, dtype=torch.float64)).to_dense().shape)
    except (IndexError, RuntimeError) as error:
        raise ValueError(f"kernel fails on X with {n_features} features: {error}") from error
    if shape != (2, 2):
        raise ValueError(
            f"kernel must give one covariance matrix, but of 2 rows it gives {shape}: "
            "leave out its batch_shape"
        )
    return own


def _check_features(kernel: Kernel, seen: int, n_features: int) -> None:
    """Check a kernel that sees ``seen`` columns of X, and the kernels within it."""
    chosen = kernel.active_dims
    if chosen is not None:
        if not 0 <= int(chosen.min()) <= int(chosen.max()) < seen:
            raise ValueError(
                f"kernel has active_dims={tuple(chosen.tolist())}, which must not be negative, and "
                f"below the number of features that it sees; X has {n_features} features"
            )
        seen = len(chosen)
    wanted = kernel.ard_num_dims
    if kernel.has_lengthscale and wanted not in (None, seen):
        which = "X has" if seen == n_features else "of X it sees"
        raise ValueError(f"kernel has ard_num_dims={wanted}, {which} {seen} features")
    for part in kernel.children():
        if isinstance(part, torch.nn.ModuleList):
            parts: list[Any] = list(part)
        else:
            parts = [part]
        for inner in parts:
            # A ScaleKernel has its kernel's active_dims, and chooses the columns in its place.
            if isinstance(inner, Kernel) and not (
                chosen is not None and inner.active_dims is chosen
            ):
                _check_features(inner, seen, n_features)


def _natural_bounds(module: Module) -> Iterator[tuple[str, Bounds]]:
    """Bounds of the hyperparameters of one kernel by name."""
    if isinstance(module, ScaleKernel):
        yield "outputscale", _OUTPUTSCALE_BOUNDS
    elif isinstance(module, ResNetSumKernel):
        yield "ratio", _RATIO_BOUNDS
    elif isinstance(module, NetworkKernel):
        weight = _GENERAL_WEIGHT_BOUNDS
        if isinstance(module, ResNetKernel):
            yield "lengthscale", _lengthscale_bounds(module)
            if module.is_homogeneous:
                low, high = _HORIZON_BOUNDS
                weight = low / module.horizon_factor, high / module.horizon_factor
        yield "weight_variance", weight
        if module.input_bias:
            yield "input_bias_variance", _INPUT_BIAS_BOUNDS
        if module.block_bias:
            yield "block_bias_variance", _BLOCK_BIAS_BOUNDS
    elif isinstance(module, Kernel) and module.has_lengthscale:
        yield "lengthscale", _OTHER_LENGTHSCALE_BOUNDS


def _lengthscale_bounds(kernel: ResNetKernel) -> Bounds:
    return _LENGTHSCALE_BOUNDS if kernel.is_homogeneous else _GENERAL_LENGTHSCALE_BOUNDS


def _logarithms(bounds: Bounds) -> Bounds:
    return math.log(bounds[0]), math.log(bounds[1])
