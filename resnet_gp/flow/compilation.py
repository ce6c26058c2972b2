"""A line on the terminal when numba takes long to compile the package's loops."""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

from numba.core.event import Listener, register

_PATIENCE = 2.0  # seconds
_MESSAGE = (
    "resnet_gp: compiling its loops for this processor, once and for some seconds "
    "(resnet-gp compile does it beforehand)"
)


class _Notice(Listener):
    """Prints once if the package's functions compile for longer than ``patience`` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience, self._depth, self._printed = patience, 0, False
        self._timer: threading.Timer | None = None

    def on_start(self, event: Any) -> None:
        if self._printed or not _is_ours(event):
            return
        self._depth += 1
        if self._depth == 1:
            self._timer = threading.Timer(self._patience, self._print)
            self._timer.daemon = True
            self._timer.start()

    def on_end(self, event: Any) -> None:
        if self._depth == 0 or not _is_ours(event):
            return
        self._depth -= 1
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()

    def _print(self) -> None:
        self._printed = True
        print(_MESSAGE, file=sys.stderr)


def _is_ours(event: Any) -> bool:
    function = event.data["dispatcher"].py_func
    return str(function.__module__).startswith("resnet_gp.")


@functools.cache
def announce_compilation() -> None:
    """Say on a terminal's standard error when compilation takes more than two seconds."""
    if sys.stderr is not None and sys.stderr.isatty():
        register("numba:compile", _Notice(_PATIENCE))
