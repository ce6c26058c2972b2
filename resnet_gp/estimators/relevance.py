"""How fast a fitted regressor's function varies along each feature, and each column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from resnet_gp.fitting.standardise import Standardiser

Array = NDArray[np.float64]


def relevance_of(estimator: Any) -> Array | None:
    """Standard deviation over lengthscale of each feature, ``n_features``.

    Of two components, the one that varies faster counts, feature by feature.

    Args:
        estimator: a fitted ``ResNetGPRegressor``.

    Returns:
        None where the estimator has no lengthscales of features: it is another one, or its kernel
        is not one of this package.
    """
    if is_classifier(estimator) or not hasattr(estimator, "lengthscale_"):
        return None  # lengthscales of a classifier are those of its views
    deviation = Standardiser.of(estimator.X_train_).scale
    return np.atleast_2d(deviation / estimator.lengthscale_).max(0)


def relevance_of_columns(estimator: Any) -> dict[str, float] | None:
    """The same for the columns of X by name; of several features, the root of the sum of squares.

    The columns of an array are called "x0", "x1" and so on.
    """
    each = relevance_of(estimator)
    if each is None:
        return None
    columns = estimator.columns_
    if columns is None:
        return {f"x{i}": float(value) for i, value in enumerate(each)}
    total = {part.name: 0.0 for part in columns.parts}
    for name, value in zip(columns.origins, each, strict=True):
        total[name] = math.hypot(total[name], value)
    return total
