"""Gaussian process classification as a scikit-learn estimator."""

from __future__ import annotations

import logging

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from tqdm import tqdm

from resnet_gp.activations import get_activation
from resnet_gp.estimators.kernel_settings import KernelSetting, kernel_settings, make_kernel
from resnet_gp.estimators.encode import make_inputs
from resnet_gp.models.calibration import fit_slope
from resnet_gp.models.ensemble import Ensemble, ExactMember
from resnet_gp.models.kernel_search import Candidate, on_all_rows, search

Array = NDArray[np.float64]
logger = logging.getLogger("resnet_gp")

NOISE_LEVELS = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0)
# Above so many samples, the kernels are compared on some of them, and fewer are kept.
_SEARCH_SAMPLES = 800
_MEMBERS, _MEMBERS_ABOVE = 10, 4


class ResNetGPClassifier(ClassifierMixin, BaseEstimator):
    def __init__(
        self,
        kernel: str | Kernel = "both",
        *,
        activation: str = "relu",
        negative_slope: float = 0.01,
        categorical_features: object = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | None = None,
    ) -> None:
        self.kernel = kernel
        self.activation = activation
        self.negative_slope = negative_slope
        self.categorical_features = categorical_features
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike) -> ResNetGPClassifier:
        inputs, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least 2 classes, got 1 class: {self.classes_[0]!r}")
        self._inputs = make_inputs(inputs, self.categorical_features)
        x, labels = self._inputs(inputs), torch.from_numpy(labels)
        targets = one_against_rest(labels, len(self.classes_))
        offset = targets.mean(0)
        chosen = self._search(x, targets - offset, labels)
        self._publish(chosen, x, targets - offset, offset)
        held_out = sum(c.held_out.mean for c in chosen) / len(chosen) + offset
        self.slope_ = fit_slope(all_scores(held_out), labels)
        return self

    def predict_proba(self, X: ArrayLike) -> Array:
        return torch.softmax(self._logits(X), 1).numpy()

    def predict(self, X: ArrayLike) -> NDArray:
        return self.classes_[self._logits(X).argmax(1).numpy()]

    def _logits(self, X: ArrayLike) -> Tensor:
        check_is_fitted(self)
        x = self._inputs(validate_data(self, X, dtype=np.float64, reset=False))
        return self.slope_ * all_scores(self.posterior_.mean(x))

    def _settings(self) -> list[KernelSetting]:
        return kernel_settings(self.kernel, self._inputs.blocks)

    def _make(self, setting: KernelSetting) -> Kernel:
        return make_kernel(setting, self.activation, self.negative_slope)

    def _search(self, x: Tensor, targets: Tensor, labels: Tensor) -> list[Candidate]:
        rows = spread_rows(labels.numpy(), _SEARCH_SAMPLES, check_random_state(self.random_state))
        some = len(rows) < len(x)
        kernels = [self._make(setting) for setting in self._settings()]
        keep = _MEMBERS_ABOVE if some else _MEMBERS
        found = search(kernels, x[rows], targets[rows], NOISE_LEVELS, keep)
        if some:
            found = [on_all_rows(c, kernels[c.index], x, targets) for c in found]
        return found

    def _publish(self, chosen: list[Candidate], x, targets, offset) -> None:
        settings = self._settings()
        self.settings_ = [settings[c.index] for c in chosen]
        self.noise_variances_ = np.array([c.noise for c in chosen])
        members = [
            ExactMember(
                self._make(settings[c.index]), x, c.held_out.weights, c.scale,
                torch.tensor(c.noise), c.held_out.outputscale(targets),
            )
            for c in chosen
        ]  # fmt: skip
        self.posterior_ = Ensemble(members, offset)


def one_against_rest(labels: Tensor, n_classes: int) -> Tensor:
    """+1 for the class of a column, -1 for others, ``n x C``; two classes share one column."""
    targets = 2 * torch.nn.functional.one_hot(labels, n_classes).double() - 1
    return targets[:, 1:] if n_classes == 2 else targets


def all_scores(scores: Tensor) -> Tensor:
    """One score for each class, also where two classes share a column."""
    return torch.cat([-scores, scores], 1) if scores.shape[1] == 1 else scores


def spread_rows(labels: NDArray, count: int, generator: np.random.RandomState) -> NDArray:
    """At most ``count`` random rows, in which every class has its share."""
    order = generator.permutation(len(labels))
    if len(order) <= count:
        return np.arange(len(order))
    order = order[np.argsort(labels[order], kind="stable")]
    return order[np.linspace(0, len(order) - 1, count).round().astype(int)]
