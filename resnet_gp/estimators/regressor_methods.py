"""Methods of a fitted regressor: predictions in the units of the user."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor

from resnet_gp.estimators.checks import check_alpha, naming_far_values, torch_device
from resnet_gp.estimators.tables import TableInputs
from resnet_gp.fitting.inference import Fitted, Training
from resnet_gp.fitting.optimiser import set_raw, value_and_gradient
from resnet_gp.fitting.units import Units
from resnet_gp.integers import check_integer
from resnet_gp.models.posterior import UnsupportedError, to_array
from resnet_gp.predictive.law import Law
from resnet_gp.progress import bars

Array = NDArray[np.float64]


class RegressorMethods(TableInputs):
    """Methods that need only the posterior and the units of a fit."""

    device: str
    dtype: str
    verbose: bool | None
    _fitted: Fitted
    _units: Units
    X_train_: Array
    y_train_: Array
    theta_: Array
    inference_: str
    log_marginal_likelihood_value_: float

    def predict(
        self,
        X: ArrayLike,
        return_std: bool = False,
        return_cov: bool = False,
        observation_noise: bool = True,
    ) -> Array | tuple[Array, Array]:
        """Posterior predictive mean, and standard deviation or covariance.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)
            With the columns of the fit, in their order. It is predicted in slices, so that memory
            stays bounded unless ``return_cov``.
        return_std : bool, default=False
        return_cov : bool, default=False
        observation_noise : bool, default=True
            Whether deviation and covariance are those of y, noise included, or of the latent f.
            The noise is that of a target of mean ``sample_weight`` and without ``alpha``.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        std : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Only with ``return_std``, in the units of y.
        cov : ndarray of shape (n_samples, n_samples) or (n_samples, n_samples, n_outputs)
            Only with ``return_cov``, in the squared units of y.

        Raises
        ------
        RuntimeError
            Both ``return_std`` and ``return_cov``.

        Warns
        -----
        UserWarning
            A data frame has categories that training had none of, for which all indicators are 0,
            or missing numbers where none were missing, which take the median.
        """
        if return_std and return_cov:
            raise RuntimeError("return_std and return_cov cannot both be True")
        x = self._standardised(X)
        with bars(self.verbose):
            if return_cov:
                mean, covariance = self._fitted.posterior.joint(x, observation_noise)
                return self._units.mean(mean), self._units.covariance(covariance)
            if return_std:
                law = self._units.law(self._fitted.posterior.law(x, observation_noise))
                return law.mean, law.std
            return self._units.mean(self._fitted.posterior.mean(x))

    def predict_law(self, X: ArrayLike, observation_noise: bool = True) -> Law:
        """Posterior predictive law at each sample, in the units of y.

        Its mean, deviation, quantiles and densities are those that the other methods return; it has
        intervals, CRPS, cumulative probabilities and draws besides.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)
        observation_noise : bool, default=True
            As in ``predict``.

        Returns
        -------
        law : resnet_gp.predictive.Law
            Of shape (n_samples,) or (n_samples, n_outputs): one law for each target.
        """
        x = self._standardised(X)
        with bars(self.verbose):
            return self._units.law(self._fitted.posterior.law(x, observation_noise))

    def predict_quantiles(
        self,
        X: ArrayLike,
        quantiles: ArrayLike = (0.05, 0.5, 0.95),
        observation_noise: bool = True,
    ) -> Array:
        """Quantiles of the posterior predictive distribution.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)
        quantiles : array-like of shape (n_quantiles,), default=(0.05, 0.5, 0.95)
            Probabilities between 0 and 1.
        observation_noise : bool, default=True
            As in ``predict``.

        Returns
        -------
        values : ndarray of shape (n_samples, n_quantiles) or (n_samples, n_outputs, n_quantiles)

        Raises
        ------
        ValueError
            ``quantiles`` is no list of numbers between 0 and 1.
        """
        levels = np.asarray(quantiles, dtype=np.float64)
        if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(
                f"quantiles must be a list of numbers between 0 and 1, got {quantiles!r}"
            )
        return self.predict_law(X, observation_noise).quantile(levels)

    def predict_log_density(self, X: ArrayLike, y: ArrayLike) -> Array:
        """Log of the predictive density of targets, noise included, one by one.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        density : ndarray of the shape of y
            In nats, for the units of y.

        Raises
        ------
        ValueError
            ``y`` does not have the shape of the predictions.
        """
        law = self.predict_law(X)
        if np.shape(y) != law.shape:
            raise ValueError(f"y has shape {np.shape(y)}, predictions {law.shape}")
        targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return law.log_density(targets)

    def sample_y(
        self,
        X: ArrayLike,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = 0,
        observation_noise: bool = True,
    ) -> Array:
        """Joint draws from the posterior predictive distribution.

        They are normal, with the mean and the covariance of ``predict(X, return_cov=True)``. For
        the tails of single targets, take ``predict_law(X).sample``.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples_X, n_features_in_)
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=0
        observation_noise : bool, default=True
            Whether the draws are of y, noise included, or of the latent f.

        Returns
        -------
        samples : ndarray of shape (n_samples_X, n_samples) or (n_samples_X, n_outputs, n_samples)

        Raises
        ------
        ValueError
            ``n_samples`` is no such number.
        """
        check_integer("n_samples", n_samples, least=0)
        x = self._standardised(X)
        with bars(self.verbose):
            mean, covariance = map(to_array, self._fitted.posterior.joint(x, observation_noise))
        generator = check_random_state(random_state)
        # The covariance of a latent f is singular up to rounding: no check, none is needed.
        draws = [
            generator.multivariate_normal(m, cov, n_samples, check_valid="ignore")
            for m, cov in zip(
                np.atleast_2d(mean.T), np.moveaxis(np.atleast_3d(covariance), -1, 0), strict=True
            )
        ]
        samples = self._units.values(draws[0] if mean.ndim == 1 else np.stack(draws, axis=-1))
        return np.moveaxis(samples, 0, -1)

    def loo_predict(
        self, return_std: bool = False, observation_noise: bool = True
    ) -> Array | tuple[Array, Array]:
        """Predictions of each training target from all the others.

        The hyperparameters stay those of the fit to all rows. In closed form (Rasmussen & Williams
        2006, eq. 5.12), or with "nearest" as predictions from the nearest others.

        Parameters
        ----------
        return_std : bool, default=False
        observation_noise : bool, default=True
            Whether deviations are those of y, noise with ``alpha`` and weights included, or of the
            latent f.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        std : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Only with ``return_std``.

        Raises
        ------
        RuntimeError
            The inference has no such closed form.
        """
        check_is_fitted(self)
        with bars(self.verbose):
            mean, variance = self._fitted.posterior.leave_one_out(observation_noise)
        if not return_std:
            return self._units.mean(mean)
        return self._units.mean(mean), self._units.deviation(variance)

    def loo_predict_law(self, rows: ArrayLike | None = None) -> Law:
        """Predictive laws of training targets, each from all the others.

        As ``loo_predict``, which describes it; cross-validation without a further fit.

        Parameters
        ----------
        rows : array-like of shape (n_rows,), default=None
            Indices of the training rows, counted without those of weight 0; None for all. With
            ``inference="nearest"`` time grows with their number.

        Returns
        -------
        law : resnet_gp.predictive.Law
            Of shape (n_rows,) or (n_rows, n_outputs), in the units of y.

        Raises
        ------
        IndexError
            A number is not that of a training row.
        ValueError
            ``rows`` is neither a list of integers nor a mask.
        RuntimeError
            The inference has no such closed form.
        """
        check_is_fitted(self)
        chosen = None if rows is None else self._chosen_rows(np.atleast_1d(rows))
        with bars(self.verbose):
            return self._units.law(self._fitted.posterior.leave_one_out_law(chosen))

    def predict_gradient(
        self, X: ArrayLike, return_std: bool = False
    ) -> Array | tuple[Array, Array]:
        """Posterior mean, and standard deviations, of the gradient of the latent f.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)
        return_std : bool, default=False
            Needs a kernel with second derivatives where its inputs coincide: the limit of the
            (leaky) ReLU family at infinite depth.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_features) or (n_samples, n_features, n_outputs)
            In units of y per unit of the feature; of a data frame with categories, by encoded
            feature, see ``columns_``.
        std : ndarray of the same shape
            Only with ``return_std``.

        Raises
        ------
        RuntimeError
            Inference was sparse, or the kernel has no second derivatives; with ``return_std``,
            also if ranks of features, or other directions, are inputs.
        """
        inputs = self._features(X)
        if return_std and (self._units.ranked_columns or self._units.directions is not None):
            raise UnsupportedError(
                "deviations of gradients are not known where ranks of features, or other "
                "directions, are inputs: fit with rank_features=False, rotate_features=False"
            )
        x = self._in_standard_units(inputs)
        mean, variance = self._fitted.posterior.gradient(x, return_std)
        if variance is None:
            return self._units.slope(mean, inputs)
        return self._units.slope(mean, inputs), self._units.slope(variance.sqrt(), inputs)

    def add_observations(self, X: ArrayLike, y: ArrayLike, alpha: float | ArrayLike = 0.0) -> Self:
        """Condition on further rows at the hyperparameters and the scaling of the last fit.

        Exact inference updates its Cholesky factor by a block, in O(n^2 k) for k new rows, and the
        local scale of its residuals in O(n^3). With "nearest", the rows are appended to those among
        which neighbours are found, and ``log_marginal_likelihood_value_`` stays that of the fit.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_new, n_features_in_)
        y : array-like of shape (n_new,) or (n_new, n_outputs)
        alpha : float or array-like of shape (n_new,), default=0.0
            Known noise variances of the new targets, as in the constructor. Their weight is the
            mean weight of the fit.

        Returns
        -------
        self

        Raises
        ------
        RuntimeError
            Inference was sparse.
        ValueError
            Bad values, or shapes that do not match the first rows'.
        """
        inputs = self._features(X)
        targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        shape = (len(inputs), *self.y_train_.shape[1:])
        if targets.shape != shape:
            raise ValueError(f"y of new rows must have shape {shape}, got {targets.shape}")
        with torch.inference_mode(False):
            new = self._training(inputs, targets, check_alpha(alpha, len(inputs)))
            self._fitted = self._fitted.condition(new.x, new.y, new.extra_variance)
        self.X_train_ = np.concatenate([self.X_train_, inputs])
        self.y_train_ = np.concatenate([self.y_train_, targets])
        if not self._fitted.posterior.samples_density:  # else one row more would take a second
            self.log_marginal_likelihood_value_ = self._fitted.posterior.log_marginal_likelihood()
        return self

    def log_marginal_likelihood(
        self, theta: ArrayLike | None = None, eval_gradient: bool = False
    ) -> float | tuple[float, Array]:
        """Log marginal likelihood of the standardised training targets, in nats.

        Its lower bound after sparse inference; with "nearest", the log density of the rows that
        chose the hyperparameters, each given its 64 nearest others, under normal laws.

        Parameters
        ----------
        theta : array-like of shape (n_hyperparameters,), default=None
            Logarithms of noise (unless it is known), output scale, with two networks the ratio of
            their scales, and for each network its lengthscales and weight variance (of the
            standardised problem, in the order of ``theta_``; for other kernels, the raw parameters
            of ``model_``); None for the fitted ones.
        eval_gradient : bool, default=False
            Also return the gradient in ``theta``.

        Returns
        -------
        value : float
        gradient : ndarray of shape (n_hyperparameters,)
            Only with ``eval_gradient``.

        Raises
        ------
        ValueError
            ``theta`` has another shape.
        """
        check_is_fitted(self)
        raw = self.theta_ if theta is None else np.asarray(theta, dtype=np.float64)
        if raw.shape != self.theta_.shape:
            raise ValueError(f"theta must have shape {self.theta_.shape}, got {raw.shape}")
        model = self._fitted.model
        model.look_up()
        try:
            value, gradient = value_and_gradient(model.log_marginal_likelihood, model, raw)
        finally:
            set_raw(model, self.theta_)
            model.forget()
        return (value, gradient) if eval_gradient else value

    def _chosen_rows(self, rows: NDArray[Any]) -> NDArray[np.intp]:
        if not rows.size:
            return np.zeros(0, dtype=np.intp)
        if rows.dtype.kind not in "biu":
            raise ValueError(f"rows must be indices of training rows, or a mask, got {rows!r}")
        return np.arange(len(self.X_train_))[rows]

    def _standardised(self, X: ArrayLike) -> Tensor:
        return self._in_standard_units(self._features(X))

    def _tensor(self, values: Tensor) -> Tensor:
        return values.to(torch_device(self.device), getattr(torch, self.dtype))

    def _in_standard_units(self, inputs: Array) -> Tensor:
        with naming_far_values("X", self._feature_names):
            return self._tensor(self._units.x(inputs))

    def _training(
        self, inputs: Array, targets: Array, alpha: Array | None, weight: Array | None = None
    ) -> Training:
        extra = None
        if alpha is not None and alpha.any():
            self._need_one_scale("alpha")
            extra = self._tensor(torch.from_numpy(alpha / self._units.y.scale**2))
        with naming_far_values("y"):
            standard_targets = self._tensor(self._units.y(targets))
        return Training(
            self._in_standard_units(inputs),
            standard_targets,
            extra,
            None if weight is None else self._tensor(torch.from_numpy(weight)),
        )

    def _need_one_scale(self, name: str) -> None:
        if np.size(self._units.y.scale) > 1:
            raise ValueError(
                f"{name} is in the squared units of one output: for several, fit an estimator to "
                "each (sklearn.multioutput.MultiOutputRegressor)"
            )
