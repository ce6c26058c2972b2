"""A function in another process that reports while it runs: both ends of the pipes.

Unlike Python's pools, it does not import the caller's script again.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

_OK, _ERROR, _DONE = "iteration", "error", "done"
_BEGIN = b"--- answers ---\n"  # libraries may print before this when they are imported


class ChainError(RuntimeError):
    """A chain ended early."""


class Worker:
    """A process that runs ``function(*args, report)`` and passes its reports on.

    Args:
        function: any function, also one defined in a script.
        args: arguments that cloudpickle can pickle.
    """

    def __init__(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            from cloudpickle import dumps
        except ImportError as error:
            raise ImportError('n_jobs needs cloudpickle: pip install "resnet-gp[bayes]"') from error
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        path = os.pathsep.join(entry for entry in sys.path if entry)  # pickled functions are there
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict.fromkeys(names, "1") | {"PYTHONPATH": path},
            start_new_session=True,  # only the caller gets Ctrl-C, and ends this process
        )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(dumps((function, args)))
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # the process died; ``reports`` raises the error

    def reports(self) -> Iterator[Any]:
        """Yield the reports of the function until it returns.

        Raises:
            ChainError: the function raised an error, or the process died or was stopped.
        """
        stream = self._process.stdout
        assert stream is not None
        while stream.readline() not in (_BEGIN, b""):
            pass
        while True:
            try:
                kind, content = pickle.load(stream)
            except (EOFError, pickle.UnpicklingError, ValueError, OSError) as error:
                raise ChainError(
                    f"its process died with exit code {self._process.wait()}"
                ) from error
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise ChainError(content)
            yield content

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def main() -> None:
    """Read the work from standard input, do it, and write the answers."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the model may print
    answers.write(_BEGIN)
    try:
        function, args = pickle.loads(sys.stdin.buffer.read())
        function(*args, lambda content: _send(answers, _OK, content))
    except BaseException as error:
        _send(answers, _ERROR, f"{type(error).__name__}: {error}")
    else:
        _send(answers, _DONE, None)
    # The caller stops this process now. Libraries that write files when Python ends
    # would be stopped half-way.
    os._exit(0)


def _send(stream: BinaryIO, kind: str, content: Any) -> None:
    stream.write(pickle.dumps((kind, content)))
    stream.flush()


if __name__ == "__main__":
    main()
