"""Memory of tensors that come and go."""

from __future__ import annotations

import functools

import torch

_BLOCK = 31 * 2**20  # bytes; the C library keeps no larger ones


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep up to 62 MiB of freed memory for the next tensors.

    glibc gives memory back beyond twice the largest block that was freed so far, and maps larger
    blocks anew. Several matrices that are freed together go back each time, and each evaluation of
    a likelihood faults their pages in again, which takes longer than its arithmetic on them. One
    larger block that is freed, and never touched, raises that limit for the process.
    """
    torch.empty(_BLOCK, dtype=torch.uint8)
