"""The GPyTorch kernel of a sum of independent infinitely wide ResNets."""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

import torch
from gpytorch.constraints import Interval
from gpytorch.priors import Prior
from linear_operator import LinearOperator
from torch import Tensor

from resnet_gp.activations import AnyActivation
from resnet_gp.flow.covariance import Networks, resnet_sum_covariance
from resnet_gp.integers import check_integer
from resnet_gp.kernels.hyperparameters import KernelWithHyperparameters
from resnet_gp.kernels.large_covariance import is_too_large, large_covariance
from resnet_gp.kernels.resnet_kernel import ResNetKernel
from resnet_gp.kernels.resnet_limit_kernel import ResNetLimitKernel
from resnet_gp.kernels.resnet_tangent_kernel import ResNetTangentKernel

KernelKind = Literal["limit", "tangent"]

#: Each component starts at the one before times these: rougher, more local, and smaller.
HORIZON_STEP, LENGTHSCALE_STEP, RATIO_STEP = 10.0, 0.3, 0.3


class ResNetSumKernel(KernelWithHyperparameters):
    r"""Covariance of a sum of C independent infinitely wide ResNets.

    With f = f_1 + ... + f_C, of which each f_c has a covariance k_c with lengthscales, a weight
    variance and biases of its own,

    .. math::
        k(a, b) = k_1(a, b) + \sum_{c=2}^C r_c\, k_c(a, b).

    One component can follow the trend of the data and another a local pattern, in which other
    inputs matter. The scale of the whole is that of a ``ScaleKernel`` around it. In the (leaky)
    ReLU family without block bias, a matrix is computed in one pass: no component has one of its
    own. All other kernels are computed one by one.

    With ``variance="full"`` the factor e^{w (1 + \alpha^2) / 2} of a rough component is large;
    "no_growth" leaves it out, and the ratio is then that of the variances at the input layer.

    Args:
        activation, depth: as for ``ResNetLimitKernel``.
        n_components: C, at least 2.
        kind: "limit" for components that are a ``ResNetLimitKernel``, "tangent" for
            ``ResNetTangentKernel``.
        batch_shape: shape of the batch of hyperparameters.
        active_dims: the input dimensions to use.
        ratio_prior, ratio_constraint: of ``ratio``, ``batch_shape x (C - 1)``.
        arguments: of each component, with a copy of each prior and constraint.

    The kernels of the components are ``component_1`` to ``component_C``. The first starts as it
    would alone; each other one at ten times the horizon (in kernels that have none, at the same
    weight variance), 0.3 times the lengthscale and 0.3 times the ratio of the one before, unless a
    constraint has an initial value.

    Raises:
        ValueError: as the components' kernel, or unknown ``n_components`` or ``kind``.

    Example:
        >>> kernel = ScaleKernel(
        ...     ResNetSumKernel(input_bias=True, variance="no_growth", ard_num_dims=3)
        ... )
        >>> kernel(torch.randn(5, 3)).to_dense().shape
        torch.Size([5, 5])
    """

    def __init__(
        self,
        activation: str | AnyActivation = "relu",
        depth: int | None = None,
        *,
        n_components: int = 2,
        kind: KernelKind = "limit",
        batch_shape: torch.Size | None = None,
        active_dims: tuple[int, ...] | None = None,
        ratio_prior: Prior | None = None,
        ratio_constraint: Interval | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(
            batch_shape=batch_shape, active_dims=active_dims,
            ard_num_dims=arguments.get("ard_num_dims"),
        )  # fmt: skip
        if kind not in get_args(KernelKind):
            raise ValueError(f'kind must be "limit" or "tangent", got {kind!r}')
        count = checked_components(n_components)
        if count < 2:
            raise ValueError("n_components must be at least 2: one is the kernel of its kind")
        new: Any = ResNetLimitKernel if kind == "limit" else ResNetTangentKernel
        self.n_components = count
        for c in range(count):  # no ModuleList, in which GPyTorch's kernels cannot be indexed
            own = new(activation, depth, batch_shape=batch_shape, **copy.deepcopy(arguments))
            self.add_module(f"component_{c + 1}", own)
        self._add("ratio", (count - 1,), ratio_prior, ratio_constraint)
        for c, component in enumerate(self.components):
            component.start_at("lengthscale", LENGTHSCALE_STEP**c)
            if self.is_homogeneous:
                component.start_at("weight_variance", HORIZON_STEP**c)
        self.start_at("ratio", RATIO_STEP ** torch.arange(1.0, count))

    @property
    def ratio(self) -> Tensor:
        """r_2 to r_C, the factors of the covariances after the first; ``batch_shape x (C - 1)``."""
        return self._get_hyperparameter("ratio")

    @ratio.setter
    def ratio(self, value: Tensor | float) -> None:
        self._set_hyperparameter("ratio", value)

    @property
    def components(self) -> tuple[ResNetKernel, ...]:
        """The C kernels, whose hyperparameters are those of the sum."""
        names = (f"component_{c + 1}" for c in range(self.n_components))
        return tuple(getattr(self, name) for name in names)

    @property
    def is_homogeneous(self) -> bool:
        """Whether each component is one scalar map of the correlation."""
        return self.components[0].is_homogeneous

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> Tensor | LinearOperator:
        self._refuse_last_dim_is_batch(last_dim_is_batch)
        if not self.is_homogeneous:
            return self._one_by_one(x1, x2, diag)
        if not diag and is_too_large(x1, x2):
            return large_covariance(Networks(**self._arguments()), x1, x2)
        return resnet_sum_covariance(x1, x2, diag=diag, **self._arguments())

    def networks(self, outputscale: Tensor) -> Networks:
        """The kernel as ``flow`` computes it, times an output scale; of the (leaky) ReLU family."""
        arguments = self._arguments()
        scales = outputscale[..., None] * arguments.pop("outputscale")
        return Networks(outputscale=scales, **arguments)

    def _arguments(self) -> dict[str, Any]:
        first, ratio = self.components[0], self.ratio
        bias = self._stacked("input_bias_variance") if first.input_bias else None
        return {
            "weight_variance": self._stacked("weight_variance"),
            "outputscale": torch.cat([torch.ones_like(ratio[..., :1]), ratio], -1),
            "negative_slope": first.negative_slope,
            "lengthscale": self._stacked("lengthscale"),
            "input_bias_variance": bias,
            "depth": first.depth,
            "layers": first.layers,
            "variance": first.variance,
            "contrast": first.contrast,
        }

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([getattr(component, name) for component in self.components], -3)

    def _one_by_one(self, x1: Tensor, x2: Tensor, diag: bool) -> Tensor:
        first, *others = (one.forward(x1, x2, diag=diag) for one in self.components)
        factors = (self.ratio[..., None] if diag else self.ratio[..., None, None]).unbind(
            -2 if diag else -3
        )
        return sum((r * k for r, k in zip(factors, others, strict=True)), first)


def checked_components(count: Any) -> int:
    """Return a number of components as an int; ValueError if it is none."""
    check_integer("n_components", count)
    return int(count)
