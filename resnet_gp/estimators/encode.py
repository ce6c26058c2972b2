"""The inputs of a classifier's kernels: standardised features, nominal ones as indicators."""

from __future__ import annotations

import sys
import warnings
from itertools import pairwise
from numbers import Number
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import check_array
from torch import Tensor

from resnet_gp.fitting.standardise import Standardiser, is_constant

Array = NDArray[np.float64]

# With this many different numbers a column may hold codes of categories rather than a quantity.
_FEWEST, _MOST = 3, 12


class Encoded:
    """A view of tables: nominal features as indicators, all others as numbers, standardised.

    The indicators of one feature share one scale, so that together they have the variance of one
    feature; with a scale each, rare categories would be far from all others. All inputs are
    stretched so that their mean square does not depend on the number of categories. A category
    that is new at prediction has no indicator: all are zero.

    Args:
        X: the training table.
        columns: indices of the nominal features.
        names: of all columns, if they have any.

    Raises:
        ValueError: another feature is not a finite number, or a nominal one mixes numbers and
            texts.
    """

    def __init__(self, X: Any, columns: list[int], names: NDArray[Any] | None) -> None:
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        self.columns = ColumnTransformer([("nominal", one_hot, columns)], remainder="passthrough")
        self._names = names
        self._kinds = {column: _kinds(X[:, column]) for column in columns}
        try:
            table = self.columns.fit_transform(X)
        except TypeError as error:
            raise ValueError(
                f"a column of categorical_features cannot be sorted: {error}"
            ) from error
        values = check_array(table, dtype=np.float64, input_name="X")
        self.scaler = self._scaler_of(values)

    def __call__(self, X: Any) -> Tensor:
        """``n x d`` inputs. Warns of values of a kind, such as texts, that training had none of."""
        for column, known in self._kinds.items():
            new = _kinds(X[:, column]) - known
            if known and new:
                names = self._names
                name = f"{column} (counted from 0)" if names is None else repr(str(names[column]))
                here, before = " and ".join(sorted(new)), " and ".join(sorted(known))
                warnings.warn(
                    f"column {name} of X holds {here}, and held only {before} in training: "
                    f"the {here} are unknown categories; convert the column",
                    UserWarning,
                    stacklevel=5,  # the caller of predict_proba
                )
        values = check_array(self.columns.transform(X), dtype=np.float64, input_name="X")
        return self.scaler(values)

    def _scaler_of(self, values: Array) -> Standardiser:
        plain = Standardiser.of(values)
        scale = plain.scale.copy()
        categories = getattr(self.columns.named_transformers_["nominal"], "categories_", [])
        start = 0
        for group in categories:
            columns = slice(start, start := start + len(group))
            scale[columns] = np.sqrt(values[:, columns].var(axis=0).sum()) or 1.0
        n_features = values.shape[1] - start + len(categories)
        return Standardiser(plain.mean, scale / np.sqrt(values.shape[1] / n_features))


class Inputs:
    """The inputs of kernels: one or two views of a table, side by side; each kernel sees one.

    Args:
        X: the training table; numbers only, unless ``declared`` names columns.
        declared: the estimator's parameter ``categorical_features``.
        names: of the columns, if they have any.

    Attributes:
        blocks: columns of each view.

    Raises:
        ValueError: there is no such column, or its values are refused, see ``Encoded``.
    """

    def __init__(self, X: Any, declared: Any, names: NDArray[Any] | None) -> None:
        self._views: list[Standardiser | Encoded]
        if declares_columns(declared):
            self._views = [Encoded(X, nominal_columns(declared, X.shape[1], names), names)]
        else:
            self._views = [Standardiser.of(X)]
            columns = [] if declared is None else columns_of_few_values(X)
            if columns:
                self._views.append(Encoded(X, columns, names))
        scalers = [view.scaler if isinstance(view, Encoded) else view for view in self._views]
        ends = np.cumsum([0, *(len(scaler.mean) for scaler in scalers)]).tolist()
        self.blocks = [tuple(range(start, end)) for start, end in pairwise(ends)]

    def __call__(self, X: Any) -> Tensor:
        """``n x d`` inputs, for the columns of all blocks."""
        first, *more = self._views
        return torch.cat([first(X), *(view(X) for view in more)], 1) if more else first(X)


def declares_columns(declared: Any) -> bool:
    """Whether columns are named, in place of "auto" or None."""
    return not (declared is None or (isinstance(declared, str) and declared == "auto"))


def columns_of_few_values(X: Array) -> list[int]:
    """Indices of columns with 3 to 12 different numbers and at least two rows for each."""
    chosen = []
    for i, column in enumerate(X.T):
        values = np.unique(column)
        few = _FEWEST <= len(values) <= _MOST and 2 * len(values) <= len(column)
        if few and not is_constant(values[0], values[-1]):
            chosen.append(i)
    return chosen


def object_table(X: Any) -> NDArray[Any]:
    """An ``n x d`` array of numbers and texts, with None for every missing value.

    Raises:
        ValueError: X has another number of dimensions.
    """
    table = np.array(X, dtype=object)
    if table.ndim != 2:
        raise ValueError(f"X must be n x d, got shape {table.shape}")
    pandas = sys.modules.get("pandas")  # without which there is no pandas.NA
    missing = table != table if pandas is None else pandas.isna(table)
    table[np.asarray(missing, dtype=bool)] = None
    return table


def _kinds(column: NDArray[Any]) -> set[str]:
    """Kinds of the values that are not missing. Values of two kinds are never equal."""
    if column.dtype != object:
        return {"numbers"}
    return {_kind(one) for one in {type(value) for value in column if value is not None}}


def _kind(type_: type) -> str:
    kinds: dict[str, Any] = {"texts": str, "bytes": bytes, "numbers": (Number, np.bool_)}
    names = (name for name, known in kinds.items() if issubclass(type_, known))
    return next(names, "values of other types")


def nominal_columns(declared: Any, n_features: int, names: NDArray[Any] | None) -> list[int]:
    """Indices of columns that are given as indices, names, or a mask.

    Raises:
        ValueError: there is no such column.
    """
    entries = np.asarray(declared)
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
        elif isinstance(entry, int) and -n_features <= entry < n_features:
            columns.append(entry % n_features)
        else:
            raise ValueError(f"categorical_features: there is no column {entry!r} in X")
    return columns
