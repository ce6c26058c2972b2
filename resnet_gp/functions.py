"""The correlation flow and the kernel as plain functions of NumPy arrays or tensors."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from resnet_gp.activations import leaky_relu_of
from resnet_gp.flow.correlation import flow
from resnet_gp.flow.covariance import resnet_covariance
from resnet_gp.flow.depth import checked_depth

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, Tensor)


def correlation(c0: ArrayOrTensor, horizon: Any) -> ArrayOrTensor:
    """Correlation c_T of the infinitely deep ResNet that starts at c_0 and flows for time T.

    The solution of dc/dt = (sin(theta) - theta cos(theta)) / (2 pi), c = cos(theta) (Hayou & Yang
    2023, Theorem 3). For ReLU networks at the end of their depth, T = ``weight_variance``; for
    slope alpha, T = ``weight_variance`` (1 - alpha)^2.

    Args:
        c0: correlations in [-1, 1], any shape: a tensor or anything that ``np.asarray`` accepts.
        horizon: T in [0, 10^4], a number or of a shape that broadcasts with ``c0``.

    Returns:
        c_T, of the broadcast shape: a tensor (differentiable twice) if ``c0`` is one, else an
        array. float32 stays float32, everything else becomes float64.

    Raises:
        ValueError: a correlation is NaN or outside [-1, 1], or a horizon is outside its range.

    Example:
        >>> correlation(np.array([-1.0, 0.0, 1.0]), 1.0).round(6).tolist()
        [-0.591562, 0.141348, 1.0]
    """
    start = _floating("c0", c0)
    if not bool((start.detach().abs() <= 1).all()):
        raise ValueError("c0 must be correlations between -1 and 1, without NaN")
    time = _floating("horizon", horizon, like=start)
    start, time = torch.broadcast_tensors(start, time) if time.numel() > 1 else (start, time)
    return _like(c0, flow(1 - start, time))


def kernel_matrix(
    X: ArrayOrTensor,
    Z: ArrayOrTensor | None = None,
    *,
    activation: str = "relu",
    depth: int | None = None,
    negative_slope: float = 0.01,
    weight_variance: float | Tensor = 1.0,
    lengthscale: Any = 1.0,
    input_bias_variance: float | Tensor | None = None,
) -> ArrayOrTensor:
    """Covariance matrix of the infinitely wide and deep ResNet (see ``ResNetLimitKernel``).

    Args:
        X: inputs, ``n x d`` (tensors also ``... x n x d``), or one input, ``d``.
        Z: inputs, ``m x d``, or one input, ``d``; X itself if left out.
        activation: "relu", "leaky_relu" or "abs".
        depth: a number of residual blocks from 1 to 10^6; None for the limit.
        negative_slope: the slope of "leaky_relu".
        weight_variance: w > 0.
        lengthscale: a positive number, or d of them.
        input_bias_variance: sigma_in^2 > 0; None for an input layer without bias.

    Returns:
        ``n x m``, less the dimensions of single inputs: a tensor (differentiable twice) if ``X`` is
        one, else an array. float32 stays float32, everything else becomes float64.

    Raises:
        ValueError: NaN or infinite inputs, shapes that do not match, unknown activation,
            depth, hyperparameters that are not positive.

    Example:
        >>> SVC(kernel=partial(kernel_matrix, input_bias_variance=0.1)).fit(X, y)
        >>> KernelRidge(kernel=kernel_matrix).fit(X, y)  # "precomputed" is faster: no call per pair
    """
    first = _inputs("X", X)
    second = first if Z is None else _inputs("Z", Z, like=first)
    single = [axis for axis, x in ((-2, first), (-1, second)) if x.dim() == 1]
    first, second = torch.atleast_2d(first), torch.atleast_2d(second)
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(f"X has {first.shape[-1]} features but Z has {second.shape[-1]}")
    bias = None
    if input_bias_variance is not None:
        bias = _positive("input_bias_variance", input_bias_variance, first)
    scales = _positive("lengthscale", lengthscale, first)
    if scales.dim() > 1 or scales.numel() not in (1, first.shape[-1]):
        raise ValueError(
            f"lengthscale must be a number or {first.shape[-1]} of them, "
            f"got shape {tuple(scales.shape)}"
        )
    covariance = resnet_covariance(
        first,
        second,
        _positive("weight_variance", weight_variance, first),
        negative_slope=leaky_relu_of(activation, negative_slope).negative_slope,
        depth=checked_depth(depth),
        lengthscale=scales,
        input_bias_variance=bias,
    )
    for axis in single:
        covariance = covariance.squeeze(axis)
    return _like(X, covariance)


def _floating(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    """Return a tensor of floating dtype; that of ``like`` if given."""
    if not isinstance(value, Tensor):
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}")
        if array.dtype != np.float32:
            array = array.astype(np.float64)
        value = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    if like is not None:
        return value.to(like)
    if value.is_complex():
        raise ValueError(f"{name} must be real numbers, got dtype {value.dtype}")
    return value if value.dtype == torch.float32 else value.to(torch.float64)


def _inputs(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    tensor = _floating(name, value, like)
    if tensor.dim() == 0 or tensor.shape[-1] == 0:
        raise ValueError(f"{name} must be n x d with d >= 1, got shape {tuple(tensor.shape)}")
    if not bool(torch.isfinite(tensor.detach()).all()):
        raise ValueError(f"{name} contains NaN or infinity")
    return tensor


def _positive(name: str, value: Any, like: Tensor) -> Tensor:
    tensor = _floating(name, value, like)
    if not bool(((tensor.detach() > 0) & torch.isfinite(tensor.detach())).all()):
        raise ValueError(f"{name} must be positive and finite, got {tensor.tolist()}")
    return tensor


def _like(original: Any, result: Tensor) -> Any:
    return result if isinstance(original, Tensor) else result.numpy()
