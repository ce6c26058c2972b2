"""What a fit depends on, as short texts: values of parameters, and what defines objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_gp.activations import Activation

Array = NDArray[np.float64]

_DEEPEST = 12  # objects within objects
_DIGITS = 6  # of values that another machine may round differently


def digest_of(parameters: Mapping[str, Any], arrays: Iterable[Array | None]) -> str:
    """Identify a fit by its parameters and data, the same in every process.

    Args:
        parameters: by name. Kernels and other objects count by their classes, tensors and
            attributes, functions by their code, and activations by their values.
        arrays: training data; None and an array of ones differ.
    """
    digest = hashlib.sha256()
    for name, value in sorted(parameters.items()):
        digest.update(f"{name}={_Description(True).of(value)!r};".encode())
    for array in arrays:
        digest.update(b"none;" if array is None else f"{array.shape};".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def structure_of(value: Any) -> str:
    """Identify an object but for what a file holds of it, the same on every machine.

    Kernels count by their classes and settings, and by the names, shapes and ``requires_grad`` of
    their parameters; functions by their names; activations by their values.
    """
    return hashlib.sha256(repr(_Description(False).of(value)).encode()).hexdigest()


class _Description:
    """Plain values, without memory addresses, that define an object.

    Args:
        exact: with the values of parameters and buffers, all digits, and the code of functions.
    """

    def __init__(self, exact: bool) -> None:
        self.exact = exact

    def of(self, value: Any, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            return _kind(value)
        if isinstance(value, Activation):
            grid = torch.linspace(-8, 8, 257, dtype=torch.float64)
            return value.name, self._numbers(value.function(grid))
        if isinstance(value, torch.nn.Module):
            return _kind(value), self._parts(value, depth)
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            learned = isinstance(value, torch.Tensor) and value.requires_grad
            known = self.exact or not isinstance(value, torch.nn.Parameter)
            numbers = self._numbers(value) if known else None
            return _kind(value), tuple(value.shape), numbers, learned
        if isinstance(value, Mapping):
            return sorted((repr(key), self.of(one, depth + 1)) for key, one in value.items())
        if isinstance(value, list | tuple):
            return [self.of(one, depth + 1) for one in value]
        if isinstance(value, CodeType):
            return value.co_code, value.co_names, self.of(value.co_consts, depth + 1)
        if isinstance(value, FunctionType) and self.exact:
            closure = [cell.cell_contents for cell in value.__closure__ or ()]
            parts = value.__code__, value.__defaults__, closure
            return [self.of(one, depth + 1) for one in parts]
        if callable(value) and hasattr(value, "__qualname__"):
            return getattr(value, "__module__", None), value.__qualname__
        if hasattr(value, "__dict__"):
            return _kind(value), self.of(vars(value), depth + 1)
        return value

    def _numbers(self, value: Any) -> Any:
        numbers = value.tolist()
        if self.exact or np.asarray(numbers).dtype.kind != "f":
            return numbers
        return [f"{one:.{_DIGITS}g}" for one in np.ravel(numbers)]

    def _parts(self, module: torch.nn.Module, depth: int) -> list[Any]:
        """Parameters, buffers, modules and attributes of a module; no hooks or caches."""
        own = {key: one for key, one in vars(module).items() if key[0] != "_" and key != "training"}
        found = own | dict(module.named_parameters(recurse=False)) | dict(module.named_children())
        if self.exact:
            found |= dict(module.named_buffers(recurse=False))
        found.pop("distance_module", None)  # of GPyTorch, which makes it when it is first used
        return [(key, self.of(one, depth + 1)) for key, one in sorted(found.items())]


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
