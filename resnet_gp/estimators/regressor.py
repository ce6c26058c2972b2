"""Gaussian process regression as a scikit-learn estimator."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state
from sklearn.utils.validation import _check_sample_weight

from resnet_gp.activations import AnyActivation
from resnet_gp.estimators.checks import (
    check_alpha,
    check_choices,
    check_integers,
    check_truth,
    last_fit_kept,
    naming_far_values,
    torch_device,
)
from resnet_gp.estimators.encode import scaler_of
from resnet_gp.estimators.persistence import Persistent
from resnet_gp.estimators.regressor_attributes import RegressorAttributes
from resnet_gp.estimators.regressor_methods import RegressorMethods
from resnet_gp.fitting.checkpoint import Checkpoint
from resnet_gp.fitting.choice import (
    HyperparametersName,
    InferenceName,
    choose_components,
    choose_hyperparameters,
    choose_inference,
)
from resnet_gp.fitting.fingerprint import digest_of
from resnet_gp.fitting.inference import Inference
from resnet_gp.fitting.input_choice import checked_choice
from resnet_gp.fitting.inputs import choose_inputs, on_inputs
from resnet_gp.fitting.integrated import Integrated
from resnet_gp.fitting.kernel_spec import (
    KernelName,
    KernelSpec,
    check_neighbours,
    takes_whole_inputs,
)
from resnet_gp.fitting.nearest import Nearest
from resnet_gp.fitting.optimiser import FitResult, Outcome
from resnet_gp.fitting.residuals import with_saved_residual_law
from resnet_gp.fitting.robust import fit_with_law
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.sparse import Sparse
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.fitting.units import Units
from resnet_gp.integers import is_integer
from resnet_gp.progress import progress_bar

Array = NDArray[np.float64]
_LOGGER = logging.getLogger("resnet_gp")

_CHOICES = {
    "hyperparameters": ("auto", "laplace", "map", "ml", "nuts", "fixed"),
    "residuals": ("student", "gaussian"),
    "inference": ("auto", "exact", "nearest", "sparse"),
    "dtype": ("float64", "float32"),
}
_LEAST = {
    "n_chains": 1,
    "n_draws": 1,
    "n_restarts": 0,
    "max_iter": 1,
    "n_inducing": 1,
    "n_neighbors": 1,
    "hyperparameter_samples": 2,
    "max_exact_samples": 1,
}
_OPTIONAL = ("max_iter", "n_neighbors", "hyperparameter_samples", "max_exact_samples")
# Parameters that may differ between a fit and the one that continues from its checkpoint; alpha
# counts as data.
_NOT_DIGESTED = (
    "checkpoint", "residuals", "verbose", "warm_start", "max_iter", "n_restarts", "device",
    "n_chains", "n_draws", "n_jobs", "random_state", "alpha",
)  # fmt: skip


class ResNetGPRegressor(
    RegressorAttributes, RegressorMethods, Persistent, RegressorMixin, BaseEstimator
):
    r"""Gaussian process regression with the kernel of an infinitely wide and deep ResNet.

    The model, for inputs and targets that are standardised internally, is
    :math:`y = f(x) + \varepsilon`, :math:`f \sim GP(0, s\,k)`. The kernel k is the ResNet limit
    kernel with one lengthscale per feature and an input bias of variance 1, as the contrast of the
    correlation (see ``ResNetLimitKernel``); the output scale s absorbs its growth factor. Several
    outputs are independent draws of one process with shared hyperparameters.

    Parameters
    ----------
    activation : str or Activation, default="relu"
        Activation of the infinite network: "relu", "erf", "gelu", "tanh", "silu", "sin" or an
        ``Activation``.
    kernel : {"limit", "tangent"}, gpytorch.kernels.Kernel or list of these, default="limit"
        "limit" is the network at initialisation, "tangent" the network trained by gradient flow
        in the lazy regime. A GPyTorch kernel replaces both, and the arguments that describe the
        network. It is copied, starts at its own hyperparameters and needs no output scale. The
        kernels of a list are weighed by their evidence (see ``hyperparameters``).
    n_components : {1, 2, "auto"}, default="auto"
        Number of independent networks whose sum is f: with two, k = s_1 k_1 + s_2 k_2, and each has
        its own lengthscales and depth, for a smooth and a rough part. "auto" weighs one and two by
        their evidence up to 1000 rows; beyond, it takes two, or with "nearest" those that predict
        left-out rows better; for every kernel but the ReLU limit, it means 1.
    depth : int or None, default=None
        Number of residual blocks; None for the limit.
    block_bias : bool, default=False
        Give the residual blocks biases of learned variance ("limit" only).
    inference : {"auto", "exact", "nearest", "sparse"}, default="auto"
        "exact" factorises an n x n matrix. "nearest" conditions each prediction on the
        ``n_neighbors`` nearest training rows (Vecchia 1988), and learns hyperparameters from rows
        that are left out of their own neighbourhoods (up to 600 rows, by an exact fit): for any
        number of rows. "sparse" maximises the collapsed bound of Titsias (2009) with
        ``n_inducing`` inducing points, in passes over all rows. "auto" is exact if memory and
        patience allow, else nearest, or sparse with a kernel of images, for which "nearest" is
        refused. The choice is logged and kept in ``inference_``.
    n_neighbors : int or None, default=None
        Number of training rows on which "nearest" conditions a prediction, at most the number of
        rows. None for the least of 64, 128, 256 and, up to 200,000 rows, 400 whose CRPS of left-out
        rows is within 0.3 percent of the best; the choice is in ``n_neighbors_``. Time per
        prediction grows with the square, then the third power.
    n_inducing : int, default=1000
        Number of inducing points of sparse inference. They start at rows chosen by greedy
        conditional variance (Burt et al. 2020), or at cluster centres if they are learned.
    learn_inducing : bool, default=True
        Whether inducing points are learned by gradient together with the hyperparameters.
    hyperparameters : {"auto", "laplace", "map", "ml", "nuts", "fixed"}, default="auto"
        "map" maximises the marginal likelihood times weak priors with L-BFGS-B and exact gradients;
        a GPyTorch kernel's own priors count. The priors matter up to a few hundred rows, where
        maximum likelihood, "ml", is overconfident. "laplace" averages predictions over the
        posterior under these priors, by importance sampling around the "map"; the same draws give
        the evidence by which kernels are weighed. "nuts" does it by Pyro's no-U-turn sampler, for
        the likeliest kernel. Both need exact inference; they take seconds and minutes for hundreds
        of rows. "auto" is "laplace" up to 1000 rows for the ReLU limit and GPyTorch's kernels, and
        "map" beyond and for kernels whose tables take long. "fixed" keeps the hyperparameters of
        the last fit with ``warm_start``, else the initial ones (of the standardised problem: unit
        lengthscales and output scale, T = 5, noise 0.1). The choice is in ``hyperparameters_``.
    residuals : {"student", "gaussian"}, default="student"
        Law of a new target around its mean. "student" learns from leave-one-out residuals how the
        spread varies from place to place and how heavy its tails are, and whether errors are
        skewed or have a peak; with little data it ends at "gaussian", the law of the model itself.
        Where exact inference finds heavy tails, a second fit in which outliers count less is kept
        if it predicts left-out rows better, beyond chance.
    hyperparameter_samples : int or None, default=2000
        Exact inference maximises the marginal likelihood up to this many rows, of all rows for
        None; with more rows, hyperparameters are chosen as in "nearest" (by marginal likelihood up
        to 600 rows). Sparse inference starts from an exact fit to a random subset of this size,
        "nearest" from one to 600 rows.
    noise_variance : float or None, default=None
        Known noise variance, in the squared units of y; None to learn it. Less than 1e-8 of the
        variance of y counts as that.
    alpha : float or array-like of shape (n_samples,), default=0.0
        Known noise variance of each target beyond ``noise_variance``, in the squared units of y.
    rank_features : {"auto", True, False}, default="auto"
        Give the kernel the ranks of skewed or long-tailed features as further inputs, beside the
        features themselves. Long tails leave the other rows crowded on a short stretch, which a
        kernel sees as one place; their ranks are spread evenly. "auto" does so if rows
        that are left out are predicted better with them, beyond chance; for kernels of this
        package only. The choice is in ``ranked_features_``.
    rotate_features : {"auto", True, False}, default="auto"
        Give the kernel inputs along the principal directions of the function's gradient in place of
        the features (and ranks), with a lengthscale for each direction: what the features do
        together then takes few inputs. The directions are those of the average outer product of
        gradients (Constantine 2015; Radhakrishnan et al. 2024) of a first fit to at most 1000 rows.
        "auto" does so beyond 500 rows if other rows are predicted better from these, beyond chance,
        and, of more than 2000 rows, all agree; for kernels of this package only. The choice is in
        ``directions_``.
    categorical_features : "auto", None, or array-like of indices, names or bool, default="auto"
        Columns of categories, which become one indicator for each category. "auto" takes those of
        a pandas data frame that hold texts or have the dtype "category"; of a list, these besides
        the ones that it names. Missing values of a data frame are a category of their own, or, of a
        column of numbers, take its median while one more feature marks them. None for numbers only.
    n_chains : int, default=4
        Number of chains of "nuts"; with four, their agreement can be judged.
    n_draws : int, default=500
        Draws of each chain, after as many warm-up draws, which are discarded.
    n_jobs : int or None, default=None
        Number of processes that run chains in parallel; None for one, -1 for all processors.
    n_restarts : int, default=0
        Number of further runs of the optimiser, from random initial values.
    max_iter : int or None, default=None
        Most iterations of each run, including those that compare the starts. With "nearest" it
        bounds all rounds together, and None means 50; else None means 200, or 25 for sparse
        inference on more than 20,000 rows, where each takes seconds.
    max_exact_samples : int or None, default=None
        Largest number of rows for exact inference; None for a limit from memory and device.
    device : str, default="auto"
        A torch device; "auto" takes a GPU if there is one.
    dtype : {"float64", "float32"}, default="float64"
        float32 halves the memory, but covariance matrices of little noise cannot be factorised.
    warm_start : bool, default=False
        Start from the hyperparameters of the last fit, and from its inducing points if their number
        is ``n_inducing``.
    checkpoint : path or None, default=None
        File that keeps the best hyperparameters while the fit runs. A fit of the same data and
        parameters continues from it.
    verbose : bool or None, default=None
        Whether to show a progress bar; None shows one on a terminal once a fit takes ten seconds.
    random_state : int, RandomState instance or None, default=0
        Seeds the initial values of restarts, the draws of "laplace" and the chains. The same number
        gives the same fit.

    Attributes
    ----------
    model_ : gpytorch.Module
        The fitted GPyTorch model, on standardised data. With "laplace" and "nuts" it, and the
        hyperparameters below, are those of the mode of the most probable kernel.
    draws_ : resnet_gp.bayes.Draws
        Draws of the hyperparameters of the standardised problem. Only with "nuts".
    inference_ : {"exact", "nearest", "sparse"}
    n_neighbors_ : int
        Only with "nearest".
    theta_ : ndarray of shape (n_hyperparameters,)
        Hyperparameters as ``log_marginal_likelihood`` takes them.
    hyperparameters_ : str
        What became of ``hyperparameters="auto"``.
    kernels_ : list of str
        Kernels that were compared, such as "limit" and "limit + limit".
    log_evidence_, probability_ : ndarray of shape (n_kernels,)
        Log evidence of each kernel, log p(y | kernel) of the standardised targets in nats, and the
        probability that follows; -inf and 0 for kernels that a first approximation ruled out. Only
        with "laplace".
    effective_draws_, pareto_k_ : ndarray of shape (n_kernels,)
        Number of draws that the weighted draws are worth, of 200, and the shape of the tail of the
        weights (Vehtari et al. 2024): above .7 few draws carry the weight, and the mixture is
        closer to the "map" than it should be. Only with "laplace".
    lengthscale_ : ndarray of shape (n_features,) or (2, n_features)
        Lengthscales in the units of the features, of each component. A long one (at most 10
        standard deviations) means that the feature has little effect. The prior makes those of one
        column's indicators alike. Kernels of this package only.
    weight_variance_ : float or ndarray of shape (2,)
        Variance w of the residual weights. Kernels of this package only.
    horizon_ : float or ndarray of shape (2,)
        T = w (1 - alpha)^2, the time for which correlations flow. (Leaky) ReLU family only.
    outputscale_ : float or ndarray of shape (n_outputs,), (2,) or (2, n_outputs)
        Output scale s, of each component, in the squared units of y.
    residuals_ : {"student", "gaussian"}
        Law of a new target; "gaussian" with fewer than ten rows.
    residual_law_ : ResidualLaw, LocalScale or None
        The law of residuals if it is "student", with its parameters ``nu0``, ``c``, ``df`` and,
        where it has two parts, ``share``, ``shift`` and ``ratio``; see ``predictive.ErrorLaw``.
    robust_weights_ : ndarray of shape (n_samples,) or None
        What the noise variances of the training rows were divided by, beside ``sample_weight``, so
        that outliers count less: (df + 1) / (df + z^2), z being left-out residuals in units of
        their scale (Lange, Little & Taylor 1989). None if the first fit was kept.
    noise_variance_ : float or ndarray of shape (n_outputs,)
        Noise variance of a target of mean weight, in the squared units of y, without ``alpha``.
        After sparse inference it is the one under which held-out rows have the highest density,
        since the bound counts as noise whatever the inducing points cannot represent.
    log_marginal_likelihood_value_ : float
        Log marginal likelihood of the standardised targets, in nats, given ``robust_weights_`` if
        there are any; its lower bound after sparse inference, its mean over the draws with
        "laplace" and "nuts", and with "nearest" the log density of 1000 rows, each given its
        nearest others, scaled up to all rows.
    restart_values_ : list of float
        Maximum of each run of the optimiser.
    loss_curve_ : list of float
        Loss of the best run after each iteration, in nats.
    n_iter_ : int
        Iterations of the best run.
    converged_ : bool
        Whether the best run met the optimiser's criterion, or stopped where rounding hides any
        better value. False, without a warning, after the 25 passes of ``max_iter=None``.
    fit_interrupted_ : bool
        Whether Ctrl-C ended the search. The model is then the best one so far.
    ranked_features_ : ndarray of int
        Indices of the features whose ranks are inputs too.
    directions_ : ndarray of shape (n_inputs, n_inputs) or None
        The directions of the inputs, one in each column, in standardised features and ranks; None
        if the inputs are those. Lengthscales are those along each feature alone.
    columns_ : resnet_gp.columns.Columns or None
        How a data frame becomes features, whose names are ``columns_.feature_names``; wherever
        arrays are said to have n_features columns, these count. None for an array of numbers.
    X_train_ : ndarray of shape (n_samples, n_features)
        Features of the training rows.
    y_train_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ResNetGPRegressor().fit(X, y)
    >>> mean, std = model.predict(X[:2], return_std=True)
    """

    _OF_THE_FIT = ("noise_variance",)
    _OF_THE_FILE = ("noise_variance", "kernel", "activation", "depth", "block_bias")

    def __init__(
        self,
        activation: str | AnyActivation = "relu",
        *,
        kernel: KernelName | Kernel | Sequence[KernelName | Kernel] = "limit",
        n_components: Literal[1, 2, "auto"] = "auto",
        depth: int | None = None,
        block_bias: bool = False,
        inference: InferenceName = "auto",
        n_neighbors: int | None = None,
        n_inducing: int = 1000,
        learn_inducing: bool = True,
        hyperparameters: HyperparametersName = "auto",
        residuals: Literal["student", "gaussian"] = "student",
        hyperparameter_samples: int | None = 2000,
        noise_variance: float | None = None,
        alpha: float | ArrayLike = 0.0,
        rank_features: Literal["auto"] | bool = "auto",
        rotate_features: Literal["auto"] | bool = "auto",
        categorical_features: Literal["auto"] | ArrayLike | None = "auto",
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
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.activation = activation
        self.kernel = kernel
        self.n_components = n_components
        self.depth = depth
        self.block_bias = block_bias
        self.inference = inference
        self.n_neighbors = n_neighbors
        self.n_inducing = n_inducing
        self.learn_inducing = learn_inducing
        self.hyperparameters = hyperparameters
        self.residuals = residuals
        self.hyperparameter_samples = hyperparameter_samples
        self.noise_variance = noise_variance
        self.alpha = alpha
        self.rank_features = rank_features
        self.rotate_features = rotate_features
        self.categorical_features = categorical_features
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
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)
            A data frame may have missing values, booleans, and columns of categories, see
            ``categorical_features``; an array has finite numbers. Frames of dates or prose need
            ``skrub.tabular_pipeline``.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            Divides the noise variance of each target, ``alpha`` included; for instance the number
            of observations of which the target is the mean. Only ratios count: the noise variance,
            and the predictive standard deviation, are those of a target of mean weight. Rows of
            weight 0 are left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad values in X (the column is named if it is of a data frame), y or sample_weight, bad
            parameters, ``inference="exact"`` on more rows than ``max_exact_samples``, or a warm
            start from another kind of model. The last fit is kept.
        numpy.linalg.LinAlgError
            No covariance matrix of the search could be factorised.
        """
        with last_fit_kept(self):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> None:
        self._check_parameters()
        names = list(getattr(self, "feature_names_in_", []))
        weight, kept = self._check_weight(sample_weight, X), None
        if weight is not None and not weight.all():
            check_consistent_length(X, y)
            kept = weight > 0
            X, y, weight = (_safe_indexing(a, kept) for a in (X, y, weight))
        inputs, targets = self._learn_features(
            X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2
        )
        kernels = self._kernels()
        alpha = check_alpha(self.alpha, len(inputs) if kept is None else len(kept))
        alpha = alpha if kept is None else alpha[kept]
        known, last_units = None, None
        if self.warm_start and hasattr(self, "_fitted"):
            self._check_goes_on(inputs, names)
            known, last_units = self._fitted.hyperparameters, self._units
        self.X_train_, self.y_train_ = inputs, targets.astype(np.float64)
        indicators = [] if self.columns_ is None else self.columns_.indicators
        whole = any(takes_whole_inputs(spec.kernel) for spec in kernels)
        with naming_far_values("X", self._feature_names):
            scaler = scaler_of(inputs, indicators, whole)
        with naming_far_values("y"):
            self._units = Units(scaler, Standardiser.of(self.y_train_))
        n = len(inputs)
        chosen = self._chosen_inference(self.inference, n)
        self.inference_ = chosen.name
        self.hyperparameters_ = choose_hyperparameters(self.hyperparameters, n, kernels, chosen)
        _LOGGER.info(
            "inference on %d rows: %s, hyperparameters: %s",
            n, self.inference_, self.hyperparameters_,
        )  # fmt: skip
        self._specs = choose_components(kernels, self.n_components, n, chosen)
        self.kernels_ = [spec.name for spec in self._specs]
        inference = self._with_hyperparameters(chosen)
        with torch.inference_mode(False), progress_bar("fitting", self.verbose) as bar:
            training = self._training(self.X_train_, self.y_train_, alpha, weight)
            try:
                self._units, training, search = choose_inputs(
                    self.X_train_,
                    self._units,
                    training,
                    self._search(bar, weight),
                    last_units,
                    self._choice("rank_features"),
                    self._choice("rotate_features"),
                )
                self._specs = [search.spec, *search.others]
                student = self.residuals == "student"
                fitted = fit_with_law(inference, training, search, known, student)
            except torch.linalg.LinAlgError as error:
                raise np.linalg.LinAlgError(
                    f'{error}: raise noise_variance or alpha, or take dtype="float64"'
                ) from error
        self._publish(fitted)
        self._keep_parameters()
        self._warn(fitted.result)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_goes_on(self, inputs: Array, names: list[str]) -> None:
        """Check that a warm start has the features of the last fit, whose names these are."""
        before, now = self.X_train_.shape[1], list(getattr(self, "feature_names_in_", []))
        if inputs.shape[1] != before:
            raise ValueError(
                f"warm_start needs the {before} features of the last fit, got {inputs.shape[1]}"
            )
        if names and now and now != names:
            raise ValueError(f"warm_start needs the columns of the last fit, {names}, got {now}")

    def _check_parameters(self) -> None:
        check_choices(self, _CHOICES)
        check_integers(self, _LEAST, optional=_OPTIONAL)
        for name in ("rank_features", "rotate_features"):
            self._choice(name)
        for name in ("learn_inducing", "warm_start"):
            check_truth(name, getattr(self, name))
        if self.n_jobs is not None and (self.n_jobs == 0 or not is_integer(self.n_jobs, -np.inf)):
            raise ValueError(
                f"n_jobs must be an integer other than 0, or None; got {self.n_jobs!r}"
            )
        if not isinstance(self.checkpoint, str | os.PathLike | None):
            raise ValueError(f"checkpoint must be a path or None, got {self.checkpoint!r}")
        noise: Any = self.noise_variance
        if noise is not None and not (isinstance(noise, Real) and 0 <= float(noise) < np.inf):
            raise ValueError(f"noise_variance must be a number of at least 0, got {noise!r}")

    def _choice(self, name: str) -> Literal["auto"] | bool:
        return checked_choice(name, getattr(self, name))

    def _kernels(self) -> list[KernelSpec]:
        """The kernels that the parameters describe, of one component."""
        several = isinstance(self.kernel, list | tuple)
        kernels: list[Any] = list(self.kernel) if several else [self.kernel]
        if not kernels:
            raise ValueError("kernel must not be an empty list")
        own = any(isinstance(one, Kernel) for one in kernels)
        if own and self._choice("rank_features") is True:
            raise ValueError(
                'rank_features=True needs kernel="limit" or "tangent": your own kernel may depend '
                "on the number of inputs"
            )
        if self._choice("rotate_features") is True and any(map(takes_whole_inputs, kernels)):
            raise ValueError(
                "rotate_features=True would mix the pixels of images, which the kernel needs as "
                'they are: leave it at "auto" or False'
            )
        if len({takes_whole_inputs(kernel) for kernel in kernels}) > 1:
            raise ValueError(
                "kernel must not mix kernels of images, whose columns are not standardised, with "
                "others: their inputs differ"
            )
        for kernel in kernels:
            check_neighbours(self.inference, kernel)
        columns = self.columns_
        groups = columns.groups if columns is not None and columns.indicators else None
        return [
            KernelSpec(
                kernel,
                self.activation,
                self.depth,
                self.block_bias,
                groups=None if isinstance(kernel, Kernel) else groups,
            )
            for kernel in kernels
        ]

    def _check_weight(self, sample_weight: ArrayLike | None, X: ArrayLike) -> Array | None:
        """Weights relative to the mean of the positive ones; zeros stay."""
        if sample_weight is None:
            return None
        weight = np.asarray(
            _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        )
        if np.count_nonzero(weight) < 2:
            raise ValueError("sample_weight must be positive for at least two samples")
        weight = weight / weight.max()  # whose mean neither overflows nor vanishes
        if weight[weight > 0].min() < 1e-15:
            raise ValueError("positive values of sample_weight must be within a factor of 1e15")
        return np.asarray(weight / weight[weight > 0].mean())

    def _chosen_inference(self, name: str, n: int) -> Inference:
        nearest = Nearest(self.n_neighbors, self.residuals == "student")
        sparse = Sparse(self.n_inducing, self.learn_inducing)
        images = any(takes_whole_inputs(spec.kernel) for spec in self._kernels())
        return choose_inference(
            name,
            n,
            (sparse, nearest) if images else (nearest, sparse),
            self.max_exact_samples,
            torch_device(self.device),
            getattr(torch, self.dtype),
        )

    def _with_hyperparameters(self, chosen: Inference) -> Inference:
        if self.hyperparameters_ == "laplace":
            return Integrated()
        if self.hyperparameters_ == "nuts":
            from resnet_gp.bayes.averaged import Averaged

            return Averaged(self.n_chains, self.n_draws, self._processes(), self.verbose)
        return chosen

    def _processes(self) -> int:
        if self.n_jobs is None:
            return 1
        return self.n_jobs if self.n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + self.n_jobs)

    def _search(self, bar: Any, weight: Array | None = None) -> Search:
        noise = self.noise_variance
        if noise is not None:
            self._need_one_scale("noise_variance")
            noise = float(noise / np.ravel(self._units.y.scale)[0] ** 2)
        checkpoint = None
        if self.checkpoint is not None:
            checkpoint = Checkpoint(self.checkpoint, self._digest(weight))
        return Search(
            self._specs[0],
            check_random_state(self.random_state),
            bar,
            with_priors=self.hyperparameters_ in ("laplace", "map", "nuts"),
            fixed=self.hyperparameters_ == "fixed",
            noise_variance=noise,
            max_iter=self.max_iter,
            n_restarts=self.n_restarts,
            max_samples=self.hyperparameter_samples,
            checkpoint=checkpoint,
            others=tuple(self._specs[1:]),
        )

    def _digest(self, weight: Array | None) -> str:
        """Identifies the data and all parameters that the hyperparameters depend on."""
        parameters = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in _NOT_DIGESTED
        }
        alpha = np.asarray(self.alpha, dtype=np.float64)
        return digest_of(parameters, [self.X_train_, self.y_train_, alpha, weight])

    def _pack(self) -> dict[str, torch.Tensor]:
        kernels = [on_inputs(kernel, self._units) for kernel in self._kernels()]
        alone = [replace(spec, n_components=1) for spec in self._specs]
        if any(spec not in kernels for spec in alone):
            raise ValueError(
                "kernel, activation, depth and block_bias must be those of the fit: fit again, or "
                "set them back"
            )
        components = [
            [kernels.index(one), spec.n_components]
            for one, spec in zip(alone, self._specs, strict=True)
        ]
        own = {"components": torch.tensor(components)}
        return self._fitted.tensors() | self._units.tensors() | own

    def _unpack(self, state: dict[str, torch.Tensor]) -> None:
        self._units = Units.from_tensors(state)
        with torch.inference_mode(False):
            training = self._training(self.X_train_, self.y_train_, None)
            tensors = {name: self._tensor(value) for name, value in state.items()}
            kernels = [on_inputs(kernel, self._units) for kernel in self._kernels()]
            self._specs = [
                replace(kernels[index], n_components=count)
                for index, count in state["components"].tolist()
            ]
            search = self._search(None)
            inference = self._with_hyperparameters(self._chosen_inference(self.inference_, 0))
            self._fitted = inference.restore(training, search, tensors)
            self._fitted = with_saved_residual_law(self._fitted, training, state)
        self.__dict__.update(self._fitted.attributes)

    def _warn(self, result: FitResult) -> None:
        if result.outcome is Outcome.INTERRUPTED:
            warnings.warn(
                "the fit was interrupted and holds the best hyperparameters so far; "
                "warm_start=True continues from there",
                ConvergenceWarning,
                stacklevel=4,
            )
        elif result.outcome is Outcome.CUT_SHORT:
            _LOGGER.info(
                "%d iterations, which are few to save time; max_iter sets their number",
                result.iterations,
            )
        elif result.outcome is Outcome.OUT_OF_ITERATIONS:
            warnings.warn(
                f"L-BFGS-B stopped after {result.iterations} iterations without converging "
                f"({result.message}); raise max_iter or n_restarts",
                ConvergenceWarning,
                stacklevel=4,
            )
