"""The best hyperparameters of a running fit, kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray

from resnet_gp.activations import Activation
from resnet_gp.fitting.optimiser import Hyperparameters
from resnet_gp.progress import write_atomically

Array = NDArray[np.float64]

_INTERVAL = 5.0  # least seconds between two writes
_PLAIN = (bool, int, float, str, tuple, type(None))


class Checkpoint:
    """The best hyperparameters so far, in a JSON file from which a later fit continues.

    Args:
        path: the file.
        digest: identifies everything that the hyperparameters depend on, see ``digest_of``.
    """

    def __init__(self, path: str | os.PathLike[str], digest: str) -> None:
        self.path, self.digest = Path(path), digest
        self._value, self._written = -np.inf, -np.inf

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
            known = {
                name: torch.tensor(value, dtype=torch.float64)
                for name, value in stored["parameters"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"checkpoint {self.path} cannot be read: {error}") from error
        if digest != self.digest or not all(value.isfinite().all() for value in known.values()):
            raise ValueError(
                f"checkpoint {self.path} is of a fit of other data or other parameters: remove it, "
                "or name another file"
            )
        return known

    def offer(self, parameters: Hyperparameters, value: float, at_once: bool = False) -> None:
        """Write if the value is the best yet and the last write was some seconds ago."""
        now = time.monotonic()
        if value < self._value or not (at_once or now - self._written > _INTERVAL):
            return
        self._value, self._written = value, now
        stored = {name: one.tolist() for name, one in parameters.items()}
        text = json.dumps({"digest": self.digest, "parameters": stored, "value": value})
        write_atomically(self.path, text.encode())


def digest_of(parameters: Mapping[str, Any], arrays: Iterable[Array | None]) -> str:
    """Identify a fit by its parameters and data, the same in every process.

    Args:
        parameters: by name. Kernels count by their classes, tensors and plain attributes, and
            activations by their values.
        arrays: training data; None and an array of ones differ.
    """
    digest = hashlib.sha256()
    for name, value in sorted(parameters.items()):
        digest.update(f"{name}={_defined_by(value)!r};".encode())
    for array in arrays:
        digest.update(b"none;" if array is None else f"{array.shape};".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _defined_by(value: Any) -> Any:
    """Plain values, without memory addresses, that define a parameter."""
    if isinstance(value, Kernel):
        state = {name: tensor.tolist() for name, tensor in value.state_dict().items()}
        return [_module(name, module) for name, module in value.named_modules()], state
    if isinstance(value, Activation):
        grid = torch.linspace(-8, 8, 257, dtype=torch.float64)
        return value.name, value.function(grid).tolist()
    return value


def _module(name: str, module: torch.nn.Module) -> tuple[str, str, dict[str, Any]]:
    kind = type(module)
    plain = {
        key: _defined_by(value)
        for key, value in sorted(vars(module).items())
        if isinstance(value, (*_PLAIN, Activation)) and key != "training"
    }
    plain["activation"] = _defined_by(getattr(module, "activation", None))
    return name, f"{kind.__module__}.{kind.__qualname__}", plain
