"""The metric in which training rows are near: how far each input carries under a kernel."""

from __future__ import annotations

import numpy as np
import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.flow.domain import DomainError
from resnet_gp.models.training_rows import shuffled

_FALL = 0.3  # of the correlation, at a distance of one width
_POINTS = 64
_ENTRIES = 2**21  # of moved points that are alive at a time
_STEPS = 2.0 ** np.arange(-7, 7.5, 0.5)


def metric_rows(n: int) -> Tensor:
    """Numbers of the rows, 64 of n, from which the metric is known."""
    if n <= _POINTS:
        return torch.arange(n)
    return torch.from_numpy(shuffled(n)[:_POINTS])


@torch.no_grad()
def correlation_widths(kernel: Kernel, x: Tensor) -> Tensor:
    """Distances along each input over which correlations fall by 0.3, ``d``.

    They are those at ``metric_rows`` of the points, on average, between 2^-7 and 2^7; an input
    along which correlations fall less has a width that is longer in proportion. For a kernel with
    one lengthscale per input they are proportional to the lengthscales, for a sum of kernels in
    between. No point is moved farther than a kernel of bounded domain allows.

    Args:
        kernel: any kernel.
        x: ``n x d``.

    Raises:
        DomainError: the kernel is not known at points moved by 2^-7.
    """
    points = x[metric_rows(len(x)).to(x.device)]
    variance = kernel(points, diag=True)
    fall = x.new_full((x.shape[1],), torch.finfo(x.dtype).eps)
    widths, left, reached = torch.zeros_like(fall), torch.arange(len(fall), device=x.device), 0.0
    for step in _STEPS.tolist():
        try:
            now = torch.maximum(_fall(kernel, points, variance, step, left), fall[left])
        except DomainError:
            if not reached:
                raise
            break
        below, before = now < _FALL, reached or step
        share = (_FALL - fall[left]) / (now - fall[left])
        widths[left] = before * (step / before) ** share.clamp(max=1)
        fall[left], reached = now, step
        left = left[below]
        if not len(left):
            break
    widths[left] = reached * (_FALL / fall[left]).clamp(1, 1e3)
    return widths


def _fall(kernel: Kernel, points: Tensor, variance: Tensor, step: float, inputs: Tensor) -> Tensor:
    """How much correlations fall over a step along some inputs, on average over points."""
    d = points.shape[1]
    at_a_time = max(1, _ENTRIES // points.numel())
    if len(inputs) > at_a_time:
        parts = inputs.split(at_a_time)
        return torch.cat([_fall(kernel, points, variance, step, part) for part in parts])
    steps = step * torch.eye(d, dtype=points.dtype, device=points.device)[inputs]
    moved = points[:, None] + steps
    start = points[:, None].expand_as(moved).reshape(-1, d)
    moved = moved.reshape(-1, d)
    cross = kernel(start, moved, diag=True)
    variances = variance.repeat_interleave(len(inputs)) * kernel(moved, diag=True)
    correlation = torch.where(variances > 0, cross / variances.sqrt(), 0)
    return 1 - correlation.reshape(len(points), -1).mean(0)
