"""Sums of what tasks return, by tasks, so that the caller receives one of them."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

from distributed import Client, Future

_FAN_IN = 8


def tree_sum(client: Client, parts: list[Future]) -> Future:
    """The sum of all parts, at most 8 at a time; parts are what ``+`` adds."""
    while len(parts) > 1:
        groups = [parts[first : first + _FAN_IN] for first in range(0, len(parts), _FAN_IN)]
        parts = [client.submit(_sum, group, pure=False) for group in groups]
    return parts[0]


def _sum(parts: list[Any]) -> Any:
    return reduce(add, parts)
