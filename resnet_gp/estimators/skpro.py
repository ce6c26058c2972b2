"""skpro's interface: regressors whose predictions are distributions. Needs the extra ``skpro``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from resnet_gp.estimators.laws import law_of
from resnet_gp.estimators.regressor import ResNetGPRegressor
from resnet_gp.predictive.law import Law

try:
    import pandas as pd
    from skpro.distributions.base import BaseDistribution
    from skpro.regression.base import BaseProbaRegressor
    from skpro.utils.sklearn import prep_skl_df
except ImportError as error:
    raise ImportError(f'{error}: pip install "resnet-gp[skpro]"') from error

Array = NDArray[np.float64]


class LawDistribution(BaseDistribution):
    """A ``Law`` as a skpro distribution; all its methods are those of the law.

    Parameters
    ----------
    law : Law
        Of shape (), (n_rows,) for one column, or (n_rows, n_columns).
    index, columns : pandas.Index, default=None
        Labels of rows and columns; None for numbers from 0.

    Examples
    --------
    >>> from resnet_gp.estimators.skpro import LawDistribution
    >>> from resnet_gp.predictive import Law
    >>> found = LawDistribution(Law.normal([[0.0], [1.0]], 2.0), columns=["y"])
    >>> float(found.cdf([[0.0], [1.0]]).iloc[0, 0])
    0.5
    """

    _tags = {  # noqa: RUF012
        "capabilities:approx": ["pdfnorm"],
        "capabilities:exact": ["mean", "var", "energy", "pdf", "log_pdf", "cdf", "ppf"],
        "distr:measuretype": "continuous",
        "distr:paramtype": "general",
    }

    def __init__(self, law: Law, index: Any = None, columns: Any = None) -> None:
        self.law = law
        if law.shape:
            rows, columns_count = law.shape if len(law.shape) == 2 else (law.shape[0], 1)
            index = pd.RangeIndex(rows) if index is None else index
            columns = pd.RangeIndex(columns_count) if columns is None else columns
        super().__init__(index=index, columns=columns)

    def _iloc(self, rowidx: Any = None, colidx: Any = None) -> LawDistribution:
        if np.ndim(rowidx) == np.ndim(colidx) == 0 and None not in (rowidx, colidx):
            return self._iat(rowidx, colidx)
        rows, columns = (
            slice(None) if part is None else np.atleast_1d(np.asarray(part))
            for part in (rowidx, colidx)
        )
        law = self._table[rows][:, columns]
        return LawDistribution(law, self.index[rows], self.columns[columns])

    def _iat(self, rowidx: Any = None, colidx: Any = None) -> LawDistribution:
        if rowidx is None or colidx is None:
            raise ValueError("iat needs a row and a column")
        return LawDistribution(self._table[rowidx, colidx])

    @property
    def _table(self) -> Law:
        """The law with rows and columns."""
        return self.law[:, None] if len(self.law.shape) == 1 else self.law

    def _mean(self) -> Array:
        return self._table.mean

    def _var(self) -> Array:
        return self._table.variance

    def _pdf(self, x: Array) -> Array:
        return np.exp(self._log_pdf(x))

    def _log_pdf(self, x: Array) -> Array:
        return self._table.log_density(x)

    def _cdf(self, x: Array) -> Array:
        return self._table.cdf(x)

    def _ppf(self, p: Array) -> Array:
        return self._table.inverse_cdf(p)

    def _energy_self(self) -> Array:
        return _by_row(self._table.mean_difference)

    def _energy_x(self, x: Array) -> Array:
        return _by_row(self._table.mean_distance(x))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters for skpro's tests."""
        means = np.arange(12.0).reshape(2, 3, 2)
        mixture = Law(means, 1 + means / 4, np.array([0.25, 0.75]), 5.0)
        labels = {"index": pd.Index([1, 2, 5]), "columns": pd.Index(["a", "b"])}
        return [
            {"law": mixture},
            {"law": Law.normal(means[0], 2.0), **labels},
            {"law": mixture[0, 0]},
        ]


class ProbaRegressor(BaseProbaRegressor):
    """A regressor whose ``predict_proba`` returns its predictive law as a skpro distribution.

    Intervals, quantiles, variances and CRPS of skpro are those of the law.

    Parameters
    ----------
    estimator : regressor, default=None
        ``ResNetGPRegressor()`` if None. Another regressor needs ``predict_law``, or
        ``predict(X, return_std=True)`` for normal laws.

    Attributes
    ----------
    estimator_ : regressor
        The fitted clone.

    Examples
    --------
    >>> from resnet_gp.estimators.skpro import ProbaRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> law = ProbaRegressor().fit(X[:100], y[:100]).predict_proba(X[100:])
    >>> law.shape
    (342, 1)
    """

    _tags = {  # noqa: RUF012
        "capability:multioutput": True,
        "capability:missing": False,
    }

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator
        super().__init__()
        takes_rows = estimator is None or hasattr(estimator, "add_observations")
        self.set_tags(**{"capability:update": takes_rows})

    def _fit(self, X: Any, y: Any) -> ProbaRegressor:
        model = ResNetGPRegressor() if self.estimator is None else clone(self.estimator)
        self.estimator_ = model.fit(prep_skl_df(X, copy_df=True), _targets(y))
        return self

    def _update(self, X: Any, y: Any) -> ProbaRegressor:
        """Condition on further rows, at the hyperparameters of the fit."""
        self.estimator_.add_observations(prep_skl_df(X, copy_df=True), _targets(y))
        return self

    def _predict_proba(self, X: Any) -> LawDistribution:
        law = law_of(self.estimator_, prep_skl_df(X, copy_df=True))
        return LawDistribution(law, X.index, self._get_columns(method="predict"))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters for skpro's tests."""
        quick: dict[str, Any] = {"n_components": 1, "hyperparameters": "map"}
        return [{"estimator": ResNetGPRegressor(max_iter=n, **quick)} for n in (1, 2)]


def _targets(y: Any) -> Array:
    """Targets as scikit-learn takes them: one column is a vector."""
    values = np.asarray(y, dtype=np.float64)
    return values[:, 0] if values.shape[1] == 1 else values


def _by_row(values: Array) -> Array:
    """Sums over columns: skpro's energies are those of rows."""
    return values.sum(1) if values.ndim else values
