"""Progress bars, and files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

# Seconds of work after which a bar appears, if the user did not ask for one.
_PATIENCE = 10.0

# Folders with an entry for each open descriptor of a process.
_DESCRIPTORS = re.compile("/dev/fd|/proc/[0-9]+(/task/[0-9]+)?/fd")


_asked: ContextVar[bool | None] = ContextVar("asked", default=None)


@contextmanager
def bars(verbose: bool | None) -> Iterator[None]:
    """Within the context, bars that nobody asked for are shown as if ``verbose`` had been said."""
    before = _asked.set(verbose)
    try:
        yield
    finally:
        _asked.reset(before)


def progress_bar(
    description: str,
    verbose: bool | None = None,
    total: int | None = None,
    at_once: bool = False,
) -> Any:
    """A bar on the standard error stream.

    Args:
        description: what runs.
        verbose: True for a bar at once, False for none, None for what ``bars`` says, and else for
            one on a terminal only, and only once the work takes more than ten seconds.
        total: number of steps, if known.
        at_once: the work is known to take that long.
    """
    verbose = _asked.get() if verbose is None else verbose
    if verbose is None:
        return tqdm(desc=description, total=total, disable=None, delay=0 if at_once else _PATIENCE)
    return tqdm(desc=description, total=total, disable=not verbose)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by a whole new one with the same mode, or leave it as it was.

    Symbolic links are followed. Streams are written to, see ``is_stream``.

    Raises:
        OSError: writing failed, or the path is a loop of symbolic links.
    """
    if is_stream(path):
        _write_to_stream(path, data)
        return
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mode = None
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if mode is not None:
                temporary.chmod(mode)  # before the data, which may be private
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether a path leads to a pipe, a device or an open descriptor such as ``/dev/stdout``.

    Streams cannot be replaced. A descriptor is a stream even if it writes to a regular file.
    """
    if not os.path.exists(path):
        return False
    return not os.path.isfile(path) or _descriptor(path) is not None


def _write_to_stream(path: Path, data: bytes) -> None:
    """Write at the position of a descriptor of this process; append to all other streams."""
    entry = _descriptor(path)
    own = Path("/dev/fd"), Path("/proc/self").resolve()
    if entry is not None and any(entry.is_relative_to(folder) for folder in own):
        with open(int(entry.name), "wb", closefd=False) as file:
            file.write(data)
    else:
        with path.open("ab") as file:
            file.write(data)


def _descriptor(path: Path) -> Path | None:
    """The entry of ``/dev/fd`` or ``/proc/PID/fd`` that an existing path leads to, if any."""
    while True:
        folder = path.parent.resolve()
        if path.name.isdecimal() and _DESCRIPTORS.fullmatch(str(folder)):
            return folder / path.name
        if not path.is_symlink():
            return None
        path = folder / path.readlink()
