"""Gradients of posteriors: the mean from slopes of covariances, and what variance is left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from gpytorch.kernels import Kernel
from torch import Tensor
from torch.nn import Module

from resnet_gp.models.posterior import UnsupportedError

Gradient = tuple[Tensor, Tensor | None]
"""Mean, ``n x d`` or ``n x d x p``, and variances, or None; see ``Posterior.gradient``."""


def in_slices(gradient: Callable[[Tensor], Gradient], x: Tensor, rows: int) -> Gradient:
    """The gradient at points, ``n x d``, of which so many are computed at a time, or one."""
    with torch.inference_mode(False), torch.enable_grad():
        parts = [gradient(part) for part in x.clone().split(max(1, rows))]
    means, variances = zip(*parts, strict=True)
    return torch.cat(means), None if variances[0] is None else torch.cat(variances)


def covariance_slopes(kernel: Kernel, x: Tensor, others: Tensor) -> Tensor:
    """Gradients of k(x_i, others_ij) in x_i, ``n x k x d``, as are the others."""
    n, k, d = others.shape
    left = x.detach().repeat_interleave(k, 0).requires_grad_()
    pairs = kernel(left, others.reshape(n * k, d), diag=True)
    (slope,) = torch.autograd.grad(pairs.sum(), left)
    return slope.reshape(n, k, d)


def slope_variance(kernel: Kernel, x: Tensor, explained: Tensor, mean: Tensor) -> Tensor:
    """Variances of the gradient, in the shape of its mean; raises ``UnsupportedError``.

    Args:
        kernel: the prior covariance.
        x: ``n x d``.
        explained: by the targets, ``n x d``.
        mean: ``n x d`` or ``n x d x p``.
    """
    variance = (_prior_slope_variance(kernel, x) - explained).clamp_(min=0)
    return variance if mean.dim() == 2 else variance[..., None].expand_as(mean)


def _prior_slope_variance(kernel: Kernel, x: Tensor) -> Tensor:
    """d^2 k(a, b) / da_i db_i at a = b = x, ``n x d``; raises ``UnsupportedError``."""
    # A kernel whose inputs are equal may use one of them alone, as GPyTorch's linear kernel does:
    # a last row differs.
    a, b = (torch.cat([x.detach(), x.new_full((1, x.shape[1]), y)]) for y in (0.0, 1.0))
    a.requires_grad_()
    b.requires_grad_()
    try:
        if any(_is_constant(part) for part in kernel.modules()):
            raise RuntimeError("a stationary kernel of GPyTorch is a constant there")
        pairs = kernel(a, b, diag=True)
        (slope,) = torch.autograd.grad(pairs.sum(), a, create_graph=True)
        mixed = [
            torch.autograd.grad(column.sum(), b, retain_graph=True)[0][:-1, i]
            for i, column in enumerate(slope.unbind(-1))
        ]
    except RuntimeError as error:
        raise UnsupportedError(
            f"the kernel gives no second derivatives where its inputs coincide: {error}"
        ) from error
    return torch.stack(mixed, -1)


def _is_constant(module: Module) -> bool:
    """Whether it is one of GPyTorch's stationary kernels, which are constants at a = b."""
    is_leaf = isinstance(module, Kernel) and not list(module.sub_kernels())
    return is_leaf and bool(module.is_stationary)
