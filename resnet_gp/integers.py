"""Arguments that must be numbers, or integers of some size."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def is_integer(value: Any, least: float = 1) -> bool:
    """Whether a value is an integer, of Python or NumPy, of at least this size; no boolean is."""
    return type(value) is not bool and isinstance(value, Integral) and int(value) >= least


def check_integer(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError that names the argument if it is no such integer."""
    if not is_integer(value, least):
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_number(name: str, value: Any) -> None:
    """Raise a ValueError that names the argument if it is no finite number."""
    if not (isinstance(value, Real) and math.isfinite(value)):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
