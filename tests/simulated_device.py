"""A simulated CUDA device: finds tensors on the wrong device where there is no GPU.

``FakeTensorMode`` knows the rules of devices, but holds no numbers, and stops wherever a value
decides what happens next: convergence, the cells of a table, neighbours. A ``SimulatedTensor`` says
that it is on "cuda:0" and holds its numbers on the CPU. Every ATen operation on it is executed
there, after a check that CUDA would have accepted its arguments:

- All tensors are on one device. Exceptions, as in PyTorch: a number (a tensor without dimensions)
  on the CPU may take part in pointwise operations that do not write to it; indices may be on the
  CPU where the indexed tensor is not; copies go from anywhere to anywhere.
- Random numbers come from a generator of the same device.
- ``numpy()`` raises, so that compiled loops cannot see the numbers.

``simulated_cuda`` makes ``torch.cuda`` answer as if there were such a device, and simulates tensors
that are made on it, in this thread and in those that start meanwhile. It does not find errors
inside CUDA kernels, and says nothing about speed or the last bits. Its name has an index: only
PyTorch with CUDA knows which device "cuda" alone is.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)
_MEMORY = 16 * 2**30

# For PyTorch's own C++ code, whose guards know no CUDA in a build without it, simulated tensors are
# on the device "meta", as those of FakeTensorMode are.
_SIMULATED = ("cuda", "meta")

_aten = torch.ops.aten
_COPIES = {_aten._to_copy, _aten.copy_, _aten.copy}
_INDEXING = {
    _aten.index, _aten._unsafe_index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_
}  # fmt: skip


class DeviceError(RuntimeError):
    """What CUDA would have refused."""


class SimulatedTensor(Tensor):
    """A tensor on ``DEVICE`` by its own account; its numbers are ``held`` on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> SimulatedTensor:
        new = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
        )
        new.held = held
        return new

    device = DEVICE  # type: ignore[assignment]
    is_cuda = True  # type: ignore[assignment]
    is_cpu = is_meta = False  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    def numpy(self, *, force: bool = False) -> NoReturn:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy: use Tensor.cpu()")

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        self.numpy()

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, value: SimulatedTensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_with_tensors(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_with_tensors(index), value)

    def new_tensor(self, data: Any, **options: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, **{"dtype": self.dtype, "device": DEVICE} | options)

    def tolist(self) -> Any:
        return self.held.tolist()

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        return self.to("cpu")

    def __repr__(self, **_: Any) -> str:
        return f"SimulatedTensor({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _execute(func, args, kwargs or {})


def _with_tensors(index: Any) -> Any:
    """An index whose lists are tensors; PyTorch would make them where it believes the tensor is."""

    def made(part: Any) -> Any:
        is_list = isinstance(part, (list, tuple, np.ndarray))
        return torch.tensor(part, device=DEVICE) if is_list else part

    return tuple(map(made, index)) if isinstance(index, tuple) else made(index)


class _Mode(TorchDispatchMode):
    """Executes what makes simulated tensors of others, or of none."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch would import its compiler for it, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _execute(func, args, kwargs or {})


_AnyGenerator = torch.Generator
_simulated_generators: dict[int, torch.Generator] = {}  # by address, all that operations tell


class _Generator(torch.Generator):
    """Stands for ``torch.Generator``; remembers those that are on ``DEVICE``."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        new: _Generator = super().__new__(cls, "cpu")
        if torch.device(device).type in _SIMULATED:
            _simulated_generators[new._cdata] = new
        return new


class _Rules(NamedTuple):
    """What an operation's schema says.

    Attributes:
        copies: whether tensors may be on several devices.
        indexes: whether the second argument may be on the CPU.
        pointwise: whether numbers on the CPU may take part.
        written: the positions and names of arguments that are written to.
    """

    copies: bool
    indexes: bool
    pointwise: bool
    written: tuple[tuple[int, str], ...]


@functools.cache
def _rules(func: Any) -> _Rules:
    packet, arguments = func.overloadpacket, enumerate(func._schema.arguments)
    written = ((i, x.name) for i, x in arguments if x.alias_info and x.alias_info.is_write)
    pointwise = torch.Tag.pointwise in func.tags
    return _Rules(packet in _COPIES, packet in _INDEXING, pointwise, tuple(written))


def _execute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    leaves = list(_leaves((*args, *kwargs.values())))
    simulated = any(isinstance(leaf, SimulatedTensor) for leaf in leaves)
    target = kwargs.get("device")
    here = simulated if target is None else torch.device(target).type in _SIMULATED
    for leaf in leaves:
        if isinstance(leaf, _AnyGenerator) and (leaf._cdata in _simulated_generators) != here:
            raise DeviceError(f"{func}: numbers and their generator are on different devices")
    if not simulated and not here:
        return func(*args, **kwargs)
    rules = _rules(func)
    written = [args[i] if i < len(args) else kwargs.get(name) for i, name in rules.written]
    if simulated:
        _check_tensors(func, rules, args, leaves, written)
    own = {name: _held(value) for name, value in kwargs.items()}
    if target is not None:
        own["device"] = torch.device("cpu")
    out = func(*map(_held, args), **own)
    if written:
        return written[0] if isinstance(out, Tensor) else None if out is None else tuple(written)
    return _simulated(out) if here else out


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _leaves(value)
        else:
            yield value


def _held(value: Any) -> Any:
    if isinstance(value, SimulatedTensor):
        return value.held
    return type(value)(map(_held, value)) if isinstance(value, (list, tuple)) else value


def _simulated(value: Any) -> Any:
    if isinstance(value, Tensor):
        return SimulatedTensor(value)
    return type(value)(map(_simulated, value)) if isinstance(value, (list, tuple)) else value


def _check_tensors(
    func: Any, rules: _Rules, args: tuple[Any, ...], leaves: list[Any], written: list[Any]
) -> None:
    """Raise where simulated tensors meet others."""
    others = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, SimulatedTensor)]
    assert not any(x.is_meta for x in others), f"{func}: a tensor that the simulation did not see"
    if rules.copies or not others:
        return
    if rules.indexes:
        if not isinstance(args[0], SimulatedTensor):
            raise DeviceError(f"{func}: indices on {DEVICE} into a tensor on the CPU")
        others = [x for x in others if any(x is own for own in args[2:3]) and x.dim()]
    for x in others:
        if x.dim() or not (rules.pointwise or rules.indexes) or any(x is one for one in written):
            raise DeviceError(
                f"{func}: expected all tensors to be on the same device, found {DEVICE} and one of "
                f"shape {tuple(x.shape)} on {x.device}"
            )


@contextlib.contextmanager
def _in_this_thread() -> Iterator[None]:
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor copies where modes see it
    try:
        with _Mode():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


@contextlib.contextmanager
def simulated_cuda() -> Iterator[torch.device]:
    """Simulate ``DEVICE`` within the context; yields it."""
    run = threading.Thread.run

    def run_in_mode(thread: threading.Thread) -> None:
        with _in_this_thread():
            run(thread)

    properties = SimpleNamespace(name="simulated", total_memory=_MEMORY)
    answers = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "synchronize": lambda device=None: None,
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: properties.name,
        "get_device_capability": lambda device=None: (0, 0),  # no kernels of our own run on it
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **answers))
        stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        stack.enter_context(mock.patch.object(threading.Thread, "run", run_in_mode))
        stack.enter_context(_in_this_thread())
        stack.callback(_simulated_generators.clear)
        yield DEVICE
