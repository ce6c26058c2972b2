"""How fast a fitted regressor's function varies along each feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.fitting.standardise import Standardiser

Array = NDArray[np.float64]


def relevance_of(estimator: Any) -> Array | None:
    """Inverse lengthscales of the standardised features, ``n_features``.

    Of two components, the one that varies faster counts, feature by feature.

    Args:
        estimator: a fitted ``ResNetGPRegressor``.

    Returns:
        None where the estimator has no lengthscales: it is another one, or its kernel is not one of
        this package.
    """
    if not hasattr(estimator, "lengthscale_"):
        return None
    deviation = Standardiser.of(estimator.X_train_).scale
    return np.atleast_2d(deviation / estimator.lengthscale_).max(0)
