"""A bar for fits that take long."""

from __future__ import annotations

from tqdm import tqdm

_DELAY = 10.0  # seconds


def progress(total: int, description: str, verbose: bool | None) -> tqdm[None]:
    """A tqdm bar: None shows it on a terminal after 10 s, True at once and anywhere, False never."""
    return tqdm(
        total=total,
        desc=description,
        disable=None if verbose is None else not verbose,
        delay=_DELAY if verbose is None else 0.0,
        leave=bool(verbose),
    )
