"""Memory of tensors that come and go."""

from __future__ import annotations

import ctypes
import functools

# Of glibc's malloc.h: memory at the top of the heap beyond which it goes back to the system, and
# the size from which blocks are mapped anew, 32 MiB at most.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST = 64 * 2**20, 32 * 2**20


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 64 MiB of freed memory for the next tensors of the process.

    By itself it gives memory back beyond twice the largest block that was freed so far, and maps
    larger blocks anew. Several matrices that are freed together go back each time, and each
    evaluation of a likelihood faults their pages in again, which takes longer than its arithmetic
    on them. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, _KEPT)
