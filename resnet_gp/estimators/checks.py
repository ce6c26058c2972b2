"""Parameters of estimators, checked; every message names the parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def check_choices(estimator: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Parameters that are one of a few words.

    Raises:
        ValueError: one is not.
    """
    for name, allowed in choices.items():
        value = getattr(estimator, name)
        if value not in allowed:
            options = " or ".join(f'"{option}"' for option in allowed)
            raise ValueError(f"{name} must be {options}, got {value!r}")


def check_integers(estimator: Any, least: Mapping[str, int], optional: Sequence[str] = ()) -> None:
    """Parameters that are integers of at least so much; the ``optional`` ones may be None.

    Raises:
        ValueError: one is not.
    """
    for name, bound in least.items():
        value = getattr(estimator, name)
        if value is None and name in optional:
            continue
        if not isinstance(value, Integral) or int(value) < bound:
            raise ValueError(f"{name} must be an integer of at least {bound}, got {value!r}")


def check_alpha(alpha: float | ArrayLike, n: int) -> Array:
    """Known noise variances of ``n`` rows.

    Raises:
        ValueError: of another shape, negative or not finite.
    """
    values = np.asarray(alpha, dtype=np.float64)
    if values.shape not in ((), (n,)):
        raise ValueError(f"alpha must be a number or of shape ({n},), got {values.shape}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("alpha must be finite and not negative")
    return np.broadcast_to(values, (n,))
