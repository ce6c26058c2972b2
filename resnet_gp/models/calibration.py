"""From scores to probabilities: a softmax whose temperature is fitted to held-out scores."""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

_LOG_SLOPES = (-5.0, 8.0)


def smoothed_labels(labels: Tensor, n_classes: int, pseudo_counts: float) -> Tensor:
    """One-hot labels that share a mass of ``n_classes pseudo_counts`` samples with all classes.

    Where every held-out label is predicted rightly, the likelihood alone asks for certainty. With
    one half for each class (Krichevsky & Trofimov 1981) it asks for what n samples can tell.

    Args:
        labels: integers, ``n``.
        n_classes: C.
        pseudo_counts: of each class, in samples.

    Returns:
        ``n x C``; rows sum to one.
    """
    added = n_classes * pseudo_counts
    share = added / (len(labels) + added)
    one_hot = torch.nn.functional.one_hot(labels, n_classes).double()
    return (1 - share) * one_hot + share / n_classes


def fit_slope(scores: Tensor, labels: Tensor, pseudo_counts: float = 0.5) -> float:
    """The inverse temperature b for which softmax(b scores) predicts the labels best.

    Minimises the log-loss, which is convex in b, from e^-5 to e^8.

    Args:
        scores: ``n x C``, held out: the score of a sample must not have seen its label.
        labels: integers from 0 to C - 1, ``n``.
        pseudo_counts: see ``smoothed_labels``.
    """
    truth = smoothed_labels(labels, scores.shape[1], pseudo_counts)

    def loss(log_slope: float) -> float:
        return -float((truth * torch.log_softmax(math.exp(log_slope) * scores, 1)).sum())

    found = minimize_scalar(loss, bounds=_LOG_SLOPES, method="bounded", options={"xatol": 1e-4})
    return math.exp(float(found.x))
