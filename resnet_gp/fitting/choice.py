"""Which inference a regression can afford."""

from __future__ import annotations

import os
from typing import Literal

import torch

from resnet_gp.fitting.exact import Exact
from resnet_gp.fitting.inference import Inference
from resnet_gp.fitting.sparse import Sparse

InferenceName = Literal["auto", "exact", "sparse"]

# Exact inference, where the user sets no limit: n x n matrices alive at the peak, their share of
# the memory, and the rows that take minutes to factorise.
_MATRICES, _MEMORY_SHARE = 3, 0.5
_EXACT_ROWS = {"cpu": 12_000, "cuda": 30_000}


def choose_inference(
    asked: str,
    n: int,
    sparse: Sparse,
    max_exact_samples: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Inference:
    """The inference of this name; for "auto", exact if memory and patience allow, else sparse.

    Args:
        asked: the estimator's parameter ``inference``.
        n: rows.
        sparse: sparse inference as it is wanted.
        max_exact_samples: the most rows for exact inference; None for a limit from the memory.
        device, dtype: of the matrices.

    Raises:
        ValueError: "exact" is asked for with more rows than the limit.
    """
    limit = max_exact_samples or _exact_limit(device, dtype)
    if asked == "exact" and n > limit:
        needed = _MATRICES * n**2 * dtype.itemsize
        raise ValueError(
            f"exact inference on {n} samples would need about {needed:.3g} bytes "
            f"({needed / 2**30:.1f} GiB) and is refused above {limit}; "
            'set inference="sparse" or raise max_exact_samples'
        )
    if asked == "auto":
        asked = Exact.name if n <= limit else sparse.name
    return {Exact.name: Exact(), sparse.name: sparse}[asked]


def _exact_limit(device: torch.device, dtype: torch.dtype) -> int:
    """The most rows whose matrices take a moderate share of the memory, and minutes."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        memory = 8 * 2**30
    by_memory = int((memory * _MEMORY_SHARE / (_MATRICES * dtype.itemsize)) ** 0.5)
    return min(by_memory, _EXACT_ROWS.get(device.type, by_memory))
