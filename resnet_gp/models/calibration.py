"""Probabilities from scores: a link whose two parameters are fitted to held-out scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

#: Bounds of the logarithms of a link's parameters.
BOUNDS = ((-5.0, 8.0), (-8.0, 5.0))
_SPREAD = 2.0  # of the logarithms around 0, a priori
_FAR = -20.0  # below this, the softplus is the exponential


class Link(NamedTuple):
    """Class probabilities softmax(b log softplus((1 + score) / (2 e))).

    Regression on targets of +-1 predicts 2 p - 1, so that (1 + score) / 2 estimates p, and sums to
    1 over classes as p does. The power b sharpens it, as the inverse of a temperature does, and the
    softplus keeps it positive: it differs from a line by the floor e or less. For a large e, the
    logits are proportional to the scores.

    Attributes:
        sharpness: b.
        floor: e.
    """

    sharpness: float
    floor: float

    def logits(self, scores: Tensor) -> Tensor:
        """Unnormalised log probabilities, ``n x C``, of scores, ``n x C``."""
        return linked(scores, self.sharpness, self.floor)

    @classmethod
    def fit(cls, scores: Tensor, labels: Tensor, pseudo_counts: float = 0.5) -> Link:
        """The most probable link of held-out labels, with b and e log-normal around 1.

        Args:
            scores: ``n x C``, each predicted without the label of its sample.
            labels: integers from 0 to C - 1, ``n``.
            pseudo_counts: see ``smoothed_labels``.
        """
        truth = smoothed_labels(labels, scores.shape[1], pseudo_counts)

        def loss(logarithms: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            at = torch.from_numpy(logarithms).requires_grad_()
            logits = linked(scores, *at.exp())
            value = 0.5 * (at / _SPREAD).square().sum()
            value = value - (truth * torch.log_softmax(logits, 1)).sum()
            (gradient,) = torch.autograd.grad(value, at)
            return value.item(), gradient.numpy()

        with torch.enable_grad():
            found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=BOUNDS).x
        return cls(*np.exp(found).tolist())


def linked(scores: Tensor, sharpness: Tensor | float, floor: Tensor | float) -> Tensor:
    """The logits of a link, differentiable in all arguments."""
    shifted = (1 + scores) / (2 * floor)
    near = torch.nn.functional.softplus(shifted.clamp(min=_FAR)).log()
    return sharpness * torch.where(shifted < _FAR, shifted, near)


def class_scores(means: Tensor) -> Tensor:
    """One score for each class, also where two classes share a column."""
    return torch.cat([-means, means], 1) if means.shape[1] == 1 else means


def smoothed_labels(labels: Tensor, n_classes: int, pseudo_counts: float) -> Tensor:
    """One-hot labels, smoothed by ``pseudo_counts`` additional samples of each class.

    Where all held-out labels are predicted correctly, maximum likelihood asks for certainty;
    half a sample of each class (Krichevsky & Trofimov 1981) keeps probabilities 1 / n from it.

    Args:
        labels: integers, ``n``; the result is ``n x n_classes``.
        n_classes: C.
        pseudo_counts: of each class, in samples.
    """
    added = n_classes * pseudo_counts
    share = added / (len(labels) + added)
    one_hot = torch.nn.functional.one_hot(labels, n_classes).double()
    return (1 - share) * one_hot + share / n_classes


def log_loss(logits: Tensor, labels: Tensor, pseudo_counts: float = 0.5) -> float:
    """Mean log-loss of softmax(logits), in nats, with labels as ``Link.fit`` smooths them."""
    truth = smoothed_labels(labels, logits.shape[1], pseudo_counts)
    return -float((truth * torch.log_softmax(logits, 1)).sum(1).mean())
