"""Checks of the estimators' parameters; every message names the parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from resnet_gp.fitting.standardise import FarInputError
from resnet_gp.integers import check_integer

Array = NDArray[np.float64]


@contextmanager
def last_fit_kept(estimator: Any) -> Iterator[None]:
    """Restore all attributes of the estimator if the body raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


@contextmanager
def naming_far_values(argument: str, names: Sequence[str] = ()) -> Iterator[None]:
    """Give the error about a value far from all others the name of the argument, and of the column.

    Args:
        argument: as users know it.
        names: of its columns, if they have any.
    """
    try:
        yield
    except FarInputError as error:
        raise error.of(argument, names) from None


def check_choices(estimator: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Raise a ValueError if a parameter is not one of its ``choices``."""
    for name, allowed in choices.items():
        value = getattr(estimator, name)
        if value not in allowed:
            options = " or ".join(f'"{option}"' for option in allowed)
            raise ValueError(f"{name} must be {options}, got {value!r}")


def check_truth(name: str, value: Any) -> None:
    """Raise a ValueError unless a parameter is True or False."""
    if type(value) not in (bool, np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_integers(estimator: Any, least: Mapping[str, int], optional: Sequence[str] = ()) -> None:
    """Raise a ValueError if one is no integer or too small; ``optional`` parameters may be None."""
    for name, bound in least.items():
        value = getattr(estimator, name)
        if value is None and name in optional:
            continue
        check_integer(name, value, bound)


def torch_device(device: str) -> torch.device:
    """The torch device of that name, or a ValueError; "auto" is a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not isinstance(device, str | torch.device):
            raise TypeError(f"got {device!r}")
        return torch.zeros(1, device=device).cpu().to(device).device  # "meta" holds no numbers
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(f'device must be "auto" or one that torch can use: {error}') from error


def check_alpha(alpha: float | ArrayLike, n: int) -> Array:
    """Return known noise variances as an array of shape ``n``.

    Raises:
        ValueError: another shape, or negative or non-finite values.
    """
    try:
        values = np.asarray(alpha, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"alpha must be a number or numbers: {error}") from error
    if values.shape not in ((), (n,)):
        raise ValueError(f"alpha must be a number or of shape ({n},), got {values.shape}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("alpha must be finite and not negative")
    return np.broadcast_to(values, (n,))
