"""Progress bars, and files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

# Seconds of work after which a bar appears, if the user did not ask for one.
_PATIENCE = 10.0


def progress_bar(description: str, verbose: bool | None, total: int | None = None) -> Any:
    """A bar on the standard error stream.

    Args:
        description: what runs.
        verbose: True for a bar at once, False for none, None for one on a terminal only, and only
            once the work takes more than ten seconds.
        total: number of steps, if known.
    """
    if verbose is None:
        return tqdm(desc=description, total=total, disable=None, delay=_PATIENCE)
    return tqdm(desc=description, total=total, disable=not verbose)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by a whole new one, or leave it as it was.

    Symbolic links are followed. Pipes and devices are written to and stay.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
