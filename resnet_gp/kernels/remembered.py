"""The last matrices of a kernel that takes long, for whoever asks again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class LastMatrices:
    """Keeps the matrices of the last calls without a gradient; copies of a kernel share them.

    A search of noise levels, the likelihood at each of them, and predictions at the same inputs
    then cost one matrix.

    Args:
        count: how many are kept, the least recently used being dropped.
    """

    def __init__(self, count: int = 4) -> None:
        self._count = count
        self._known: list[tuple[list[Tensor], bool, Tensor]] = []

    def get(self, inputs: list[Tensor], diag: bool, compute: Callable[[], Tensor]) -> Tensor:
        """``compute()``, or a copy of what it was for equal inputs, which include all it sees."""
        if torch.is_grad_enabled() and any(value.requires_grad for value in inputs):
            return compute()
        for known in self._known:
            if known[1] == diag and all(map(_equal, known[0], inputs)):
                self._known = [known, *(other for other in self._known if other is not known)]
                return known[2].clone()
        matrix = compute()
        kept = [value.detach().clone() for value in inputs], diag, matrix.detach().clone()
        self._known = [kept, *self._known][: self._count]
        return matrix

    def __deepcopy__(self, memo: Any) -> LastMatrices:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return LastMatrices, (self._count,)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
