"""Which inference a regression can afford."""

from __future__ import annotations

import os
from typing import Literal

import torch

Inference = Literal["auto", "exact", "sparse"]
Chosen = Literal["exact", "sparse"]

# Exact inference without a limit of the user's: matrices of n x n numbers alive at the peak, the
# share of the memory that they may take, and the rows that take minutes to factorise.
_MATRICES, _MEMORY_SHARE = 3, 0.5
_EXACT_SAMPLES = {"cpu": 12_000, "cuda": 30_000}


def affordable_inference(
    asked: Inference,
    n: int,
    max_exact_samples: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Chosen:
    """What is asked for; of "auto", the first that memory and patience allow.

    Args:
        asked: the parameter ``inference``.
        n: rows.
        max_exact_samples: the most rows for exact inference; None for a limit that depends on the
            device and its memory.
        device: that holds the matrices.
        dtype: of their entries.

    Raises:
        ValueError: "exact" is asked for, with more rows than that.
    """
    limit = max_exact_samples or _exact_limit(device, dtype)
    if asked == "auto":
        return "exact" if n <= limit else "sparse"
    if asked == "exact" and n > limit:
        needed = _MATRICES * n**2 * dtype.itemsize
        raise ValueError(
            f"exact inference on {n} samples would need about {needed:.3g} bytes "
            f"({needed / 2**30:.1f} GiB) and is refused above {limit}; "
            'set inference="sparse" or raise max_exact_samples'
        )
    return asked


def _exact_limit(device: torch.device, dtype: torch.dtype) -> int:
    """The most rows whose matrices take a moderate share of the memory, and minutes."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        memory = 8 * 2**30
    by_memory = int((memory * _MEMORY_SHARE / (_MATRICES * dtype.itemsize)) ** 0.5)
    return min(by_memory, _EXACT_SAMPLES.get(device.type, by_memory))
