"""The metric in which training rows are near: how far each input carries under a kernel."""

from __future__ import annotations

import numpy as np
import torch
from gpytorch.kernels import Kernel
from torch import Tensor

_FALL = 0.3  # of the correlation, at a distance of one width
_POINTS = 64
_STEPS = 2.0 ** np.arange(-7, 7.5, 0.5)


def metric_rows(n: int) -> Tensor:
    """Numbers of the rows, 64 of n, from which the metric is known."""
    if n <= _POINTS:
        return torch.arange(n)
    return torch.from_numpy(np.random.RandomState(0).permutation(n)[:_POINTS])


@torch.no_grad()
def correlation_widths(kernel: Kernel, x: Tensor) -> Tensor:
    """Distances along each input over which correlations fall by 0.3, ``d``.

    They are those at ``metric_rows`` of the points, on average, between 2^-7 and 2^7; an input
    along which correlations fall less has a width that is longer in proportion. For a kernel with
    one lengthscale per input they are proportional to the lengthscales, for a sum of kernels in
    between.

    Args:
        kernel: any kernel.
        x: ``n x d``.
    """
    d = x.shape[1]
    points = x[metric_rows(len(x)).to(x.device)]
    steps = torch.as_tensor(_STEPS).to(x)
    directions = torch.eye(d, dtype=x.dtype, device=x.device)
    moved = points[:, None, None] + steps[:, None, None] * directions
    start = points[:, None, None].expand_as(moved).reshape(-1, d)
    moved = moved.reshape(-1, d)
    cross = kernel(start, moved, diag=True)
    variances = kernel(start, diag=True) * kernel(moved, diag=True)
    correlation = torch.where(variances > 0, cross / variances.sqrt(), 0)
    fall = 1 - correlation.reshape(len(points), len(steps), d).mean(0)
    fall = torch.cummax(fall, 0).values.clamp(min=torch.finfo(x.dtype).eps)
    reached = (fall < _FALL).sum(0)  # the first step at which it is
    after = reached.clamp(1, len(steps) - 1)
    low, high = (fall.gather(0, index[None])[0] for index in (after - 1, after))
    share = ((_FALL - low) / (high - low)).nan_to_num(0).clamp(0, 1)
    inside = steps[after - 1] * (steps[after] / steps[after - 1]) ** share
    beyond = steps[-1] * (_FALL / fall[-1]).clamp(1, 1e3)
    return torch.where(reached == len(steps), beyond, inside)
