"""The GPyTorch kernel of the infinitely wide and deep ResNet."""

from __future__ import annotations

from typing import Any

import torch
from gpytorch.constraints import Interval
from gpytorch.kernels import Kernel
from gpytorch.priors import Prior
from torch import Tensor

from resnet_gp.activations import get_activation
from resnet_gp.flow.covariance import resnet_covariance
from resnet_gp.kernels.constraints import OutOfBoundsError, log_positive


class ResNetLimitKernel(Kernel):
    r"""Covariance of a ResNet at initialisation when width and depth go to infinity, in any order.

    For inputs a, b in R^d (Hayou & Yang 2023, "Width and Depth Limits Commute in Residual
    Networks", Theorems 2 and 3; with the initial values and "relu" it is exactly the paper's):

    .. math::
        q_0(a, b) &= \tfrac1d \sum_i a_i b_i / \ell_i^2 \;[+ \sigma_{in}^2] \\
        k(a, b) &= \sqrt{q_0(a, a)\, q_0(b, b)}\; e^{w (1 + \alpha^2) / 2}\, c_T,
        \qquad T = w (1 - \alpha)^2

    where the correlation :math:`c_t` starts at that of :math:`q_0` and follows
    :math:`dc/dt = (\sin\theta - \theta\cos\theta) / 2\pi`, :math:`c = \cos\theta`. No ODE is solved
    per pair.

    The kernel is not stationary. Without ``input_bias`` the prior variance is zero at x = 0: on
    centred data you almost always want ``input_bias=True``. Sample paths are once differentiable.
    T acts as an inverse angular length scale.

    Args:
        activation: "relu", "leaky_relu" or "abs".
        negative_slope: alpha of "leaky_relu"; the others ignore it.
        input_bias: give the input layer a bias of variance ``input_bias_variance``.
        growth: False leaves out the factor :math:`e^{w (1 + \alpha^2) / 2}`, which no model with
            an output scale can tell from it, and which overflows for large w.
        ard_num_dims: d, for one lengthscale per input dimension.
        batch_shape: shape of the batch of hyperparameters.
        active_dims: the input dimensions to use.
        lengthscale_prior, lengthscale_constraint: of ``lengthscale``,
            ``batch_shape x 1 x (1 or d)``.
        weight_variance_prior, weight_variance_constraint: of ``weight_variance``, w,
            ``batch_shape x 1 x 1``.
        input_bias_variance_prior, input_bias_variance_constraint: of ``input_bias_variance``,
            ``batch_shape x 1 x 1``; only with ``input_bias=True``.

    All hyperparameters start at 1, unless a constraint brings its own initial value. Without a
    constraint they are positive and optimised in logarithms.

    Raises:
        ValueError: unknown activation, or a horizon T beyond 10^4.

    Example:
        >>> kernel = ScaleKernel(ResNetLimitKernel(input_bias=True, ard_num_dims=3))
        >>> kernel(torch.randn(5, 3)).to_dense().shape
        torch.Size([5, 5])
    """

    has_lengthscale = True

    def __init__(
        self,
        activation: str = "relu",
        *,
        negative_slope: float = 0.01,
        input_bias: bool = False,
        growth: bool = True,
        ard_num_dims: int | None = None,
        batch_shape: torch.Size | None = None,
        active_dims: tuple[int, ...] | None = None,
        lengthscale_prior: Prior | None = None,
        lengthscale_constraint: Interval | None = None,
        weight_variance_prior: Prior | None = None,
        weight_variance_constraint: Interval | None = None,
        input_bias_variance_prior: Prior | None = None,
        input_bias_variance_constraint: Interval | None = None,
    ) -> None:
        super().__init__(
            ard_num_dims=ard_num_dims,
            batch_shape=batch_shape,
            active_dims=active_dims,
            lengthscale_prior=lengthscale_prior,
            lengthscale_constraint=lengthscale_constraint or log_positive(),
        )
        self.activation = get_activation(activation, negative_slope)
        self.input_bias = input_bias
        self.growth = growth
        self._start_at_one("lengthscale")
        self._add_variance("weight_variance", weight_variance_prior, weight_variance_constraint)
        if input_bias:
            self._add_variance(
                "input_bias_variance", input_bias_variance_prior, input_bias_variance_constraint
            )
        elif input_bias_variance_prior is not None or input_bias_variance_constraint is not None:
            raise ValueError("a prior or constraint of input_bias_variance needs input_bias=True")

    def _add_variance(self, name: str, prior: Prior | None, constraint: Interval | None) -> None:
        raw = torch.nn.Parameter(torch.zeros(*self.batch_shape, 1, 1))
        self.register_parameter(f"raw_{name}", raw)
        self.register_constraint(f"raw_{name}", constraint or log_positive())
        self._start_at_one(name)
        if prior is not None:
            if not isinstance(prior, Prior):
                raise TypeError(
                    f"{name}_prior must be a gpytorch Prior, got {type(prior).__name__}"
                )
            self.register_prior(f"{name}_prior", prior, name)

    def _start_at_one(self, name: str) -> None:
        """Start at 1, the paper's value, where the constraint has no other wish and allows it."""
        constraint = self.constraint_for_parameter_name(f"raw_{name}")
        if constraint.initial_value is None and constraint.check(torch.ones(())):
            self._set_hyperparameter(name, 1.0)

    def _get_hyperparameter(self, name: str) -> Tensor:
        constraint = self.constraint_for_parameter_name(f"raw_{name}")
        return constraint.transform(getattr(self, f"raw_{name}"))

    def _set_hyperparameter(self, name: str, value: Tensor | float) -> None:
        raw = getattr(self, f"raw_{name}")
        value = torch.as_tensor(value, dtype=raw.dtype, device=raw.device)
        constraint = self.constraint_for_parameter_name(f"raw_{name}")
        raw_value = constraint.inverse_transform(value)
        if not (constraint.check(value) and bool(torch.isfinite(raw_value).all())):
            raise OutOfBoundsError(
                f"{name} is out of bounds of its current constraints: it must be finite and "
                f"satisfy {constraint}, got {value.tolist()}"
            )
        try:
            self.initialize(**{f"raw_{name}": raw_value})
        except RuntimeError as error:
            raise ValueError(
                f"{name} must be a number or of shape {tuple(raw.shape)}, got {tuple(value.shape)}"
            ) from error

    def _set_lengthscale(self, value: Tensor | float) -> None:
        self._set_hyperparameter("lengthscale", value)  # the base class rounds floats to float32

    @property
    def weight_variance(self) -> Tensor:
        """w, the variance of the residual weights times the width; ``batch_shape x 1 x 1``."""
        return self._get_hyperparameter("weight_variance")

    @weight_variance.setter
    def weight_variance(self, value: Tensor | float) -> None:
        self._set_hyperparameter("weight_variance", value)

    @property
    def input_bias_variance(self) -> Tensor:
        """sigma_in^2, ``batch_shape x 1 x 1``.

        Raises:
            AttributeError: the kernel was made without ``input_bias``.
        """
        if not self.input_bias:
            raise AttributeError("input_bias_variance exists only with input_bias=True")
        return self._get_hyperparameter("input_bias_variance")

    @input_bias_variance.setter
    def input_bias_variance(self, value: Tensor | float) -> None:
        if not self.input_bias:
            raise AttributeError("input_bias_variance exists only with input_bias=True")
        self._set_hyperparameter("input_bias_variance", value)

    @property
    def horizon(self) -> Tensor:
        """T = w (1 - alpha)^2, for which the correlation flows; ``batch_shape x 1 x 1``."""
        return self.weight_variance * (1 - self.activation.negative_slope) ** 2

    @property
    def is_stationary(self) -> bool:
        return False

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> Tensor:
        if last_dim_is_batch:
            raise RuntimeError("ResNetLimitKernel does not accept the last_dim_is_batch argument.")
        return resnet_covariance(
            x1,
            x2,
            self.weight_variance,
            negative_slope=self.activation.negative_slope,
            lengthscale=self.lengthscale,
            input_bias_variance=self.input_bias_variance if self.input_bias else None,
            growth=self.growth,
            diag=diag,
        )
