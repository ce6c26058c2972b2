"""The best hyperparameters of a running fit, kept in a file."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_gp.activations import Activation
from resnet_gp.fitting.optimiser import Hyperparameters
from resnet_gp.progress import write_atomically

Array = NDArray[np.float64]

_INTERVAL = 5.0  # least seconds between two writes
_DEEPEST = 12  # objects within objects


class Checkpoint:
    """The best hyperparameters so far, in a JSON file from which a later fit continues.

    A fit with several kernels keeps those of each.

    Args:
        path: the file.
        digest: identifies everything that the hyperparameters depend on, see ``digest_of``.
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


def digest_of(parameters: Mapping[str, Any], arrays: Iterable[Array | None]) -> str:
    """Identify a fit by its parameters and data, the same in every process.

    Args:
        parameters: by name. Kernels and other objects count by their classes, tensors and
            attributes, functions by their code, and activations by their values.
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


def _defined_by(value: Any, depth: int = 0) -> Any:
    """Plain values, without memory addresses, that define a parameter."""
    if depth > _DEEPEST:
        return _kind(value)
    if isinstance(value, Activation):
        grid = torch.linspace(-8, 8, 257, dtype=torch.float64)
        return value.name, value.function(grid).tolist()
    if isinstance(value, torch.nn.Module):
        return _kind(value), _parts(value, depth)
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        learned = isinstance(value, torch.Tensor) and value.requires_grad
        return _kind(value), tuple(value.shape), value.tolist(), learned
    if isinstance(value, Mapping):
        return sorted((repr(key), _defined_by(one, depth + 1)) for key, one in value.items())
    if isinstance(value, list | tuple):
        return [_defined_by(one, depth + 1) for one in value]
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, _defined_by(value.co_consts, depth + 1)
    if isinstance(value, FunctionType):
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
        return [
            _defined_by(one, depth + 1) for one in (value.__code__, value.__defaults__, closure)
        ]
    if callable(value) and hasattr(value, "__qualname__"):
        return getattr(value, "__module__", None), value.__qualname__
    if hasattr(value, "__dict__"):
        return _kind(value), _defined_by(vars(value), depth + 1)
    return value


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _parts(module: torch.nn.Module, depth: int) -> list[Any]:
    """Parameters, buffers, modules and attributes of a module; no hooks or caches."""
    own = {key: one for key, one in vars(module).items() if key[0] != "_" and key != "training"}
    tensors = dict(module.named_parameters(recurse=False)) | dict(
        module.named_buffers(recurse=False)
    )
    found = own | tensors | dict(module.named_children())
    return [(key, _defined_by(one, depth + 1)) for key, one in sorted(found.items())]
