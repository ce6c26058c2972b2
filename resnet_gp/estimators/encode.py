"""Nominal features as indicators of their categories, the others as they are, all standardised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import check_array
from torch import Tensor

from resnet_gp.estimators.standardise import Standardiser

Array = NDArray[np.float64]


class Encoder:
    """From a table with nominal features to inputs of a kernel.

    The indicators of one feature are divided by one number, so that together they have the variance
    of one feature; divided each by its own, rare categories would be far from all others. All
    inputs are stretched so that their mean square does not depend on the number of categories.
    A category that is new at prediction is none of those seen: all its indicators are zero.

    Args:
        categorical_features: indices, names or a mask of columns, anything that
            ``ColumnTransformer`` takes.
    """

    def __init__(self, categorical_features: Any) -> None:
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        self.columns = ColumnTransformer(
            [("nominal", one_hot, categorical_features)], remainder="passthrough"
        )

    def fit(self, X: Any) -> Array:
        """Learn the categories and scales; returns the table as ``n x d`` numbers.

        Raises:
            ValueError: there are no such columns, or the others are not finite numbers.
        """
        try:
            table = self.columns.fit_transform(X)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"categorical_features do not fit X: {error}") from error
        values = check_array(table, dtype=np.float64, input_name="X")
        self._scaler = self._fit_scaler(values)
        return values

    def table(self, X: Any) -> Array:
        """``n x d`` numbers, not standardised."""
        return check_array(self.columns.transform(X), dtype=np.float64, input_name="X")

    def __call__(self, values: Array) -> Tensor:
        return self._scaler(values)

    def _fit_scaler(self, values: Array) -> Standardiser:
        plain = Standardiser.of(values)
        scale = plain.scale.copy()
        categories = getattr(self.columns.named_transformers_["nominal"], "categories_", [])
        start = 0
        for group in categories:
            columns = slice(start, start := start + len(group))
            scale[columns] = np.sqrt(values[:, columns].var(axis=0).sum()) or 1.0
        n_features = values.shape[1] - start + len(categories)
        return Standardiser(plain.mean, scale / np.sqrt(values.shape[1] / n_features))
