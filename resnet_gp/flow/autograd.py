"""How the flow's functions work under ``torch.func``, in half precision, and with numba."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.autograd import Function

_ANY_ARGUMENTS = inspect.Signature([inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL)])
_HALF = (torch.float16, torch.bfloat16)

P = ParamSpec("P")


class FlowFunction(Function):
    """A function for autograd and for ``torch.func``: ``forward`` is without a context.

    All tensors are saved for the backward pass, the other inputs are ``ctx.settings``.
    """

    def __init_subclass__(cls) -> None:
        # ``apply`` inspects the signature at every call, 0.1 ms for one with names.
        cls.forward.__signature__ = _ANY_ARGUMENTS  # type: ignore[attr-defined]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, Tensor)))
        ctx.settings = [x for x in inputs if not isinstance(x, Tensor)]


class Entrywise(FlowFunction):
    """A function of tensors that broadcast, whose results have the broadcast shape."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        output = cls.apply(*_batch_first(in_dims, inputs))
        return output, (0,) * len(output) if isinstance(output, tuple) else 0


def _batch_first(in_dims: tuple[int | None, ...], inputs: tuple[Any, ...]) -> list[Any]:
    """Move the dimension of vmap to the front, ahead of the dimensions that broadcast."""
    pairs = list(zip(inputs, in_dims, strict=True))
    rank = max(x.dim() - (dim is not None) for x, dim in pairs if isinstance(x, Tensor))

    def moved(x: Tensor, dim: int) -> Tensor:
        x = x.movedim(dim, 0)
        return x.reshape(len(x), *(1,) * (rank + 1 - x.dim()), *x.shape[1:])

    return [x if dim is None else moved(x, dim) for x, dim in pairs]


def widens_half(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Compute in float32 for float16 and bfloat16 tensors; the result has the promoted dtype."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        dtypes = {x.dtype for x in (*args, *kwargs.values()) if isinstance(x, Tensor)}
        if dtypes.isdisjoint(_HALF):
            return function(*args, **kwargs)
        result = function(
            *(_widened(x) for x in args),
            **{name: _widened(x) for name, x in kwargs.items()},
        )
        return result.to(functools.reduce(torch.promote_types, dtypes))

    return wrapper


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


@functools.cache
def _numba_module(name: str) -> ModuleType | None:
    try:
        module = importlib.import_module(f"resnet_gp.{name}")
        importlib.import_module("resnet_gp.flow.compilation").watch_compilation()
    except (ImportError, RuntimeError):  # numba is an extra, and wants a folder for its cache
        return None
    return module


def compiled_loops(name: str, tensor: Tensor) -> ModuleType | None:
    """A module of the package with compiled loops, or None where it cannot be used."""
    return _numba_module(name) if tensor.device.type == "cpu" else None


def same_values(x1: Tensor, x2: Tensor) -> bool:
    """Whether two tensors are one object, or constants on the CPU that are equal to the bit."""
    if x1 is x2:
        return True
    if x1.requires_grad or x2.requires_grad or torch._C._are_functorch_transforms_active():
        return False
    on_cpu = x1.device.type == x2.device.type == "cpu"  # elsewhere it would wait for the device
    return on_cpu and x1.shape == x2.shape and torch.equal(x1, x2)
