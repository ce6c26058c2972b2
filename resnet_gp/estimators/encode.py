"""Nominal features as indicators of their categories, beside the features as they are."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import check_array
from torch import Tensor

from resnet_gp.fitting.standardise import Standardiser

Array = NDArray[np.float64]

# A column of so few different numbers may be a code of categories rather than a quantity.
_FEWEST, _MOST = 3, 12


class PlainInputs:
    """The features, standardised.

    Attributes:
        blocks: columns of the inputs that together are one view of the features.
    """

    def __init__(self, X: Array) -> None:
        self.scaler = Standardiser.of(X)
        self.blocks = [tuple(range(X.shape[1]))]

    def __call__(self, X: Array) -> Tensor:
        """``n x d``."""
        return self.scaler(X)


class EncodedInputs:
    """Declared nominal features as indicators, the others as they are, all standardised.

    The indicators of one feature are divided by one number, so that together they have the variance
    of one feature; divided each by its own, rare categories would be far from all others. All
    inputs are stretched so that their mean square does not depend on the number of categories.
    A category that is new at prediction is none of those seen: all its indicators are zero.

    Args:
        X: the table to learn from.
        columns: indices of the nominal features.

    Raises:
        ValueError: the other features are not finite numbers, or a nominal one mixes numbers and
            texts.
    """

    def __init__(self, X: Any, columns: list[int]) -> None:
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        self.columns = ColumnTransformer([("nominal", one_hot, columns)], remainder="passthrough")
        try:
            table = self.columns.fit_transform(X)
        except TypeError as error:
            raise ValueError(
                f"a column of categorical_features cannot be sorted: {error}"
            ) from error
        values = check_array(table, dtype=np.float64, input_name="X")
        self.scaler = self._scaler_of(values)
        self.blocks = [tuple(range(values.shape[1]))]

    def __call__(self, X: Any) -> Tensor:
        """``n x d``."""
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


class BothInputs:
    """The features as they are and, beside them, with columns of few values as indicators.

    A kernel sees one of the two blocks.
    """

    def __init__(self, X: Array, columns: list[int]) -> None:
        self.plain, self.encoded = PlainInputs(X), EncodedInputs(X, columns)
        d = X.shape[1]
        [encoded] = self.encoded.blocks
        self.blocks = [*self.plain.blocks, tuple(d + i for i in encoded)]

    def __call__(self, X: Array) -> Tensor:
        """``n x (d + d')``."""
        return torch.cat([self.plain(X), self.encoded(X)], 1)


def columns_of_few_values(X: Array) -> list[int]:
    """Those that may be codes of categories: of 3 to 12 different numbers, each seen twice."""
    chosen = []
    for i, column in enumerate(X.T):
        values = np.unique(column)
        if _FEWEST <= len(values) <= _MOST and 2 * len(values) <= len(column):
            chosen.append(i)
    return chosen


Inputs = PlainInputs | EncodedInputs | BothInputs


def nominal_columns(
    declared: Any, n_features: int, names: NDArray[Any] | None
) -> list[int] | Literal["auto"] | None:
    """Indices of the declared columns; "auto" and None stay.

    Args:
        declared: "auto", None, or indices, names, or a mask of the columns.
        n_features: how many columns there are.
        names: of the columns, if they have any.

    Raises:
        ValueError: there are no such columns.
    """
    if declared is None:
        return None
    if isinstance(declared, str) and declared == "auto":
        return "auto"
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


def make_inputs(X: Any, columns: list[int] | Literal["auto"] | None) -> Inputs:
    """For a table of numbers, or one whose nominal columns are known."""
    if columns is None:
        return PlainInputs(X)
    if columns == "auto":
        columns = columns_of_few_values(X)
        return BothInputs(X, columns) if columns else PlainInputs(X)
    return EncodedInputs(X, columns)
