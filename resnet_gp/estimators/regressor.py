"""Gaussian process regression as a scikit-learn estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from resnet_gp.activations import get_activation
from resnet_gp.estimators.standardise import Standardiser
from resnet_gp.kernels import ResNetLimitKernel
from resnet_gp.models import ExactRegression, maximise
from resnet_gp.models.fitting import FitResult, get_raw, set_raw, value_and_gradient

Array = NDArray[np.float64]

# Raw parameters are logarithms. The bounds keep L-BFGS-B where the covariance can be factorised.
_BOUNDS = {
    "likelihood.noise_covar.raw_noise": (math.log(1e-8), math.log(1e2)),
    "covar_module.raw_outputscale": (math.log(1e-6), math.log(1e6)),
    # In standard deviations of the feature. At 10 a feature matters little but is not lost: with
    # 10^4 here, boston's mean test RMSE was 2.61 instead of 2.57 (benchmarks/regression.py).
    "covar_module.base_kernel.raw_lengthscale": (math.log(1e-2), math.log(10)),
}
_HORIZON_BOUNDS = (1e-3, 5e3)
# Horizons, noise variances and lengthscales to try first. On some splits of the energy set, only
# the second finds the optimum that is 30 nats above the others.
_CANDIDATES = ((5.0, 0.1, 1.0), (1.0, 0.001, 0.5), (5.0, 0.01, 0.5))
# Matrices of n x n numbers that are alive at the peak of one evaluation with gradient.
_MATRICES = 6
_SERIAL_SAMPLES = 400
# Above so many samples, a pilot fit to some of them finds where the full fit starts.
_PILOT_ABOVE, _PILOT_SAMPLES = 1000, 400
# Then a smaller gain per sample and iteration ends the full fit. From the first starts, that would
# lose 30 nats on the energy data.
_GAIN_PER_SAMPLE = 1e-6
# Optima of the pilot are told apart sooner than first starts.
_SCREENING_AFTER_PILOT = 10


@contextmanager
def _threads_for(n: int) -> Iterator[None]:
    """One thread for small matrices: their factorisations lose time in waiting for each other.

    Where other work keeps the cores busy, they lose a factor of ten and more.
    """
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if n <= _SERIAL_SAMPLES else threads)
        yield
    finally:
        torch.set_num_threads(threads)


class ResNetGPRegressor(RegressorMixin, BaseEstimator):
    r"""Gaussian process regression with the kernel of an infinitely wide and deep ResNet.

    The model, on inputs and targets standardised inside, is
    :math:`y = f(x) + \varepsilon`, :math:`f \sim GP(0, s\,k)`, with the ResNet limit kernel k (one
    lengthscale for each feature, an input bias of variance 1, no growth factor, which the output
    scale s would absorb, and the contrast of the correlation, see ``ResNetLimitKernel``). Inference
    is exact: one Cholesky factor of an n x n matrix, in float64.

    Parameters
    ----------
    activation : {"relu", "leaky_relu", "abs"}, default="relu"
        The activation of the infinite network.
    negative_slope : float, default=0.01
        Slope of "leaky_relu" for negative inputs.
    hyperparameters : {"ml"}, default="ml"
        "ml" maximises the marginal likelihood with L-BFGS-B and exact gradients.
    n_restarts : int, default=0
        Further runs of the optimiser from random initial values.
    max_iter : int, default=200
        Iterations of each run.
    max_exact_samples : int, default=10000
        Refuse to fit more samples than this: memory grows like n^2 and time like n^3.
    random_state : int, RandomState instance or None, default=None
        For the initial values of restarts.

    Attributes
    ----------
    model_ : resnet_gp.models.ExactRegression
        The fitted GPyTorch model, on standardised data.
    lengthscale_ : ndarray of shape (n_features,)
        Lengthscales in the units of the features; a long one means a feature of little effect (at
        most 10 standard deviations).
    weight_variance_ : float
        Variance w of the residual weights.
    horizon_ : float
        T = w (1 - alpha)^2, the time for which correlations flow.
    outputscale_ : float
        Output scale s, in the squared units of y.
    noise_variance_ : float
        Variance of the observation noise, in the squared units of y.
    log_marginal_likelihood_value_ : float
        Of the standardised targets, in nats.
    restart_values_ : list of float
        What each run of the optimiser reached.
    n_iter_ : int
        Iterations of the best run.
    converged_ : bool
        Whether the best run met the optimiser's criterion, or stopped where rounding hides any
        better value.
    X_train_ : ndarray of shape (n_samples, n_features)
    y_train_ : ndarray of shape (n_samples,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ResNetGPRegressor().fit(X, y)
    >>> mean, std = model.predict(X[:2], return_std=True)
    """

    def __init__(
        self,
        activation: str = "relu",
        *,
        negative_slope: float = 0.01,
        hyperparameters: str = "ml",
        n_restarts: int = 0,
        max_iter: int = 200,
        max_exact_samples: int = 10_000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.activation = activation
        self.negative_slope = negative_slope
        self.hyperparameters = hyperparameters
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.max_exact_samples = max_exact_samples
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> ResNetGPRegressor:
        """Choose the hyperparameters and factorise the covariance of the training targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad values in X or y, bad parameters, or more than ``max_exact_samples`` samples.
        """
        self._check_parameters()
        inputs, targets = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2
        )
        self._refuse_too_many(len(inputs))
        self.X_train_, self.y_train_ = inputs, targets.astype(np.float64)
        self._x_scaler = Standardiser.of(self.X_train_)
        self._y_scaler = Standardiser.of(self.y_train_)
        train = self._x_scaler(self.X_train_), self._y_scaler(self.y_train_)
        candidates = self._candidates()
        piloted = len(inputs) > _PILOT_ABOVE
        if piloted:
            rows = np.random.RandomState(0).permutation(len(inputs))[:_PILOT_SAMPLES]
            pilot = self._model(*(part[rows] for part in train))
            candidates = self._optima(pilot, candidates)
        self.model_ = self._model(*train)
        found = self._maximise(self.model_, candidates, self._restarts(), piloted)
        self._posterior = self.model_.posterior()
        self.log_marginal_likelihood_value_ = found.value
        self.restart_values_ = found.values
        self.n_iter_, self.converged_ = found.iterations, found.converged
        self._publish_hyperparameters()
        if not found.converged:
            warnings.warn(
                f"L-BFGS-B stopped after {found.iterations} iterations without converging "
                f"({found.message}); raise max_iter or n_restarts",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

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
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
        return_cov : bool, default=False
        observation_noise : bool, default=True
            Whether deviation and covariance are those of y, noise included, or of the latent f.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
        std : ndarray of shape (n_samples,)
            Only with ``return_std``, in the units of y.
        cov : ndarray of shape (n_samples, n_samples)
            Only with ``return_cov``, in the squared units of y.
        """
        if return_std and return_cov:
            raise RuntimeError("return_std and return_cov cannot both be True")
        x = self._standardised(X)
        noise = self._noise() if observation_noise else 0.0
        if return_cov:
            mean, covariance = self._posterior.mean_and_covariance(x)
            covariance = covariance + noise * torch.eye(len(covariance), dtype=covariance.dtype)
            return self._in_units(mean), covariance.numpy() * self._y_scaler.scale**2
        if return_std:
            mean, variance = self._posterior.mean_and_variance(x)
            return self._in_units(mean), (variance + noise).sqrt().numpy() * self._y_scaler.scale
        return self._in_units(self._posterior.mean(x))

    def sample_y(
        self,
        X: ArrayLike,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = 0,
        observation_noise: bool = True,
    ) -> Array:
        """Joint draws from the posterior predictive distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=0
        observation_noise : bool, default=True
            Whether the draws are of y, noise included, or of the latent f.

        Returns
        -------
        samples : ndarray of shape (n_samples_X, n_samples)
        """
        mean, covariance = self.predict(X, return_cov=True, observation_noise=observation_noise)
        # The covariance of a latent f is singular up to rounding: no check, none is needed.
        draws = check_random_state(random_state).multivariate_normal(
            mean, covariance, n_samples, check_valid="ignore"
        )
        return np.asarray(draws).T

    def log_marginal_likelihood(
        self, theta: ArrayLike | None = None, eval_gradient: bool = False
    ) -> float | tuple[float, Array]:
        """Log marginal likelihood of the standardised training targets, in nats.

        Parameters
        ----------
        theta : array-like of shape (n_hyperparameters,), default=None
            Logarithms of noise, output scale, lengthscales and weight variance (of the standardised
            problem, the order of ``theta_``); None for the fitted ones.
        eval_gradient : bool, default=False
            Also return the gradient in ``theta``.

        Returns
        -------
        value : float
        gradient : ndarray of shape (n_hyperparameters,)
            Only with ``eval_gradient``.
        """
        check_is_fitted(self)
        raw = self.theta_ if theta is None else np.asarray(theta, dtype=np.float64)
        if raw.shape != self.theta_.shape:
            raise ValueError(f"theta must have shape {self.theta_.shape}, got {raw.shape}")
        model = self.model_
        try:
            value, gradient = value_and_gradient(model.log_marginal_likelihood, model, raw)
        finally:
            set_raw(model, self.theta_)
        return (value, gradient) if eval_gradient else value

    def _check_parameters(self) -> None:
        get_activation(self.activation, self.negative_slope)
        if self.hyperparameters != "ml":
            raise ValueError(f'hyperparameters must be "ml", got {self.hyperparameters!r}')
        for name, least in (("n_restarts", 0), ("max_iter", 1), ("max_exact_samples", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")

    def _refuse_too_many(self, n: int) -> None:
        if n > self.max_exact_samples:
            needed = _MATRICES * 8 * n**2
            raise ValueError(
                f"exact inference on {n} samples would need about {needed:.3g} bytes "
                f"({needed / 2**30:.1f} GiB) and is refused above max_exact_samples="
                f"{self.max_exact_samples}; fit a subset or raise max_exact_samples"
            )

    def _kernel(self) -> Kernel:
        kernel = ResNetLimitKernel(
            self.activation,
            negative_slope=self.negative_slope,
            input_bias=True,
            growth=False,
            contrast=True,
            ard_num_dims=self.n_features_in_,
        )
        # (lengthscale, bias, output scale) -> (s l, bias / s^2, s^2 scale) changes nothing: fix one
        kernel.raw_input_bias_variance.requires_grad_(False)
        return kernel

    def _model(self, x: torch.Tensor, y: torch.Tensor) -> ExactRegression:
        return ExactRegression(x, y, self._kernel().double())

    def _optima(self, model: ExactRegression, starts: list[Array]) -> list[Array]:
        """The different local maxima that the starts lead to, as raw parameters."""
        found: dict[int, Array] = {}
        for start in starts:
            value = self._maximise(model, [start]).value
            found.setdefault(round(value), get_raw(model))
        return list(found.values())

    def _maximise(
        self,
        model: ExactRegression,
        candidates: list[Array],
        restarts: Sequence[Array] = (),
        piloted: bool = False,
    ) -> FitResult:
        n = len(model.train_targets)
        objective, bounds = model.log_marginal_likelihood, self._bounds()
        options = (_GAIN_PER_SAMPLE * n, _SCREENING_AFTER_PILOT) if piloted else ()
        with _threads_for(n):
            return maximise(objective, model, bounds, candidates, restarts, self.max_iter, *options)

    def _horizon_factor(self) -> float:
        """T / w; 1 for the linear network, to which w makes no difference."""
        slope = get_activation(self.activation, self.negative_slope).negative_slope
        return (1 - slope) ** 2 or 1.0

    def _bounds(self) -> dict[str, tuple[float, float]]:
        low, high = _HORIZON_BOUNDS
        factor = self._horizon_factor()
        horizon = (math.log(low / factor), math.log(high / factor))
        return _BOUNDS | {"covar_module.base_kernel.raw_weight_variance": horizon}

    def _candidates(self) -> list[Array]:
        ones = np.ones(self.n_features_in_)
        return [self._raw(horizon, noise, scale * ones) for horizon, noise, scale in _CANDIDATES]

    def _restarts(self) -> list[Array]:
        generator = check_random_state(self.random_state)
        return [
            self._raw(
                np.exp(generator.uniform(0, 4)),
                np.exp(generator.uniform(-6, -1)),
                np.exp(generator.normal(size=self.n_features_in_)),
            )
            for _ in range(self.n_restarts)
        ]

    def _raw(self, horizon: float, noise: float, lengthscale: Array) -> Array:
        weight_variance = horizon / self._horizon_factor()
        return np.log(np.concatenate([[noise, 1.0], lengthscale, [weight_variance]]))

    def _publish_hyperparameters(self) -> None:
        kernel = self.model_.covar_module.base_kernel
        self.theta_ = get_raw(self.model_)
        self.lengthscale_ = kernel.lengthscale.detach().numpy()[0] * self._x_scaler.scale
        self.weight_variance_ = float(kernel.weight_variance.detach())
        self.horizon_ = float(kernel.horizon.detach())
        scale = float(self._y_scaler.scale) ** 2
        self.outputscale_ = float(self.model_.covar_module.outputscale.detach()) * scale
        self.noise_variance_ = self._noise() * scale

    def _noise(self) -> float:
        return float(self.model_.likelihood.noise.detach())

    def _standardised(self, X: ArrayLike) -> torch.Tensor:
        check_is_fitted(self)
        return self._x_scaler(validate_data(self, X, dtype=np.float64, reset=False))

    def _in_units(self, mean: torch.Tensor) -> Array:
        return np.asarray(mean.numpy() * self._y_scaler.scale + self._y_scaler.mean)
