"""Gaussian process classification as a scikit-learn estimator."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from resnet_gp.estimators.checks import (
    check_choices,
    check_integers,
    last_fit_kept,
    naming_far_values,
)
from resnet_gp.estimators.encode import Inputs
from resnet_gp.estimators.persistence import Persistent
from resnet_gp.estimators.tables import TableInputs, declares_columns
from resnet_gp.fitting.classifier_choice import choose_fit
from resnet_gp.fitting.classifier_search import ClassifierFit, Problem, Solution
from resnet_gp.fitting.fingerprint import structure_of
from resnet_gp.fitting.kernel_settings import KernelSetting, kernel_settings
from resnet_gp.fitting.kernel_spec import check_neighbours, takes_whole_inputs
from resnet_gp.models.calibration import Link, class_scores
from resnet_gp.models.ensemble import Ensemble
from resnet_gp.models.turn import Turn
from resnet_gp.progress import bars, progress_bar

Array = NDArray[np.float64]
_OPTIONAL = ("lengthscale_", "n_neighbors_")
_LOGGER = logging.getLogger("resnet_gp")


class ResNetGPClassifier(TableInputs, Persistent, ClassifierMixin, BaseEstimator):
    r"""Gaussian process classification with the kernels of infinitely wide and deep ResNets.

    Regression on targets of +-1, one class against the rest. Each kernel of a grid (horizons, with
    or without an input bias, before or after training) gets the noise level of the least squared
    leave-one-out error, which has a closed form; predictions are averaged with weights
    error^(-n / 10). Up to three tenths of the weight are on kernels with lengthscales, those of a
    regression on 50 to 400 rows; beyond 800 rows they are along the directions in which its means
    change most, if these predict other rows better by two standard errors. In the others, all
    inputs count alike. Class probabilities are a function of the average, whose two parameters are
    fitted to leave-one-out predictions. Fits are deterministic but for ``random_state``, which
    draws subsets of large data.

    Beyond 5000 rows, each prediction is conditioned on its nearest training rows. From the best
    kernel of the grid, a lengthscale of each input, the horizon, the noise and the link are learned
    by the likelihood of left-out labels. The same is done along the directions in which the means
    change most and, where features are skewed, with normal scores of the features; the kernels are
    averaged in the shares that predict further left-out labels best.

    Parameters
    ----------
    kernel : {"both", "limit", "tangent"} or gpytorch.kernels.Kernel, default="both"
        The network at initialisation ("limit"), trained in the lazy regime ("tangent"), or both,
        averaged ("both"; with "nearest" the better one). A GPyTorch kernel keeps its
        hyperparameters; only the noise is chosen.
    categorical_features : "auto", None, or array-like of indices, names or bool, default="auto"
        Columns of categories, which become one indicator for each category. "auto" takes those of
        a pandas data frame that hold texts or have the dtype "category", and tries numbers of 3 to
        12 different values both as numbers and as categories, unless the kernel is given; with
        "nearest" a kernel sees both, and its lengthscales weigh them. A list adds to the columns of
        texts the ones that it names. Missing values of a data frame are a category of their own,
        or, of a column of numbers, take its median while one more feature marks them. None treats
        all columns as numbers.
    inference : {"auto", "exact", "nearest", "sparse"}, default="auto"
        "exact" factorises n x n matrices. "nearest" conditions each prediction on its
        ``n_neighbors`` nearest training rows, and learns lengthscales: for any number of rows, in
        memory that grows with their number. "sparse" regresses on ``n_inducing`` Nystroem features
        of the grid's kernels, in closed form. "auto" is exact up to 5000 rows, then nearest, or
        sparse with a kernel of images, for which "nearest" is refused.
    n_neighbors : int or None, default=None
        Number of training rows on which "nearest" conditions a prediction, at most all others.
        None for the least of 64, 128 and 256 whose log-loss of left-out rows is within half a
        percent of the best; the choice is in ``n_neighbors_``. Time per prediction grows with the
        third power.
    n_inducing : int, default=500
        Largest number of inducing points of each kernel.
    random_state : int, RandomState instance or None, default=None
        Draws the rows on which kernels and inducing points are chosen, of large data.
    verbose : bool or None, default=None
        Whether to show a progress bar; None shows one on a terminal once a fit takes ten seconds.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    inference_ : {"exact", "nearest", "sparse"}
        The inference that was used.
    n_neighbors_ : int
        Only with "nearest", of all members.
    kernel_names_ : ndarray of shape (n_members,)
        "limit", "tangent" or "given" for each member of the average; "nearest" has one to three.
    horizons_, input_bias_variances_ : ndarray of shape (n_members,)
        T and sigma_in^2 of each member; NaN for a given kernel.
    views_ : ndarray of shape (n_members,)
        Which view of the features a member sees, counted from 0 among those that there are: as they
        are; with columns of few values as categories; with the ranks of skewed or long-tailed
        features among the training rows in their place; and all of these over ``lengthscale_``.
        With "nearest", the first three together; the normal scores of features of more than 12
        values in their place, beside the categories; and the first along learned directions.
    noise_variances_ : ndarray of shape (n_members,)
        Relative to the mean variance of the kernel.
    weights_ : ndarray of shape (n_members,)
        Of the members in the average. Kernels of less than a tenth of the largest are left out;
        beyond 800 rows, kernels are compared on 800 of them, and at most five are kept.
    lengthscale_ : ndarray of shape (n_inputs,), or (n_members, n_inputs) with "nearest"
        Of each input that the last view, or with "nearest" the member, sees, in its standard
        deviations: columns as numbers, then ranks of the skewed ones, then indicators of
        categories, then normal scores; NaN for those that a member does not see. Of a member along
        directions, those along each input alone. Not for a given kernel.
    sharpness_, floor_ : float
        b and e of the probabilities softmax(b log softplus((1 + score) / (2 e))).
    columns_ : resnet_gp.columns.Columns or None
        How a data frame, or an array with categories, becomes features, whose names are
        ``columns_.feature_names``. None for an array of numbers.
    X_train_ : ndarray of shape (n_samples, n_features)
        Features of the training rows.
    y_train_ : ndarray of shape (n_samples,)
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> ResNetGPClassifier().fit(X, y).predict_proba(X[:1]).round(1)
    array([[1., 0., 0.]])
    """

    _OF_THE_FIT = ("categorical_features",)
    _OF_THE_FILE = ("categorical_features", "kernel")
    _posterior: Ensemble
    _kernel_structure: str
    _inputs: Inputs

    def __init__(
        self,
        kernel: Literal["both", "limit", "tangent"] | Kernel = "both",
        *,
        categorical_features: Literal["auto"] | ArrayLike | None = "auto",
        inference: Literal["auto", "exact", "nearest", "sparse"] = "auto",
        n_neighbors: int | None = None,
        n_inducing: int = 500,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | None = None,
    ) -> None:
        self.kernel = kernel
        self.categorical_features = categorical_features
        self.inference = inference
        self.n_neighbors = n_neighbors
        self.n_inducing = n_inducing
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike) -> ResNetGPClassifier:
        """Choose the kernels and condition on the labels.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)
            A data frame may have missing values, booleans, and columns of categories, see
            ``categorical_features``; an array has finite numbers, besides the categories that it
            declares. Frames of dates or prose need ``skrub.tabular_pipeline``.
        y : array-like of shape (n_samples,)
            Labels of at least two classes, numbers or texts.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad values in X (the column is named if it is of a data frame) or y, or bad parameters.
            The last fit is kept.
        """
        with last_fit_kept(self):
            self._fit(X, y)
        return self

    def _fit(self, X: ArrayLike, y: ArrayLike) -> None:
        self._check_parameters()
        if hasattr(y, "isna") and np.any(y.isna()):  # scikit-learn cannot look at pandas.NA
            raise ValueError("y must hold labels of one kind, none missing")
        self.X_train_, labels = self._learn_features(X, y, dtype=np.float64)
        self.y_train_ = np.array(labels)
        try:
            check_classification_targets(self.y_train_)
            self.classes_, labels = np.unique(self.y_train_, return_inverse=True)
        except TypeError as error:
            raise ValueError(f"y must hold labels of one kind, none missing: {error}") from error
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least 2 classes, got 1 class: {self.classes_[0]}")
        fit = self._fit_of(self.inference, len(labels))
        with naming_far_values("X", self._feature_names):
            self._inputs = self._make_inputs(fit)
            inputs = self._inputs(self.X_train_)
        self.inference_ = fit.name
        _LOGGER.info("inference on %d rows: %s", len(labels), self.inference_)
        settings = kernel_settings(self._kernel_name, self._views(fit))
        with progress_bar("fitting", self.verbose, fit.steps(settings)) as bar:
            problem = Problem(
                inputs,
                torch.from_numpy(labels.astype(np.int64)),
                settings,
                self._given,
                check_random_state(self.random_state),
                bar,
            )
            solution = fit.solve(problem)
        self._publish(solution, fit)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)

        Returns
        -------
        labels : ndarray of shape (n_samples,)

        Warns
        -----
        UserWarning
            X has categories that training had none of, for which all indicators are 0, or missing
            numbers where none were missing, which take the median.
        """
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, in the order of ``classes_``.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
        """
        x = self._new_inputs(X)
        return torch.softmax(self._logits(x), 1).numpy()

    def decision_function(self, X: ArrayLike) -> Array:
        """Log-odds of the second of two classes, or logits of all classes.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        logits = self._logits(self._new_inputs(X)).numpy()
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def latent_mean_and_variance(self, X: ArrayLike) -> tuple[Array, Array]:
        """Posterior mean and variance of the latent functions, on the scale of targets of +-1.

        Parameters
        ----------
        X : array-like or pandas.DataFrame of shape (n_samples, n_features_in_)

        Returns
        -------
        mean, variance : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Two classes share one function.
        """
        x = self._new_inputs(X)
        with bars(self.verbose):
            mean, variance = self._posterior.mean_and_variance(x)
        if mean.shape[1] == 1:
            return mean[:, 0].numpy(), variance[:, 0].numpy()
        return mean.numpy(), variance.numpy()

    def _check_parameters(self) -> None:
        if not isinstance(self.kernel, Kernel) and self.kernel not in ("both", "limit", "tangent"):
            raise ValueError(
                f'kernel must be "both", "limit", "tangent" or a GPyTorch kernel, '
                f"got {self.kernel!r}"
            )
        check_choices(self, {"inference": ("auto", "exact", "nearest", "sparse")})
        check_neighbours(self.inference, self.kernel)
        least = {"n_neighbors": 1, "n_inducing": 1}
        check_integers(self, least, optional=("n_neighbors",))

    def _make_inputs(self, fit: ClassifierFit) -> Inputs:
        # Declared columns are the categories, and a given kernel expects the columns of X.
        given, declared = self._given is not None, self.categorical_features
        tries = not (declared is None or declares_columns(declared) or given)
        indicators = [] if self.columns_ is None else self.columns_.indicators
        whole = takes_whole_inputs(self._given)
        scores = fit.sees_scores and not given
        return Inputs(self.X_train_, indicators, tries, not given, scores, whole)

    def _views(self, fit: ClassifierFit, turn: Turn | None = None) -> list[tuple[int, ...]]:
        views = fit.views(self._inputs.blocks, self._inputs.scores)
        return views if turn is None else [*views, turn.places]

    @property
    def _given(self) -> Kernel | None:
        return self.kernel if isinstance(self.kernel, Kernel) else None

    @property
    def _kernel_name(self) -> str:
        return "given" if isinstance(self.kernel, Kernel) else self.kernel

    def _fit_of(self, inference: str, n_rows: int) -> ClassifierFit:
        images = takes_whole_inputs(self.kernel)
        return choose_fit(inference, n_rows, self.n_neighbors, self.n_inducing, images)

    def _publish(self, solution: Solution, fit: ClassifierFit) -> None:
        self._posterior = solution.posterior
        self._keep_parameters()
        self._kernel_structure = structure_of(self.kernel)
        self.sharpness_, self.floor_ = solution.link
        chosen = solution.settings
        self.kernel_names_ = np.array([setting.name for setting in chosen])
        self.horizons_ = np.array([setting.horizon for setting in chosen])
        self.input_bias_variances_ = np.array([one.input_bias_variance for one in chosen])
        views = self._views(fit, solution.posterior.turn)
        self.views_ = np.array([views.index(one.active_dims) for one in chosen])
        self.noise_variances_ = np.array([one.noise for one in solution.posterior.members])
        self.weights_ = solution.posterior.weights.numpy().copy()
        for name in _OPTIONAL:
            self.__dict__.pop(name, None)  # of an earlier fit
        self.__dict__.update(solution.attributes)

    def _pack(self) -> dict[str, Tensor]:
        if structure_of(self.kernel) != self._kernel_structure:
            raise ValueError("kernel must be that of the fit: fit again, or set it back")
        return self._posterior.tensors()

    def _unpack(self, state: dict[str, Tensor]) -> None:
        self._kernel_structure = structure_of(self.kernel)
        fit = self._fit_of(self.inference_, len(self.X_train_))
        self._inputs = self._make_inputs(fit)
        x = self._inputs(self.X_train_)
        views = self._views(fit, Turn.from_tensors(state))
        kernels = [
            fit.kernel(
                KernelSetting(str(name), float(horizon), float(bias), views[view]), self._given
            )
            for name, horizon, bias, view in zip(
                self.kernel_names_, self.horizons_, self.input_bias_variances_, self.views_,
                strict=True,
            )
        ]  # fmt: skip
        self._posterior = Ensemble.from_tensors(state, fit.member, kernels, x)

    def _new_inputs(self, X: ArrayLike) -> Tensor:
        features = self._features(X)
        with naming_far_values("X", self._feature_names):
            return self._inputs(features)

    def _logits(self, x: Tensor) -> Tensor:
        with bars(self.verbose):
            scores = class_scores(self._posterior.mean(x))
        return Link(self.sharpness_, self.floor_).logits(scores)
