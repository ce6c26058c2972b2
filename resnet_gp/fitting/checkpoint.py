"""The best hyperparameters of a running fit, kept in a file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_gp.progress import write_atomically

Array = NDArray[np.float64]

_INTERVAL = 5.0  # least seconds between two writes


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
