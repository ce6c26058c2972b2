"""Gaussian process regression as a scikit-learn estimator."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    validate_data,
)

from resnet_gp.activations import AnyActivation
from resnet_gp.estimators.checks import (
    check_alpha,
    check_choices,
    check_integers,
    torch_device,
)
from resnet_gp.estimators.persistence import Persistent
from resnet_gp.estimators.regressor_state import pack, unpack
from resnet_gp.fitting.checkpoint import Checkpoint
from resnet_gp.fitting.choice import Chosen, Inference, affordable_inference
from resnet_gp.fitting.kernel_spec import KernelName, KernelSpec
from resnet_gp.fitting.optimiser import FitResult, get_raw, set_raw, value_and_gradient
from resnet_gp.fitting.search import Hyperparameters, Search, Training, threads_for
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.kernels.resnet_kernel import ResNetKernel
from resnet_gp.progress import progress_bar

Array = NDArray[np.float64]
_LOGGER = logging.getLogger("resnet_gp")

_CHOICES = {
    "hyperparameters": ("map", "ml", "nuts", "fixed"),
    "inference": ("auto", "exact", "sparse"),
    "dtype": ("float64", "float32"),
}
_LEAST = {
    "n_chains": 1,
    "n_draws": 1,
    "n_restarts": 0,
    "max_iter": 1,
    "n_inducing": 1,
    "hyperparameter_samples": 2,
    "max_exact_samples": 1,
}
_OPTIONAL = ("max_iter", "hyperparameter_samples", "max_exact_samples")


class ResNetGPRegressor(Persistent, RegressorMixin, BaseEstimator):
    r"""Gaussian process regression with the kernel of an infinitely wide and deep ResNet.

    The model, on inputs and targets standardised inside, is
    :math:`y = f(x) + \varepsilon`, :math:`f \sim GP(0, s\,k)`, with the ResNet limit kernel k (one
    lengthscale for each feature, an input bias of variance 1, no growth factor, which the output
    scale s would absorb, and the contrast of the correlation, see ``ResNetLimitKernel``). Several
    outputs are independent draws of one process, with the same hyperparameters.

    Parameters
    ----------
    activation : str or Activation, default="relu"
        The activation of the infinite network, as for ``ResNetLimitKernel``.
    kernel : {"limit", "tangent"} or gpytorch.kernels.Kernel, default="limit"
        "limit" is the network at initialisation, "tangent" the network trained by gradient flow
        in the lazy regime. A GPyTorch kernel replaces both, and the arguments that describe the
        network; it starts at its own hyperparameters, needs no output scale, and is copied.
    depth : int or None, default=None
        Number of residual blocks; None for the limit.
    block_bias : bool, default=False
        Give the residual blocks biases of learned variance ("limit" only).
    inference : {"auto", "exact", "sparse"}, default="auto"
        "exact" takes one Cholesky factor of an n x n matrix; "sparse" maximises the collapsed bound
        of Titsias (2009) with ``n_inducing`` inducing points, in passes over all rows. "auto" is
        exact as far as memory and patience allow; the choice is logged and kept in ``inference_``.
    n_inducing : int, default=1000
        Inducing points of sparse inference: rows chosen by greedy conditional
        variance (Burt et al. 2020), or centres of clusters where they will be moved.
    learn_inducing : bool, default=True
        Whether sparse inference moves the inducing points by gradient together with the
        hyperparameters; False leaves them where they were chosen.
    hyperparameters : {"map", "ml", "nuts", "fixed"}, default="map"
        "map" maximises the marginal likelihood times weak priors with L-BFGS-B and exact gradients;
        a GPyTorch kernel's own priors count. They matter up to a few hundred rows, where maximum
        likelihood, "ml", is overconfident. "nuts" averages predictions over draws from the
        posterior that these priors give, by Pyro's no-U-turn sampler started at the "map" (exact
        inference; minutes for hundreds of rows).
        "fixed" keeps those of the last fit with ``warm_start``, else the initial ones (of the
        standardised problem: unit lengthscales and output scale, T = 5, noise 0.1).
    hyperparameter_samples : int or None, default=2000
        Exact inference chooses the hyperparameters on at most so many rows, drawn at random, and
        predicts from all; the others start from what it finds. None for all.
    noise_variance : float or None, default=None
        Variance of the noise in the squared units of y if it is known; None to learn it.
    alpha : float or array-like of shape (n_samples,), default=0.0
        Known variance of each target's noise beyond ``noise_variance``, in the squared units of y.
    n_chains : int, default=4
        Chains of "nuts"; four tell whether they agree.
    n_draws : int, default=500
        Draws of each chain, after as many that adapt the sampler and are thrown away.
    n_jobs : int or None, default=None
        Processes that run chains at the same time; None for one, -1 for all processors.
    n_restarts : int, default=0
        Further runs of the optimiser from random initial values.
    max_iter : int or None, default=None
        Iterations of each run. None for 200, but 25
        in the passes of sparse inference over more than 20,000 rows, which take seconds each.
    max_exact_samples : int or None, default=None
        The most rows for exact inference; None for a limit chosen from memory and device.
    device : str, default="auto"
        A torch device; "auto" takes a GPU if there is one.
    dtype : {"float64", "float32"}, default="float64"
        float32 halves the memory, but covariance matrices of little noise cannot be factorised.
    warm_start : bool, default=False
        Start from the hyperparameters of the last fit, and from its ``n_inducing`` inducing points.
    checkpoint : path or None, default=None
        A file that keeps the best hyperparameters while the fit runs. A fit of the same data and
        parameters that finds it goes on from there.
    verbose : bool or None, default=None
        Whether to show a progress bar; None shows one on a terminal once a fit takes ten seconds.
    random_state : int, RandomState instance or None, default=None
        For the initial values of restarts and for chains.

    Attributes
    ----------
    model_ : gpytorch.Module
        The fitted GPyTorch model, on standardised data. With "nuts" it, and the hyperparameters
        below, are those of the mode at which the chains start.
    draws_ : resnet_gp.bayes.Draws
        The hyperparameters drawn, of the standardised problem. Only with "nuts".
    inference_ : {"exact", "sparse"}
    lengthscale_ : ndarray of shape (n_features,)
        Lengthscales in the units of the features; a long one means a feature of little effect (at
        most 10 standard deviations). Kernels of this package only.
    weight_variance_ : float
        Variance w of the residual weights. Kernels of this package only.
    horizon_ : float
        T = w (1 - alpha)^2, the time for which correlations flow. (Leaky) ReLU family only.
    outputscale_ : float or ndarray of shape (n_outputs,)
        Output scale s, in the squared units of y.
    noise_variance_ : float or ndarray of shape (n_outputs,)
        Variance of the observation noise, in the squared units of y, without ``alpha``. After
        sparse inference it is the one under which held-out rows have the highest density: the bound
        takes for noise what the inducing points cannot represent.
    log_marginal_likelihood_value_ : float
        Of the standardised targets at these hyperparameters, in nats; its lower bound if inference
        is not exact.
    restart_values_ : list of float
        What each run of the optimiser reached.
    loss_curve_ : list of float
        What the best run minimised, after each iteration, in nats.
    n_iter_ : int
        Iterations of the best run.
    converged_ : bool
        Whether the best run met the optimiser's criterion, or stopped where rounding hides any
        better value. False, without a warning, after the 25 passes of ``max_iter=None``.
    fit_interrupted_ : bool
        Whether Ctrl-C ended the search. The model is then the best one so far.
    X_train_ : ndarray of shape (n_samples, n_features)
    y_train_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ResNetGPRegressor().fit(X, y)
    >>> mean, std = model.predict(X[:2], return_std=True)
    """

    model_: Any
    theta_: Array
    _posterior: Any

    def __init__(
        self,
        activation: str | AnyActivation = "relu",
        *,
        kernel: KernelName | Kernel = "limit",
        depth: int | None = None,
        block_bias: bool = False,
        inference: Inference = "auto",
        n_inducing: int = 1000,
        learn_inducing: bool = True,
        hyperparameters: Hyperparameters = "map",
        hyperparameter_samples: int | None = 2000,
        noise_variance: float | None = None,
        alpha: float | ArrayLike = 0.0,
        n_chains: int = 4,
        n_draws: int = 500,
        n_jobs: int | None = None,
        n_restarts: int = 0,
        max_iter: int | None = None,
        max_exact_samples: int | None = None,
        device: str = "auto",
        dtype: Literal["float64", "float32"] = "float64",
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: bool | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.activation = activation
        self.kernel = kernel
        self.depth = depth
        self.block_bias = block_bias
        self.inference = inference
        self.n_inducing = n_inducing
        self.learn_inducing = learn_inducing
        self.hyperparameters = hyperparameters
        self.hyperparameter_samples = hyperparameter_samples
        self.noise_variance = noise_variance
        self.alpha = alpha
        self.n_chains = n_chains
        self.n_draws = n_draws
        self.n_jobs = n_jobs
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.max_exact_samples = max_exact_samples
        self.device = device
        self.dtype = dtype
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.verbose = verbose
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> ResNetGPRegressor:
        """Choose the hyperparameters and condition on the training targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            Divides the variance of each target's noise, ``alpha`` included, as where a target is a
            mean of so many observations; rows of weight 0 are left out. Exact and sparse inference.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad values in X, y or sample_weight, bad parameters, or ``inference="exact"`` on more
            rows than ``max_exact_samples``.
        numpy.linalg.LinAlgError
            No covariance matrix of the search could be factorised.
        """
        covariance = self._check_parameters()
        inputs, targets = validate_data(
            self,
            X,
            y,
            dtype=np.float64,
            y_numeric=True,
            multi_output=True,
            ensure_min_samples=2,
        )
        alpha = check_alpha(self.alpha, len(inputs))
        weight = self._check_weight(sample_weight, inputs)
        if weight is not None:
            kept = weight > 0
            inputs, targets, alpha, weight = (a[kept] for a in (inputs, targets, alpha, weight))
        known = self.theta_ if self.warm_start and hasattr(self, "theta_") else None
        self.X_train_, self.y_train_ = inputs, targets.astype(np.float64)
        self._x_scaler = Standardiser.of(self.X_train_)
        self._y_scaler = Standardiser.of(self.y_train_)
        training = self._training(self.X_train_, self.y_train_, alpha, weight)
        self.inference_ = self._choose_inference(len(inputs))
        _LOGGER.info("inference on %d rows: %s", len(inputs), self.inference_)
        if hasattr(self, "draws_"):  # of an earlier fit
            del self.draws_
        with progress_bar("fitting", self.verbose) as bar:
            try:
                found = self._infer(self._search(covariance, bar, weight), training, known)
            except torch.linalg.LinAlgError as error:
                raise np.linalg.LinAlgError(
                    f'{error}: raise noise_variance or alpha, or take dtype="float64"'
                ) from error
        self._publish(found)
        self._warn(found)
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
            Taken in slices, so that memory stays bounded unless ``return_cov``.
        return_std : bool, default=False
        return_cov : bool, default=False
        observation_noise : bool, default=True
            Whether deviation and covariance are those of y, noise included (without ``alpha``), or
            of the latent f.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        std : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Only with ``return_std``, in the units of y.
        cov : ndarray of shape (n_samples, n_samples) or (n_samples, n_samples, n_outputs)
            Only with ``return_cov``, in the squared units of y.
        """
        if return_std and return_cov:
            raise RuntimeError("return_std and return_cov cannot both be True")
        x = self._standardised(X)
        noise = self._predictive_noise() if observation_noise else 0.0
        if return_cov:
            mean, covariance = self._posterior.mean_and_covariance(x)
            return self._in_units(mean), self._covariance(_array(covariance), noise)
        if return_std:
            mean, variance = self._posterior.mean_and_variance(x)
            return self._in_units(mean), self._deviation(_array(variance) + noise)
        return self._in_units(self._posterior.mean(x))

    def predict_quantiles(
        self,
        X: ArrayLike,
        quantiles: ArrayLike = (0.05, 0.5, 0.95),
        observation_noise: bool = True,
    ) -> Array:
        """Quantiles of the posterior predictive distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        quantiles : array-like of shape (n_quantiles,), default=(0.05, 0.5, 0.95)
            Probabilities between 0 and 1.
        observation_noise : bool, default=True
            Whether they are of y, noise included, or of the latent f.

        Returns
        -------
        values : ndarray of shape (n_samples, n_quantiles) or (n_samples, n_outputs, n_quantiles)
        """
        levels = np.asarray(quantiles, dtype=np.float64)
        if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"quantiles must be numbers between 0 and 1, got {quantiles!r}")
        if self._is_mixture():
            mixture = self._posterior.normal_mixture(self._standardised(X), observation_noise)
            values = _array(mixture.quantiles(torch.from_numpy(levels)))
            return np.moveaxis(
                np.moveaxis(values, -1, 0) * self._y_scaler.scale + self._y_scaler.mean, 0, -1
            )
        mean, std = self.predict(X, return_std=True, observation_noise=observation_noise)
        return mean[..., None] + std[..., None] * norm.ppf(levels)

    def predict_log_density(self, X: ArrayLike, y: ArrayLike) -> Array:
        """Log of the predictive density of targets, noise included, one by one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)

        Returns
        -------
        density : ndarray of the shape of y
            In nats, for the units of y. With "nuts" of the mixture over draws, else of a normal
            law.

        Raises
        ------
        ValueError
            ``y`` does not have the shape of the predictions.
        """
        targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if not self._is_mixture():
            mean, std = self.predict(X, return_std=True)
            _check_shape(targets, mean.shape)
            return np.asarray(norm.logpdf(targets, mean, std))
        mixture = self._posterior.normal_mixture(self._standardised(X), True)
        _check_shape(targets, mixture.means.shape[1:])
        scaled = self._tensor(self._y_scaler(targets))
        return np.asarray(_array(mixture.log_density(scaled)) - np.log(self._y_scaler.scale))

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
        samples : ndarray of shape (n_samples_X, n_samples) or (n_samples_X, n_outputs, n_samples)
        """
        mean, covariance = self.predict(X, return_cov=True, observation_noise=observation_noise)
        generator = check_random_state(random_state)

        def draw(mean: Array, covariance: Array) -> Array:
            # The covariance of a latent f is singular up to rounding: no check, none is needed.
            return generator.multivariate_normal(
                mean, covariance, n_samples, check_valid="ignore"
            ).T

        if mean.ndim == 1:
            return draw(mean, covariance)
        return np.stack(
            [draw(mean[:, i], covariance[..., i]) for i in range(mean.shape[1])], axis=1
        )

    def loo_predict(
        self, return_std: bool = False, observation_noise: bool = True
    ) -> Array | tuple[Array, Array]:
        """Predictions of each training target from all the others, in closed form.

        The hyperparameters stay those of the fit to all rows (Rasmussen & Williams 2006, eq. 5.12).

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
            Inference was not exact.
        """
        self._need_exact("loo_predict")
        mean, variance = self._posterior.leave_one_out()
        if not return_std:
            return self._in_units(mean)
        if not observation_noise:
            noise = self.model_.noise_variance().detach()
            if self._is_mixture():
                weight = self.model_.sample_weight
                change = self._predictive_noise() - self._noise()
                noise = noise + (change if weight is None else change / weight)
            variance = (variance - noise.reshape(-1, *[1] * (variance.dim() - 1))).clamp_(min=0)
        return self._in_units(mean), self._deviation(_array(variance))

    def predict_gradient(
        self, X: ArrayLike, return_std: bool = False
    ) -> Array | tuple[Array, Array]:
        """Gradient of the latent f: its posterior mean, and each component's standard deviation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            Needs a kernel with second derivatives where its inputs coincide: the limit of the
            (leaky) ReLU family at infinite depth.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_features) or (n_samples, n_features, n_outputs)
            In units of y per unit of the feature.
        std : ndarray of the same shape
            Only with ``return_std``.

        Raises
        ------
        RuntimeError
            Inference was not exact, or the kernel has no second derivatives.
        """
        self._need_exact("predict_gradient")
        mean, variance = self._posterior.gradient(self._standardised(X), return_std)
        scale = np.divide.outer(self._y_scaler.scale, self._x_scaler.scale).T
        if not return_std:
            return _array(mean) * scale
        deviation = np.sqrt(_array(variance))
        return _array(mean) * scale, deviation[(...,) + (None,) * (scale.ndim - 1)] * scale

    def add_observations(
        self, X: ArrayLike, y: ArrayLike, alpha: float | ArrayLike = 0.0
    ) -> ResNetGPRegressor:
        """Condition on further rows at the hyperparameters and the scaling of the last fit.

        Costs O(n^2 k) for k new rows, by a block update of the Cholesky factor.

        Parameters
        ----------
        X : array-like of shape (n_new, n_features)
        y : array-like of shape (n_new,) or (n_new, n_outputs)
        alpha : float or array-like of shape (n_new,), default=0.0
            Known noise variances of the new targets, as in the constructor.

        Returns
        -------
        self

        Raises
        ------
        RuntimeError
            Inference was not exact.
        ValueError
            Bad values, or shapes that do not match the first rows'.
        """
        self._need_exact("add_observations")
        inputs = validate_data(self, X, dtype=np.float64, reset=False)
        targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if targets.shape != (len(inputs), *self.y_train_.shape[1:]):
            raise ValueError(
                f"y of new rows must have shape {(len(inputs), *self.y_train_.shape[1:])}, "
                f"got {targets.shape}"
            )
        new = self._training(inputs, targets, check_alpha(alpha, len(inputs)))
        noise = self.model_.likelihood.noise.detach().expand(len(inputs))
        extra = torch.zeros_like(noise) if new.extra_variance is None else new.extra_variance
        added = extra if self._is_mixture() else noise + extra
        self._posterior = self._posterior.condition(new.x, new.y, added)
        before = self.model_.extra_variance
        if before is not None or new.extra_variance is not None:
            if before is None:
                before = torch.zeros_like(self._posterior.train_x[: len(self.X_train_), 0])
            self.model_.extra_variance = torch.cat([before, extra])
        if self.model_.sample_weight is not None:
            more = torch.ones_like(extra)
            self.model_.sample_weight = torch.cat([self.model_.sample_weight, more])
        self.model_.set_train_data(self._posterior.train_x, self._posterior.train_y, strict=False)
        self.X_train_ = np.concatenate([self.X_train_, inputs])
        self.y_train_ = np.concatenate([self.y_train_, targets])
        self.log_marginal_likelihood_value_ = self._posterior.log_marginal_likelihood()
        return self

    def log_marginal_likelihood(
        self, theta: ArrayLike | None = None, eval_gradient: bool = False
    ) -> float | tuple[float, Array]:
        """Log marginal likelihood of the standardised training targets, in nats.

        Its lower bound if inference is not exact.

        Parameters
        ----------
        theta : array-like of shape (n_hyperparameters,), default=None
            Logarithms of noise (unless it is known), output scale, lengthscales and weight variance
            (of the standardised problem, the order of ``theta_``; for other kernels, the raw
            parameters of ``model_``); None for the fitted ones.
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_parameters(self) -> KernelSpec:
        check_choices(self, _CHOICES)
        check_integers(self, _LEAST, optional=_OPTIONAL)
        noise: Any = self.noise_variance
        if noise is not None and not (isinstance(noise, Real) and 0 <= float(noise) < np.inf):
            raise ValueError(f"noise_variance must be a number of at least 0, got {noise!r}")
        return KernelSpec(self.kernel, self.activation, self.depth, self.block_bias)

    def _torch_device(self) -> torch.device:
        return torch_device(self.device)

    def _torch_dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def _tensor(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self._torch_device(), self._torch_dtype())

    def _training(
        self, inputs: Array, targets: Array, alpha: Array, weight: Array | None = None
    ) -> Training:
        extra = None
        if alpha.any():
            self._need_one_scale("alpha")
            extra = self._tensor(torch.from_numpy(alpha / self._y_scaler.scale**2))
        return Training(
            self._tensor(self._x_scaler(inputs)),
            self._tensor(self._y_scaler(targets)),
            extra,
            None if weight is None else self._tensor(torch.from_numpy(weight)),
        )

    def _check_weight(self, sample_weight: ArrayLike | None, inputs: Array) -> Array | None:
        if sample_weight is None:
            return None
        weight = _check_sample_weight(
            sample_weight, inputs, dtype=np.float64, ensure_non_negative=True
        )
        if np.count_nonzero(weight) < 2:
            raise ValueError("sample_weight must be positive for at least two samples")
        return np.asarray(weight)

    def _need_one_scale(self, name: str) -> None:
        if np.size(self._y_scaler.scale) > 1:
            raise ValueError(
                f"{name} is in the squared units of one output: for several, fit an estimator to "
                "each (sklearn.multioutput.MultiOutputRegressor)"
            )

    def _choose_inference(self, n: int) -> Chosen:
        chosen = affordable_inference(
            self.inference, n, self.max_exact_samples, self._torch_device(), self._torch_dtype()
        )
        if self.hyperparameters == "nuts" and chosen != "exact":
            raise ValueError(
                f'hyperparameters="nuts" needs exact inference, that of {n} rows is {chosen}'
            )
        return chosen

    def _search(self, covariance: KernelSpec, bar: Any, weight: Array | None = None) -> Search:
        noise = self.noise_variance
        if noise is not None:
            self._need_one_scale("noise_variance")
            noise = float(noise / np.ravel(self._y_scaler.scale)[0] ** 2)
        checkpoint = None
        if self.checkpoint is not None:
            checkpoint = Checkpoint(self.checkpoint, self._digest(weight))
        return Search(
            covariance,
            self.hyperparameters,
            noise,
            self.max_iter,
            self.n_restarts,
            self.hyperparameter_samples,
            check_random_state(self.random_state),
            bar,
            checkpoint,
            self.learn_inducing,
        )

    def _digest(self, weight: Array | None) -> str:
        """Of the data and of all parameters that the hyperparameters depend on."""
        irrelevant = (
            "checkpoint", "verbose", "warm_start", "max_iter", "n_restarts", "device",
            "n_chains", "n_draws", "n_jobs",
        )  # fmt: skip
        parameters = {
            name: value
            for name, value in sorted(self.get_params(deep=False).items())
            if name not in (*irrelevant, "random_state", "alpha")
        }
        digest = hashlib.sha256(repr(parameters).encode())
        arrays = [self.X_train_, self.y_train_, np.asarray(self.alpha, dtype=np.float64)]
        for array in arrays if weight is None else [*arrays, weight]:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _infer(self, search: Search, training: Training, known: Array | None) -> FitResult:
        if self.inference_ == "exact":
            self.model_, found = search.fit_exact(training, known)
            self._posterior = self.model_.posterior()
            self.log_marginal_likelihood_value_ = self._posterior.log_marginal_likelihood()
            if self.hyperparameters == "nuts" and not found.interrupted:
                found = self._draw(search, training, found)
        else:
            points = None if known is None else self._last_inducing_points()
            self.model_, found = search.fit_sparse(training, self.n_inducing, known, points)
            search.refine_noise(self.model_, training)
            self._posterior = self.model_.posterior()
            self.log_marginal_likelihood_value_ = self._bound(found)
        return found

    def _last_inducing_points(self) -> torch.Tensor | None:
        """Of the last fit, in its standard units, where it was of this many."""
        points = getattr(getattr(self, "model_", None), "inducing_points", None)
        fits = points is not None and points.shape == (self.n_inducing, self.n_features_in_)
        return points if fits else None

    def _draw(self, search: Search, training: Training, found: FitResult) -> FitResult:
        """Average over draws of the hyperparameters, from chains that start at the mode."""
        from resnet_gp.bayes.exact_mixture import ExactMixture
        from resnet_gp.bayes.hyperparameters import current_hyperparameters
        from resnet_gp.bayes.nuts import run_nuts
        from resnet_gp.bayes.regression import GPRegression

        some = training.sample(self.hyperparameter_samples or len(training))
        seen = search.exact_model(some)
        set_raw(seen, get_raw(self.model_))
        try:
            with threads_for(len(some)):
                self.draws_ = run_nuts(
                    GPRegression.of(seen),
                    num_chains=self.n_chains,
                    num_draws=self.n_draws,
                    num_warmup=self.n_draws,
                    start=current_hyperparameters("", seen),
                    seed=int(search.generator.randint(2**31)),
                    n_jobs=self._processes(),
                    verbose=self.verbose,
                )
        except KeyboardInterrupt:  # the mode is there
            return replace(found, converged=False, message="interrupted", interrupted=True)
        self._posterior = ExactMixture.of(GPRegression.of(self.model_), self.draws_)
        return replace(found, interrupted=self.draws_.interrupted)

    def _processes(self) -> int:
        if self.n_jobs is None:
            return 1
        return self.n_jobs if self.n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + self.n_jobs)

    def _is_mixture(self) -> bool:
        check_is_fitted(self)
        return hasattr(self._posterior, "members")

    def _bound(self, found: FitResult) -> float:
        """The bound at the hyperparameters of the model, without priors."""
        with torch.no_grad():
            return _number(self.model_.log_marginal_likelihood())

    def _pack(self) -> dict[str, torch.Tensor]:
        draws = self.draws_ if self._is_mixture() else None
        return pack(self.inference_, self.model_, self._posterior, draws) | {
            name: torch.from_numpy(np.array(value)) for name, value in self._scales().items()
        }

    def _unpack(self, state: dict[str, torch.Tensor]) -> None:
        self._x_scaler, self._y_scaler = (
            Standardiser(state[f"{name}_mean"].numpy(), state[f"{name}_scale"].numpy())
            for name in ("x", "y")
        )
        # The file has the variances of all rows; alpha has none of rows that were added to an exact
        # model, and more than those of the rows that had weight.
        training = self._training(self.X_train_, self.y_train_, np.zeros(len(self.X_train_)))
        tensors = {name: self._tensor(value) for name, value in state.items()}
        search = self._search(self._check_parameters(), None)
        self.model_, self._posterior, draws = unpack(self.inference_, search, training, tensors)
        if draws is not None:
            self.draws_ = draws

    def _scales(self) -> dict[str, Array]:
        scalers = {"x": self._x_scaler, "y": self._y_scaler}
        means = {f"{name}_mean": scaler.mean for name, scaler in scalers.items()}
        return means | {f"{name}_scale": scaler.scale for name, scaler in scalers.items()}

    def _publish(self, found: FitResult) -> None:
        self.theta_ = get_raw(self.model_)
        self.restart_values_ = found.values
        self.loss_curve_ = [-value for value in found.trace]
        self.n_iter_, self.converged_ = found.iterations, found.converged
        self.fit_interrupted_ = found.interrupted
        scale = self._y_scaler.scale**2
        self.outputscale_ = _number(self.model_.covar_module.outputscale) * scale
        self.noise_variance_ = self._noise() * scale
        kernel = self.model_.covar_module.base_kernel
        if isinstance(kernel, ResNetKernel):
            self.lengthscale_ = _array(kernel.lengthscale)[0] * self._x_scaler.scale
            self.weight_variance_ = _number(kernel.weight_variance)
            if kernel.is_homogeneous:
                self.horizon_ = _number(kernel.horizon)

    def _warn(self, found: FitResult) -> None:
        if found.interrupted:
            warnings.warn(
                "the fit was interrupted and holds the best hyperparameters so far; "
                "warm_start=True goes on from there",
                ConvergenceWarning,
                stacklevel=3,
            )
        elif found.as_planned:
            _LOGGER.info(
                "%d iterations with all rows; max_iter sets their number", found.iterations
            )
        elif not found.converged:
            warnings.warn(
                f"L-BFGS-B stopped after {found.iterations} iterations without converging "
                f"({found.message}); raise max_iter or n_restarts",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _need_exact(self, method: str) -> None:
        check_is_fitted(self)
        if self.inference_ != "exact":
            raise RuntimeError(f"{method} needs exact inference, this fit's is {self.inference_}")

    def _predictive_noise(self) -> float:
        return float(self._posterior.noise_variance) if self._is_mixture() else self._noise()

    def _noise(self) -> float:
        return _number(self.model_.likelihood.noise)

    def _standardised(self, X: ArrayLike) -> torch.Tensor:
        check_is_fitted(self)
        inputs = validate_data(self, X, dtype=np.float64, reset=False)
        return self._tensor(self._x_scaler(inputs))

    def _in_units(self, mean: torch.Tensor) -> Array:
        return np.asarray(_array(mean) * self._y_scaler.scale + self._y_scaler.mean)

    def _covariance(self, covariance: Array, noise: float) -> Array:
        """Covariances in the squared units of y, from one that outputs may share."""
        scale = self._y_scaler.scale**2
        identity = np.eye(len(covariance))
        if np.ndim(scale):
            identity = identity[..., None]
            covariance = covariance if covariance.ndim == 3 else covariance[..., None]
        return np.asarray((covariance + noise * identity) * scale)

    def _deviation(self, variance: Array) -> Array:
        """Standard deviations in the units of y, from variances that outputs may share."""
        scale = self._y_scaler.scale
        if variance.ndim == np.ndim(scale):
            variance = variance[:, None]
        return np.asarray(np.sqrt(variance) * scale)


def _check_shape(y: Array, predicted: tuple[int, ...]) -> None:
    if y.shape != tuple(predicted):
        raise ValueError(f"y has shape {y.shape}, predictions {tuple(predicted)}")


def _array(values: torch.Tensor) -> Array:
    return np.asarray(values.detach().to("cpu", torch.float64).numpy())


def _number(value: torch.Tensor) -> float:
    return float(value.detach())
