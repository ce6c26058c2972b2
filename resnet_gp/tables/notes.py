"""Warnings of estimators, as lines for a terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def warnings_as(lines: list[str]) -> Iterator[None]:
    """Append the warnings for users to ``lines``, each on one line; others are dropped."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    shown = [one for one in caught if issubclass(one.category, UserWarning)]
    lines += [" ".join(str(one.message).split()) for one in shown]
