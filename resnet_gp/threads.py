"""Threads of torch, and rows of matrices shared between threads without the GIL."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

_SERIAL = 2**15  # entries below which threads cost more than they give


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def row_ranges(rows: int, columns: int, symmetric: bool = False) -> list[tuple[int, int]]:
    """One range of rows for each thread, of equal work; symmetric work falls from row to row."""
    threads = torch.get_num_threads() if rows * columns > _SERIAL else 1
    shares = [k / threads for k in range(threads + 1)]
    if symmetric:
        shares = [1 - math.sqrt(1 - share) for share in shares]
    bounds = [round(rows * share) for share in shares]
    return list(itertools.pairwise(bounds))


def in_threads(tasks: list[functools.partial[None]]) -> None:
    """Run calls, as many at the same time as there are threads for torch."""
    workers = min(len(tasks), torch.get_num_threads())
    if workers <= 1:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()
