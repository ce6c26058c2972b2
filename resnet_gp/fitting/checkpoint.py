"""The best hyperparameters of a running fit, kept in a file."""

from __future__ import annotations

import copy
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_gp.fitting.optimiser import Hyperparameters
from resnet_gp.progress import write_atomically

Array = NDArray[np.float64]

_INTERVAL = 5.0  # least seconds between two writes


class Checkpoint:
    """The best hyperparameters so far, in a JSON file from which a later fit continues.

    A fit with several kernels keeps those of each.

    Args:
        path: the file.
        digest: identifies everything that the hyperparameters depend on, see ``fingerprint``.
    """

    def __init__(self, path: str | os.PathLike[str], digest: str) -> None:
        self.path, self.digest = Path(path), digest
        self._kernel, self._written = 0, -np.inf
        self._best: dict[str, dict[str, Any]] = {}  # by the number of the kernel
        self._writing = threading.Lock()  # kernels are searched in threads

    def of_kernel(self, number: int) -> Checkpoint:
        """The part of the same file that belongs to one of several kernels."""
        part = copy.copy(self)  # which shares the best so far, and the lock
        part._kernel, part._written = number, -np.inf
        return part

    def read(self) -> Hyperparameters | None:
        """Raw parameters by name, or None if there is no file yet.

        Raises:
            ValueError: the file is no checkpoint, or belongs to a fit of other data or parameters.
        """
        if not self.path.exists():
            return None
        try:
            stored = json.loads(self.path.read_text())
            digest = stored["digest"]
            best = {str(number): dict(one) for number, one in stored["kernels"].items()}
            own = best.get(str(self._kernel), {"parameters": {}})
            known = {
                name: torch.tensor(value, dtype=torch.float64)
                for name, value in own["parameters"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"checkpoint {self.path} cannot be read: {error}") from error
        if digest != self.digest or not all(value.isfinite().all() for value in known.values()):
            raise ValueError(
                f"checkpoint {self.path} is of a fit of other data or other parameters: remove it, "
                "or name another file"
            )
        self._best.update({number: one for number, one in best.items() if number not in self._best})
        return known or None

    def offer(self, parameters: Hyperparameters, value: float, at_once: bool = False) -> None:
        """Write if the value is the best yet and the last write was some seconds ago."""
        now = time.monotonic()
        before = self._best.get(str(self._kernel), {"value": -np.inf})["value"]
        if value < before or not (at_once or now - self._written > _INTERVAL):
            return
        self._written = now
        stored = {name: one.tolist() for name, one in parameters.items()}
        with self._writing:
            self._best[str(self._kernel)] = {"value": value, "parameters": stored}
            text = json.dumps({"digest": self.digest, "kernels": self._best})
            write_atomically(self.path, text.encode())
