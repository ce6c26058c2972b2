"""The columns of a table, one by one, as numbers or as the objects that they hold."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Objects = NDArray[np.object_]

_NUMBERS = "biuf"  # kinds of dtypes
_KINDS: dict[str, Any] = {"texts": str, "bytes": bytes, "numbers": (Real, np.bool_, Decimal)}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: for messages.
        data: a pandas series, or an array of numbers or objects.
    """

    name: str
    data: Any

    @property
    def has_numbers(self) -> bool:
        """Whether the dtype is one of numbers or booleans."""
        return getattr(self.data.dtype, "kind", "O") in _NUMBERS

    @property
    def has_categories(self) -> bool:
        """Whether the dtype is pandas' for categories."""
        return str(self.data.dtype) == "category"

    @property
    def is_plain(self) -> bool:
        """Whether the dtype is one of numbers or booleans, and none is missing."""
        return self.has_numbers and not self.missing.any()

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Whether each value is missing, ``n``."""
        if self.has_numbers and isinstance(self.data, np.ndarray):
            return np.asarray(self.data != self.data)
        pandas = sys.modules.get("pandas")  # without which there is no pandas.NA
        if pandas is None:
            return np.array([value is None or value != value for value in self.data])
        return np.asarray(pandas.isna(self.data), dtype=bool)

    def objects(self) -> Objects:
        """The values as they are, with None for every missing one, ``n``."""
        values = np.array(self.data, dtype=object)
        values[self.missing] = None
        return values

    def numbers(self) -> Array:
        """The values as numbers, NaN where one is missing, ``n``.

        Raises:
            ValueError: a value is not a number, or is infinite.
        """
        if self.has_numbers and isinstance(self.data, np.ndarray):
            values = self.data.astype(np.float64)
        elif self.has_numbers:
            values = np.asarray(self.data.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            values = np.array([self._number(*one) for one in enumerate(self.objects())], np.float64)
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise ValueError(
                f"column {self.name!r} of X is infinite in row {infinite[0]} (counted from 0)"
            )
        return values

    def _number(self, row: int, value: Any) -> float:
        if value is None:
            return np.nan
        if kind_of(type(value)) != "numbers":
            raise ValueError(
                f"column {self.name!r} of X holds {value!r} in row {row} (counted from 0), "
                "not a number"
            )
        try:
            return float(value)
        except OverflowError:  # of an integer
            return np.inf


def kinds_of(values: Objects) -> set[str]:
    """Kinds of the values that are not missing. Values of two kinds are never equal."""
    return {kind_of(one) for one in {type(value) for value in values if value is not None}}


def kind_of(type_: type) -> str:
    """ "texts", "bytes", "numbers" (booleans included) or "values of other types"."""
    names = (name for name, known in _KINDS.items() if issubclass(type_, known))
    is_time = issubclass(type_, np.timedelta64)  # an integer to numpy
    return "values of other types" if is_time else next(names, "values of other types")


def is_frame(X: Any) -> bool:
    """Whether X is a data frame of pandas."""
    return hasattr(X, "iloc") and hasattr(X, "dtypes") and hasattr(X, "columns")


def columns_of(X: Any) -> list[Column]:
    """The columns of a data frame by name, or of an ``n x d`` array named "x0", "x1", ...

    Raises:
        ValueError: X has another number of dimensions.
    """
    if is_frame(X):
        return [Column(str(name), X.iloc[:, i]) for i, name in enumerate(X.columns)]
    numbers = isinstance(X, np.ndarray) and X.dtype.kind in _NUMBERS
    table = X if numbers else np.array(X, dtype=object)
    if table.ndim != 2:
        raise ValueError(f"X must be n x d, got shape {table.shape}")
    return [Column(f"x{i}", values) for i, values in enumerate(table.T)]
