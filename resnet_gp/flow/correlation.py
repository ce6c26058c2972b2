"""The correlation flow of single entries, differentiable twice: the reference for all else."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from resnet_gp.flow.autograd import Entrywise, widens_half
from resnet_gp.flow.table import horizon_table, speed_polynomial


@widens_half
def flow(gap: Tensor, horizon: Tensor) -> Tensor:
    """The correlation c_T after time T of the flow dc/dt = F(c) (Hayou & Yang 2023, Theorem 3).

    Args:
        gap: 1 - c_0 in [0, 2], any shape. Near c_0 = 1 the flow depends on digits of the gap that
            c_0 itself has lost to rounding.
        horizon: T = w (1 - alpha)^2, from 0 to ``MAX_HORIZON``; its shape broadcasts with ``gap``.

    Returns:
        c_T in [-1, 1]. Its first and second derivatives are closed forms; the third order raises.
        At ``gap == 0`` the second derivative in the gap, which is infinite, is dropped: in every
        input Hessian it is multiplied by zero.
    """
    return 1 - gap_flow(gap, horizon)


@widens_half
def gap_flow(gap: Tensor, horizon: Tensor) -> Tensor:
    """1 - c_T, accurate to its own rounding however small it is; otherwise as ``flow``."""
    return _GapFlow.apply(gap, horizon)


@widens_half
def contrast(gap: Tensor, horizon: Tensor) -> Tensor:
    """(c_T - c_T(pi)) / (1 - c_T(pi)): 1 for equal directions, 0 for opposite ones.

    Positive definite like c_T: the constant subtracted is part of its expansion in Gegenbauer
    polynomials. Arguments and derivatives are those of ``flow``.
    """
    return 1 - gap_flow(gap, horizon) / gap_flow(torch.full_like(horizon, 2), horizon)


def tau(gap: Tensor) -> Tensor:
    """tan(theta / 4) of the angle with 1 - cos(theta) = gap."""
    root = gap.sqrt()
    return root / ((2 - gap).sqrt_() + math.sqrt(2))


def flow_slopes(gap: Tensor, horizon: Tensor) -> tuple[Tensor, Tensor]:
    """dc_T/dc_0 and dc_T/dT, differentiable once more."""
    return _FlowSlopes.apply(gap, horizon)


def flow_and_slopes(gap: Tensor, horizon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """1 - c_T, dc_T/dc_0 = F(c_T) / F(c_0) and dc_T/dT = F(c_T), without building a graph."""
    phi = speed_polynomial(gap.dtype)
    ratio = horizon_table(horizon, gap.dtype)(gap)
    gap_end = gap * ratio * ratio
    speed_end = phi(2 * tau(gap_end) - 1)
    cube = ratio**3 * speed_end
    return gap_end, cube / phi(2 * tau(gap) - 1), (gap / 2) ** 1.5 * cube


class _GapFlow(Entrywise):
    @staticmethod
    def forward(gap: Tensor, horizon: Tensor) -> Tensor:
        ratio = horizon_table(horizon, gap.dtype)(gap)
        return gap * ratio * ratio

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        gap, horizon = ctx.saved_tensors
        slope, speed = flow_slopes(gap, horizon)
        needs_gap, needs_horizon = ctx.needs_input_grad
        return (
            (grad * slope).sum_to_size(gap.shape) if needs_gap else None,
            (-grad * speed).sum_to_size(horizon.shape) if needs_horizon else None,
        )


class _FlowSlopes(Entrywise):
    """(dc_T/dc_0, dc_T/dT) = (F(c_T)/F(c_0), F(c_T))."""

    @staticmethod
    def forward(gap: Tensor, horizon: Tensor) -> tuple[Tensor, Tensor]:
        _, slope, speed = flow_and_slopes(gap, horizon)
        return slope, speed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gap, horizon = ctx.saved_tensors
        grad_gap, grad_horizon = _FlowCurvature.apply(gap, horizon, *grads)
        return grad_gap.sum_to_size(gap.shape), grad_horizon.sum_to_size(horizon.shape)


class _FlowCurvature(Entrywise):
    """The gradients of the slopes in the gap and the horizon: F'(c) = -theta / (2 pi)."""

    @staticmethod
    def forward(
        gap: Tensor, horizon: Tensor, grad_slope: Tensor, grad_speed: Tensor
    ) -> tuple[Tensor, Tensor]:
        gap_end, slope, speed = flow_and_slopes(gap, horizon)
        angle, angle_end = 4 * torch.atan(tau(gap)), 4 * torch.atan(tau(gap_end))
        decay = -angle_end / (2 * math.pi)
        # At a gap of 0 both angles are 0, and so is the curvature: see flow.
        speed_start = torch.where(gap == 0, 1, speed / slope)
        curvature = slope * (angle - angle_end) / (2 * math.pi * speed_start)
        grad_gap = -(grad_slope * curvature + grad_speed * decay * slope)
        grad_horizon = decay * (grad_slope * slope + grad_speed * speed)
        return grad_gap, grad_horizon

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError("third derivatives of the correlation flow are not implemented")
