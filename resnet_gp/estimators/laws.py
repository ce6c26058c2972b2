"""Predictive laws of any regressor."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from resnet_gp.predictive.law import Law


def law_of(estimator: Any, X: ArrayLike) -> Law:
    """The predictive law of y at each sample.

    Args:
        estimator: fitted; its ``predict_law`` is asked if it has one, or that of the last step of a
            pipeline, else ``predict(X, return_std=True)`` for mean and deviation of normal laws.
        X: ``n x d``.
    """
    if isinstance(estimator, Pipeline) and hasattr(estimator[-1], "predict_law"):
        return law_of(estimator[-1], estimator[:-1].transform(X))
    if hasattr(estimator, "predict_law"):
        law: Law = estimator.predict_law(X)
        return law
    return Law.normal(*estimator.predict(X, return_std=True))
