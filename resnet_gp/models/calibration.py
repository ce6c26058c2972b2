"""Probabilities from scores: a softmax whose temperature is fitted to held-out scores."""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

#: Bounds of log b.
LOG_SLOPES = (-5.0, 8.0)


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
    """Mean log-loss of softmax(logits), in nats, with labels as ``fit_slope`` smooths them."""
    truth = smoothed_labels(labels, logits.shape[1], pseudo_counts)
    return -float((truth * torch.log_softmax(logits, 1)).sum(1).mean())


def fit_slope(scores: Tensor, labels: Tensor, pseudo_counts: float = 0.5) -> float:
    """Fit the inverse temperature b of softmax(b scores) to labels.

    Minimises the log-loss, which is convex in b, for b from e^-5 to e^8.

    Args:
        scores: ``n x C``, each predicted without the label of its sample.
        labels: integers from 0 to C - 1, ``n``.
        pseudo_counts: see ``smoothed_labels``.
    """
    truth = smoothed_labels(labels, scores.shape[1], pseudo_counts)

    def loss(log_slope: float) -> float:
        return -float((truth * torch.log_softmax(math.exp(log_slope) * scores, 1)).sum())

    found = minimize_scalar(loss, bounds=LOG_SLOPES, method="bounded", options={"xatol": 1e-4})
    return math.exp(float(found.x))
