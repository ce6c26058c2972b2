"""What a long fit shows and keeps while it runs: a progress bar and a checkpoint."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

Array = NDArray[np.float64]

# Seconds of work after which a bar appears, if the user did not ask for one.
_PATIENCE = 10.0
# Least seconds between two checkpoints.
_INTERVAL = 5.0


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


class Checkpoint:
    """The best hyperparameters so far, in a JSON file that a later fit goes on from.

    Args:
        path: the file.
        digest: of everything that the hyperparameters depend on.
    """

    def __init__(self, path: str | os.PathLike[str], digest: str) -> None:
        self.path, self.digest = Path(path), digest
        self._value, self._written = -np.inf, -np.inf

    def read(self) -> Array | None:
        """The raw hyperparameters, or None if there is no file yet.

        Raises:
            ValueError: the file is no checkpoint, or belongs to a fit of other data or parameters.
        """
        if not self.path.exists():
            return None
        try:
            stored = json.loads(self.path.read_text())
            digest, raw = stored["digest"], np.asarray(stored["raw"], dtype=np.float64)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint {self.path} cannot be read: {error}") from error
        if digest != self.digest or raw.ndim != 1 or not np.isfinite(raw).all():
            raise ValueError(
                f"checkpoint {self.path} is of a fit of other data or other parameters: remove it, "
                "or name another file"
            )
        return raw

    def offer(self, raw: Array, value: float, at_once: bool = False) -> None:
        """Write if the value is the best yet and the last writing was some seconds ago."""
        now = time.monotonic()
        if value < self._value or not (at_once or now - self._written > _INTERVAL):
            return
        self._value, self._written = value, now
        text = json.dumps({"digest": self.digest, "raw": raw.tolist(), "value": value})
        write_atomically(self.path, text.encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by a whole new one, or leave it as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
