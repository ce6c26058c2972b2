"""Names, values and rows in messages for people."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_SHOWN = 5


def quoted(names: Iterable[Any], joint: str = ", ") -> str:
    return joint.join(repr(str(name)) for name in names)


def shortened(names: list[Any]) -> str:
    """List the first few names and count the others."""
    return first_of([repr(str(name)) for name in names])


def first_of(texts: list[str]) -> str:
    """Join the first few texts and count the others."""
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def suggest(name: str, columns: Iterable[Any]) -> str:
    """Suggest similar names, or the first ones: the end of a sentence."""
    known = [str(column) for column in columns]
    folded = {column.casefold().strip(): column for column in known}
    close = [folded[match] for match in get_close_matches(name.casefold().strip(), folded)]
    if close:
        return f"; did you mean {quoted(close, ' or ')}?"
    return f"; there are {shortened(known)}"
