"""Saved estimators: one safetensors file whose header holds JSON. Reading it runs no code."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from resnet_gp.columns import Columns
from resnet_gp.fitting.fingerprint import structure_of
from resnet_gp.progress import write_atomically

FORMAT = 6
_PARAMETER = "parameter."
_ATTRIBUTE = "attribute."
_STATE = "state."
# Matrices are read back in their layout: the order of sums, and so their last bit, depends on it.
_TRANSPOSED = "^T"
_PLAIN = (bool, int, float, str, np.generic, type(None))

Anything = TypeVar("Anything", bound="Persistent")


class Persistent:
    """An estimator with ``save`` and ``load``.

    Parameters are saved, and so are the numbers, texts, arrays and encodings of tables among the
    attributes whose names end with "_". Subclasses implement ``_pack()``, which returns the other
    state as tensors, and ``_unpack(tensors)``, which restores it. They call ``_keep_parameters()``
    at the end of a fit.
    """

    #: Parameters by which ``_unpack`` reads the state, and so must stay those of the fit.
    _OF_THE_FIT: ClassVar[tuple[str, ...]] = ()
    #: Parameters that must be those of the file, which ``load`` reads by them.
    _OF_THE_FILE: ClassVar[tuple[str, ...]] = ()
    _kept: dict[str, Any]

    def _keep_parameters(self) -> None:
        self._kept = {name: getattr(self, name) for name in self._OF_THE_FIT}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file, training data included.

        The file is written completely or not at all. It does not contain kernels and activations
        that were given as objects: ``load`` asks for them.

        Parameters
        ----------
        path : path
            An existing file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        ValueError
            A parameter was changed after the fit without which the file could not be read.
        """
        from safetensors.torch import save
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        for name, value in self._kept.items():
            _check_same(name, getattr(self, name), value)
        tensors: dict[str, Tensor] = {}
        for name, tensor in self._pack().items():
            columns = _in_columns(tensor.stride())
            tensors[_STATE + name + _TRANSPOSED * columns] = tensor.mT if columns else tensor
        content: dict[str, Any] = {
            "format": FORMAT,
            "estimator": type(self).__name__,
            "version": version("resnet-gp"),
        }
        parameters = self.get_params(deep=False)  # type: ignore[attr-defined]
        attributes = {k: v for k, v in vars(self).items() if k[-1] == "_" and k[0] != "_"}
        for prefix, values in ((_PARAMETER, parameters), (_ATTRIBUTE, attributes)):
            kept = {name: _encode(value, prefix + name, tensors) for name, value in values.items()}
            content[prefix] = {name: code for name, code in kept.items() if code is not None}
        tensors = _apart(tensors)
        text = json.dumps(content, sort_keys=True)
        metadata = {"content": text, "digest": _digest(text, tensors)}
        write_atomically(Path(path), save(tensors, metadata))

    @classmethod
    def load(cls: type[Anything], path: str | os.PathLike[str], **objects: Any) -> Anything:
        """Read an estimator from a file of ``save``; its predictions are the same to the bit.

        Parameters
        ----------
        path : path
        **objects
            Parameters that replace the saved ones: required for those that were objects
            (``kernel``, ``activation``), optional for others such as ``device`` and ``verbose``.

        Raises
        ------
        FileNotFoundError
        ValueError
            The file is truncated, was changed, holds another estimator, is from a later version, or
            needs objects, or other ones.
        """
        content, tensors = _read(Path(path), cls.__name__)
        parameters = {
            name: _decode(code, _PARAMETER + name, tensors)
            for name, code in content[_PARAMETER].items()
        }
        known = set(inspect.signature(cls).parameters)
        if unknown := sorted(set(parameters) - known):
            raise ValueError(
                f"{path} was saved by a later version of resnet-gp: this one does not know the "
                f"parameters {', '.join(unknown)} of {cls.__name__}"
            )
        missing = [
            name for name, code in content[_PARAMETER].items()
            if code["kind"] == "object" and name not in objects
        ]  # fmt: skip
        if missing:
            raise ValueError(
                f"{path} was saved with objects as parameters, which it does not hold: "
                f"load(path, {', '.join(f'{name}=...' for name in missing)})"
            )
        for name, code in content[_PARAMETER].items():
            if code["kind"] == "object" and code["structure"] != structure_of(objects[name]):
                raise ValueError(
                    f"{name} is not that of the fit: it needs the same class, settings and frozen "
                    "hyperparameters; the values of hyperparameters come from the file"
                )
        for name in objects.keys() & set(cls._OF_THE_FILE):
            if content[_PARAMETER][name]["kind"] != "object":
                _check_same(name, objects[name], parameters[name])
        estimator = cls(**(parameters | objects))
        for name, code in content[_ATTRIBUTE].items():
            setattr(estimator, name, _decode(code, _ATTRIBUTE + name, tensors))
        state = {
            name.removeprefix(_STATE).removesuffix(_TRANSPOSED): (
                tensor.mT if name.endswith(_TRANSPOSED) else tensor
            )
            for name, tensor in tensors.items()
            if name.startswith(_STATE)
        }
        estimator._unpack(state)
        estimator._keep_parameters()
        return estimator

    def _pack(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def _unpack(self, state: dict[str, Tensor]) -> None:
        raise NotImplementedError


def _check_same(name: str, value: Any, fitted: Any) -> None:
    """Raise a ValueError unless a parameter has the value of the fit."""
    one, other = (np.asarray(each, dtype=object) for each in (value, fitted))
    if not np.array_equal(one, other):
        raise ValueError(
            f"{name} must be {fitted!r}, as in the fit, got {value!r}: fit again, or set it back"
        )


def _in_columns(strides: tuple[int, ...]) -> bool:
    """Whether a matrix, or a copy of it that keeps its layout, stores columns one by one."""
    return len(strides) == 2 and abs(strides[0]) < abs(strides[1])


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same on the CPU, each with memory of its own: modules may share a buffer."""
    apart, seen = {}, set()
    for name, tensor in tensors.items():
        own = tensor.contiguous().cpu()
        place = own.untyped_storage().data_ptr()
        apart[name] = own.clone() if place in seen else own
        seen.add(place)
    return apart


def _encode(value: Any, key: str, tensors: dict[str, Tensor]) -> dict[str, Any] | None:
    """Return JSON for one value, and put arrays into ``tensors``; None for other objects."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif hasattr(value, "to_numpy"):  # of pandas
        value = value.to_numpy()
    elif isinstance(value, np.random.RandomState):
        value = None
    if isinstance(value, _PLAIN):
        return {"kind": "plain", "value": _plain(value)}
    if isinstance(value, np.ndarray):
        order = "F" if _in_columns(value.strides) else "C"
        if value.dtype.kind in "fiub":
            known = np.float64 if value.dtype == np.longdouble else value.dtype.newbyteorder("=")
            tensors[key] = torch.from_numpy(value.astype(known, order="C"))
            return {"kind": "array", "dtype": str(value.dtype), "order": order}
        values = value.ravel().tolist() if value.dtype.kind in "OU" else [value]
        strange = next((one for one in values if not isinstance(one, _PLAIN)), None)
        if strange is not None:
            kind = value.dtype if strange is value else type(strange).__name__
            raise ValueError(
                f"a file cannot hold {key.partition('.')[2]}, whose values are of type {kind}: use "
                "numbers or texts"
            )
        code = {"dtype": value.dtype.str, "order": order, "value": value.tolist()}
        return {"kind": "labels", **code}
    if isinstance(value, (list, tuple)) and all(isinstance(entry, _PLAIN) for entry in value):
        return {"kind": type(value).__name__, "value": [_plain(entry) for entry in value]}
    if isinstance(value, Columns):
        return {"kind": "columns", "value": value.to_json()}
    if key.startswith(_PARAMETER):
        return {"kind": "object", "structure": structure_of(value)}
    return None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _decode(code: dict[str, Any], key: str, tensors: dict[str, Tensor]) -> Any:
    kind = code["kind"]
    if kind == "array":
        return tensors[key].numpy().astype(code["dtype"], code["order"], copy=False)
    if kind == "labels":
        if np.dtype(code["dtype"]).kind not in "OU":
            raise ValueError(f"{key} has type {code['dtype']}")
        return np.array(code["value"], code["dtype"], order=code["order"])
    if kind == "columns":
        return Columns.from_json(code["value"])
    if kind == "object":
        return None
    return tuple(code["value"]) if kind == "tuple" else code["value"]


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path, estimator: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the content and the tensors of a file, after checking its format and digest."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # A copy in memory that torch aligned: the last bit of a product depends on that.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is cut off or not a saved estimator: {error}") from error
    try:
        text, digest = metadata["content"], metadata["digest"]
        content = json.loads(text)
        version, kind = content["format"], content["estimator"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a saved estimator: {error!r}") from error
    if version != FORMAT:
        raise ValueError(
            f"{path} has format {version}, written by resnet-gp {content.get('version')}; "
            f"this version reads format {FORMAT}"
        )
    if digest != _digest(text, tensors):
        raise ValueError(f"{path} was changed or damaged after it was saved: digests differ")
    if kind != estimator:
        raise ValueError(f"{path} holds a {kind}: use {kind}.load")
    return content, tensors
