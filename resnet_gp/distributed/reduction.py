"""Sums over partitions, added by the workers."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

from distributed import Client, Future

_FAN_IN = 8


def tree_sum(client: Client, parts: list[Future]) -> Future:
    """Add futures of lists of equal length entry by entry, up to eight at a time."""
    while len(parts) > 1:
        groups = [parts[first : first + _FAN_IN] for first in range(0, len(parts), _FAN_IN)]
        parts = [client.submit(_sum, group, pure=False) for group in groups]
    return parts[0]


def _sum(parts: list[list[Any]]) -> list[Any]:
    return [reduce(add, entries) for entries in zip(*parts, strict=True)]
