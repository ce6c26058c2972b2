"""What happens while numba compiles the package's loops: a line on the terminal, no collections.

And a second process, for two loops that a fit needs one after the other.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import pickle
import subprocess
import sys
import threading
from abc import abstractmethod
from multiprocessing.spawn import get_executable
from typing import Any

from numba import typeof
from numba.core.event import Listener, install_listener, register

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


_one_at_a_time = threading.Lock()
_CODE = """
import sys
_, task, *sys.path[:] = sys.argv
from resnet_gp.flow.compilation import compile_task
compile_task(task)
"""
_LONGEST = 60.0  # seconds that a second process may take

Call = functools.partial[Any]
"""Of a compiled loop."""


def compile_together(first: Call, second: Call) -> None:
    """Compile the loops of two calls, the second one's in a process of its own; calls neither.

    Numba compiles one function at a time in a process. Where its cache holds the first, there is no
    second process, and the second loop is compiled or loaded when it is called.
    """
    beside = _Beside(first, second)
    with _one_at_a_time, install_listener("numba:compile", beside):
        _loop(first).compile(_types(first))
        beside.wait()


class _Beside(Listener):
    """Compiles a second loop, for the cache, from when this process begins to compile the first."""

    def __init__(self, first: Call, second: Call) -> None:
        self._first, self._second = first, second
        self._process: subprocess.Popen[bytes] | None = None

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"] is _loop(self._first) and (os.cpu_count() or 1) > 1:
            self._process = _second_process(self._second)

    def on_end(self, event: Any) -> None:
        pass

    def wait(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(_LONGEST)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _second_process(call: Call) -> subprocess.Popen[bytes] | None:
    """One that compiles the loop of a call; None where there is no interpreter to start."""
    executable = get_executable()
    if not executable or getattr(sys, "frozen", False):  # an application's own file
        return None
    function = _loop(call).py_func
    task = pickle.dumps((function.__module__, function.__name__, _types(call)))
    try:
        return subprocess.Popen(
            [executable, "-c", _CODE, task.hex(), *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # this process will compile it
        return None


def compile_task(task: str) -> None:
    """Compile the loop that ``_second_process`` has described."""
    gc.disable()
    module, name, types = pickle.loads(bytes.fromhex(task))
    getattr(importlib.import_module(module), name).compile(types)


def _loop(call: Call) -> Any:
    return call.func


def _types(call: Call) -> tuple[Any, ...]:
    return tuple(typeof(argument) for argument in call.args)
