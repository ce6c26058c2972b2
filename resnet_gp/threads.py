"""Torch's number of threads, and work shared between threads without the GIL.

LAPACK's threads wait for each other in busy loops. Where other programs keep the cores busy, it
takes ten and more times as long with two threads as with one: then threads that need not wait, one
for each of several matrices, are all that pays.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch

_SERIAL = 2**15  # entries below which threads cost more than they save
#: Ranges for each thread, where none has large sums of its own.
PIECES = 4
_PIECE = 2**19  # entries of a range, if a thread has several
# Rows of a matrix whose factorisation is left to one thread, and at most of one that is timed.
_SERIAL_ROWS, _TIMED_ROWS = 400, 1000
_VALID = 30.0  # seconds, after which the machine may be busier

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's number of threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(rows: int) -> AbstractContextManager[None]:
    """The number of torch's threads that factorises a matrix of this size soonest.

    One for small matrices; for larger ones, all or one, by a comparison that is at most half a
    minute old.
    """
    all_threads = torch.get_num_threads()
    if all_threads > 1 and rows > _SERIAL_ROWS:
        size = 2 ** int(math.log2(min(rows, _TIMED_ROWS)))
        parallel = _threads_pay(size, all_threads, int(time.monotonic() / _VALID))
    else:
        parallel = False
    return torch_threads(all_threads if parallel else 1)


@functools.lru_cache(maxsize=16)
def _threads_pay(rows: int, count: int, now: int) -> bool:
    """Whether so many threads invert a matrix sooner than one."""
    matrix = torch.eye(rows, dtype=torch.float64)

    def seconds(threads: int) -> float:
        with torch_threads(threads):
            start = time.perf_counter()
            torch.cholesky_inverse(torch.linalg.cholesky(matrix))
            return time.perf_counter() - start

    seconds(1), seconds(count)
    return seconds(count) + seconds(count) < seconds(1) + seconds(1)


def each_serially(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function of each item in as many threads as torch uses, each of which computes alone.

    Raises the error of the first call that failed, in their order.
    """
    workers = min(len(items), torch.get_num_threads())
    if workers <= 1:
        return [function(item) for item in items]
    modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def call(item: Item) -> Result:  # torch's modes belong to threads
        with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]):
            return function(item)

    with torch_threads(1), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(call, items))


def row_ranges(
    rows: int, columns: int, symmetric: bool = False, pieces: int = 1
) -> list[tuple[int, int]]:
    """Split rows into ranges of equal work, for all threads; symmetric rows get shorter.

    Args:
        rows: of a matrix.
        columns: of it.
        symmetric: whether only the entries from the diagonal on are computed.
        pieces: ranges for each thread, if the matrix is large enough: a thread that ends early, or
            whose core is not busy with other programs, takes more of them.
    """
    entries = rows * columns
    count = threads = torch.get_num_threads() if entries > _SERIAL else 1
    if threads > 1:
        count *= min(pieces, max(1, entries // (threads * _PIECE)))
    shares = [k / count for k in range(count + 1)]
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


def in_threads(tasks: Sequence[functools.partial[None]]) -> None:
    """Run calls in as many threads as torch uses, this one among them; calls may not do so again.

    A thread that has ended one takes the next, so that threads of a busy machine which begin late
    have less to do, or nothing. Raises the error of a call once all that have begun have ended;
    others may not begin then.
    """
    workers = min(len(tasks), torch.get_num_threads())
    waiting = collections.deque(tasks)

    def work() -> None:
        while True:
            try:
                task = waiting.popleft()
            except IndexError:
                return
            task()

    helpers = [_pool(workers - 1).submit(work) for _ in range(workers - 1)]
    try:
        work()
    finally:
        waiting.clear()
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()
