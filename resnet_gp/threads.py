"""Torch's number of threads, and rows of matrices shared between threads without the GIL."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import torch

_SERIAL = 2**15  # entries below which threads cost more than they save


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's number of threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def row_ranges(rows: int, columns: int, symmetric: bool = False) -> list[tuple[int, int]]:
    """Split rows into ranges of equal work, one per thread; symmetric rows get shorter."""
    threads = torch.get_num_threads() if rows * columns > _SERIAL else 1
    shares = [k / threads for k in range(threads + 1)]
    if symmetric:
        shares = [1 - math.sqrt(1 - share) for share in shares]
    bounds = [round(rows * share) for share in shares]
    return list(itertools.pairwise(bounds))


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that stay: to start them takes as long as a small matrix."""
    return ThreadPoolExecutor(workers, thread_name_prefix="resnet_gp")


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_threads(tasks: list[functools.partial[None]]) -> None:
    """Run calls in as many threads as torch uses, this one among them; calls may not do so again.

    Raises the error of a call once all have ended.
    """
    workers = min(len(tasks), torch.get_num_threads())
    if workers <= 1:
        for task in tasks:
            task()
        return
    pool = _pool(workers - 1)
    futures = [pool.submit(task) for task in tasks[1:]]
    try:
        tasks[0]()
    finally:
        wait(futures)
    for future in futures:
        future.result()
