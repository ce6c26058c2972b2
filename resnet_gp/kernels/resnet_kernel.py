"""The base of the kernels of infinitely wide ResNets: hyperparameters and their checks."""

from __future__ import annotations

from typing import Any

import torch
from gpytorch.constraints import Interval
from gpytorch.priors import Prior
from linear_operator import LinearOperator
from torch import Tensor

from resnet_gp.activations import Activation, AnyActivation, LeakyReLU, any_activation
from resnet_gp.flow.covariance import (
    Networks,
    Variance,
    check_options,
    one_network,
    resnet_covariance,
)
from resnet_gp.flow.depth import Layers, checked_depth
from resnet_gp.flow.general_covariance import general_covariance
from resnet_gp.kernels.constraints import log_positive
from resnet_gp.kernels.large_covariance import is_too_large, large_covariance
from resnet_gp.kernels.network_kernel import NetworkKernel

_SHALLOW = 8  # blocks


class ResNetKernel(NetworkKernel):
    """A kernel of the infinitely wide ResNet; see its subclasses."""

    has_lengthscale = True

    def __init__(
        self,
        activation: str | AnyActivation = "relu",
        depth: int | None = None,
        *,
        negative_slope: float = 0.01,
        input_bias: bool = False,
        block_bias: bool = False,
        variance: Variance = "full",
        contrast: bool = False,
        ard_num_dims: int | None = None,
        batch_shape: torch.Size | None = None,
        active_dims: tuple[int, ...] | None = None,
        lengthscale_prior: Prior | None = None,
        lengthscale_constraint: Interval | None = None,
        weight_variance_prior: Prior | None = None,
        weight_variance_constraint: Interval | None = None,
        input_bias_variance_prior: Prior | None = None,
        input_bias_variance_constraint: Interval | None = None,
        block_bias_variance_prior: Prior | None = None,
        block_bias_variance_constraint: Interval | None = None,
    ) -> None:
        super().__init__(
            ard_num_dims=ard_num_dims,
            batch_shape=batch_shape,
            active_dims=active_dims,
            lengthscale_prior=lengthscale_prior,
            lengthscale_constraint=lengthscale_constraint or log_positive(),
        )
        self.activation = any_activation(activation, negative_slope)
        self.depth = checked_depth(depth)
        self.layers: Layers = "readout"
        self.input_bias = input_bias
        self.block_bias = block_bias
        check_options(variance, contrast, self.depth, self.layers)
        if (variance != "full" or contrast) and not self.is_homogeneous:
            raise ValueError(
                'variance="no_growth", variance="unit" and contrast=True need an activation of the '
                "(leaky) ReLU family and no block_bias"
            )
        self.variance: Variance = variance
        self.contrast = contrast
        self.start_at("lengthscale", 1.0)
        self._add_variances(
            (weight_variance_prior, weight_variance_constraint),
            (input_bias, input_bias_variance_prior, input_bias_variance_constraint),
            (block_bias, block_bias_variance_prior, block_bias_variance_constraint),
        )

    def _set_lengthscale(self, value: Tensor | float) -> None:
        self._set_hyperparameter("lengthscale", value)  # the base class rounds floats to float32

    @property
    def is_homogeneous(self) -> bool:
        """Whether the kernel is one scalar map of the correlation."""
        return isinstance(self.activation, LeakyReLU) and not self.block_bias

    @property
    def is_tabulated(self) -> bool:
        """Does the kernel make tables for each pair of weight and block bias variance?

        It takes seconds, so they are for maps that would be dear to integrate for each pair of
        inputs; where an activation has a kink, their series converge too slowly.
        """
        if self.is_homogeneous or isinstance(self.activation, LeakyReLU):
            return False
        shallow = self.depth is not None and self.depth <= _SHALLOW
        return not shallow or isinstance(self.activation, Activation)

    @property
    def negative_slope(self) -> float:
        """alpha of the (leaky) ReLU family; AttributeError for other activations."""
        if not isinstance(self.activation, LeakyReLU):
            raise AttributeError(f"{self.activation} has no negative_slope")
        return self.activation.negative_slope

    @property
    def horizon(self) -> Tensor:
        """T = w (1 - alpha)^2, the time of the correlation flow; ``batch_shape x 1 x 1``."""
        return self.weight_variance * (1 - self.negative_slope) ** 2

    @property
    def horizon_factor(self) -> float:
        """T / w; 1 where there is no T, and for the linear network, which does not depend on w."""
        return (1 - self.negative_slope) ** 2 or 1.0 if self.is_homogeneous else 1.0

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
            return general_covariance(
                x1,
                x2,
                self.weight_variance,
                activation=self.activation,
                block_bias_variance=self.block_bias_variance if self.block_bias else None,
                depth=self.depth,
                lengthscale=self.lengthscale,
                input_bias_variance=self.input_bias_variance if self.input_bias else None,
                diag=diag,
                path="table" if self.is_tabulated else "direct",
            )
        if not diag and is_too_large(x1, x2):
            return large_covariance(self.networks(), x1, x2)
        return resnet_covariance(x1, x2, diag=diag, **self._arguments())

    def networks(self, outputscale: Tensor | None = None) -> Networks:
        """The kernel as ``flow`` computes it, times an output scale; of the (leaky) ReLU family."""
        return one_network(outputscale=outputscale, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        return {
            "weight_variance": self.weight_variance,
            "negative_slope": self.negative_slope,
            "lengthscale": self.lengthscale,
            "input_bias_variance": self.input_bias_variance if self.input_bias else None,
            "depth": self.depth,
            "layers": self.layers,
            "variance": self.variance,
            "contrast": self.contrast,
        }
