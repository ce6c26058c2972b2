"""What happens while numba compiles the package's loops: a line on the terminal, no collections."""

from __future__ import annotations

import functools
import gc
import sys
import threading
from abc import abstractmethod
from typing import Any

from numba.core.event import Listener, register

_PATIENCE = 2.0  # seconds
_MESSAGE = (
    "resnet_gp: compiling its loops for this processor, once and for some seconds "
    "(resnet-gp compile does it beforehand)"
)


class _Compilation(Listener):
    """Is told when the package's functions begin to compile, and when they are done.

    Numba compiles what a function calls within it, and one function at a time.
    """

    def __init__(self) -> None:
        self._depth = 0

    def on_start(self, event: Any) -> None:
        if _is_ours(event):
            self._depth += 1
            if self._depth == 1:
                self.begin()

    def on_end(self, event: Any) -> None:
        if self._depth > 0 and _is_ours(event):
            self._depth -= 1
            if self._depth == 0:
                self.end()

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def end(self) -> None: ...


class _Notice(_Compilation):
    """Prints once if that takes longer than ``patience`` seconds."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience, self._printed = patience, False
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        if not self._printed:
            self._timer = threading.Timer(self._patience, self._print)
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _print(self) -> None:
        self._printed = True
        print(_MESSAGE, file=sys.stderr)


class _NoCollections(_Compilation):
    """Stops Python's cyclic garbage collector meanwhile.

    Numba builds some million objects that live to its end, and up to an eighth of its time went
    into going through them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._collects = False

    def begin(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()

    def end(self) -> None:
        if self._collects:
            gc.enable()


def _is_ours(event: Any) -> bool:
    function = event.data["dispatcher"].py_func
    return str(function.__module__).startswith("resnet_gp.")


@functools.cache
def watch_compilation() -> None:
    """Compile without collections; after two seconds, say so on a terminal's standard error."""
    register("numba:compile", _NoCollections())
    if sys.stderr is not None and sys.stderr.isatty():
        register("numba:compile", _Notice(_PATIENCE))
