"""Products with a covariance matrix by blocks of its rows, each of which is dense."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from resnet_gp.flow.unit_points import Gradients, Points

_ENTRIES = {"cpu": 2**22, "cuda": 2**26}
_FEWEST = 64  # rows, over which the preparation of the other side is shared


def product(covariance: Callable[[Points], Tensor], points: Points, right: Tensor) -> Tensor:
    """``Path.product``, by a path's covariance."""
    blocks = [covariance(points.of_rows(rows)) @ right for rows in _blocks(points)]
    return torch.cat(blocks, 1)


def product_gradient(
    gradient: Callable[[Points, Tensor, bool], Gradients],
    points: Points,
    left: Tensor,
    right: Tensor,
    units: bool,
) -> Gradients:
    """``Path.product_gradient``, by a path's gradient."""
    found = [
        gradient(points.of_rows(rows), left[:, rows] @ right.mT, units) for rows in _blocks(points)
    ]
    by_unit1, by_unit2, by_scale1, by_scale2, by_time = zip(*found, strict=True)
    return (
        torch.cat(by_unit1, -2),
        torch.stack(by_unit2).sum(0),
        torch.cat(by_scale1, -1),
        torch.stack(by_scale2).sum(0),
        torch.stack(by_time).sum(0),
    )


def _blocks(points: Points) -> Iterator[slice]:
    """At least one, which may be empty."""
    unit1, unit2, *_ = points.sides()
    n, m = unit1.shape[-2], unit2.shape[-2]
    entries = _ENTRIES.get(unit1.device.type, _ENTRIES["cuda"])
    rows = max(_FEWEST, entries // max(1, len(unit1) * m))
    return (slice(first, first + rows) for first in range(0, max(n, 1), rows))
