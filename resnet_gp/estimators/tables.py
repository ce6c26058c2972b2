"""What both estimators do with X: arrays stay as they are, data frames become features."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_X_y
from sklearn.utils.validation import check_is_fitted, validate_data

from resnet_gp.columns import Columns
from resnet_gp.columns.values import Column, columns_of, is_frame

Array = NDArray[np.float64]

_MISSING = (
    "Input X contains NaN: in a pandas data frame missing values are encoded; those of an array "
    "need an imputer, such as sklearn.impute.SimpleImputer(add_indicator=True)"
)
_INSIDE = ("resnet_gp.", "sklearn.")


class TableInputs:
    """An estimator whose ``categorical_features`` and data frames decide what its features are.

    Attributes:
        columns_: how the columns of a table become features; None for an array of numbers.
    """

    categorical_features: Any
    columns_: Columns | None = None

    def _learn_features(self, X: ArrayLike, y: ArrayLike, **checks: Any) -> tuple[Array, Any]:
        """Learn how X becomes features, and check both as scikit-learn does.

        Args:
            X: ``n x d``.
            y: of ``n`` rows.
            checks: arguments of scikit-learn's ``check_X_y``.

        Returns:
            ``n x features`` numbers, not X itself, and targets.
        """
        declared, self.columns_ = self.categorical_features, None
        if declared is None or not (is_frame(X) or declares_columns(declared)):
            with _explaining_missing():
                return validate_data(self, X, y, copy=True, **checks)
        validate_data(self, X, skip_check_array=True)
        table, nominal = columns_of(X), []
        if declares_columns(declared):
            names = getattr(self, "feature_names_in_", None)
            nominal = nominal_columns(declared, len(table), names)
        if not is_frame(X):
            _refuse_missing(table, nominal)
        self.columns_ = Columns.learn(table, nominal)
        if is_frame(X) and not nominal and all(column.is_plain for column in table):
            return validate_data(self, X, y, copy=True, **checks)
        features, _ = self.columns_.encode(table)
        if not features.shape[1]:
            raise ValueError("no column of X varies: there is nothing to learn from")
        return check_X_y(features, y, estimator=self, **checks)

    def _features(self, X: ArrayLike) -> Array:
        """The features of new rows, ``n x features``, with warnings about what is new."""
        check_is_fitted(self)
        table = self._table(X)
        if self.columns_ is None or table is None:
            with _explaining_missing():
                return validate_data(self, X, dtype=np.float64, reset=False)
        validate_data(self, X, reset=False, skip_check_array=True)
        features, notes = self.columns_.encode(table)
        for note in notes:
            _warn_caller(note)
        return np.asarray(check_array(features, input_name="X", estimator=self))

    @property
    def _feature_names(self) -> list[str]:
        """Names of the features; none of an array's."""
        columns = self.columns_
        own = getattr(self, "feature_names_in_", ()) if columns is None else columns.feature_names
        return [str(name) for name in own]

    def _table(self, X: Any) -> list[Column] | None:
        """The columns of X; None if it is an array of the features already."""
        columns = self.columns_
        if columns is None:
            return None
        if is_frame(X):
            table = columns_of(X)
            plain = columns.is_identity and all(column.is_plain for column in table)
            return None if plain else table
        if columns.is_identity:
            return None
        table = columns_of(X)
        _refuse_missing(table, columns.nominal)
        return table


def declares_columns(declared: Any) -> bool:
    """Whether columns are named, in place of "auto" or None."""
    return not (declared is None or (isinstance(declared, str) and declared == "auto"))


def nominal_columns(declared: Any, n_features: int, names: NDArray[Any] | None) -> list[int]:
    """Indices of columns that are given as indices, names, or a mask.

    Raises:
        ValueError: there is no such column.
    """
    entries = np.asarray(declared)
    if entries.dtype.kind == "U":  # NumPy makes texts of numbers beside texts
        entries = np.asarray(declared, dtype=object)
    if entries.ndim != 1:
        raise ValueError(f"categorical_features must be a list of columns, got {declared!r}")
    if entries.dtype == bool:
        if len(entries) != n_features:
            raise ValueError(f"categorical_features is a mask of {len(entries)} for {n_features}")
        return np.flatnonzero(entries).tolist()
    known = list(range(n_features)) if names is None else list(names)
    columns = []
    for entry in entries.tolist():
        if isinstance(entry, str) and entry in known:
            columns.append(known.index(entry))
        elif isinstance(entry, Integral) and -n_features <= int(entry) < n_features:
            columns.append(int(entry) % n_features)
        else:
            raise ValueError(f"categorical_features: there is no column {entry!r} in X")
    return columns


def _refuse_missing(table: Sequence[Column], nominal: Sequence[int]) -> None:
    """Raise a ValueError if a column of numbers has missing values."""
    if any(one.missing.any() for i, one in enumerate(table) if i not in nominal):
        raise ValueError(_MISSING)


@contextmanager
def _explaining_missing() -> Iterator[None]:
    """Say what to do about missing values in an array."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith("Input X contains NaN"):
            raise ValueError(_MISSING) from error
        raise


def _warn_caller(message: str) -> None:
    """Warn at the first caller outside of this package and of scikit-learn."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
