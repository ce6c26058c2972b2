"""Ranks of models over data sets, and tests of their differences (Demsar 2006).

J. Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", Journal of Machine
Learning Research 7: Friedman's test for all models, Nemenyi's critical difference for their pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2, rankdata, studentized_range


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks of models (columns) over sets (rows): the least value has rank 1, ties share."""
    return _ranks(values).mean(0)


def friedman(values: np.ndarray) -> float:
    """Friedman's p-value of the hypothesis that no model (column) is better on the sets (rows)."""
    n_sets, k = values.shape
    if k == 1:
        return 1.0
    centred = _ranks(values) - (k + 1) / 2
    between = n_sets * np.square(centred.mean(0)).sum()
    within = np.square(centred).sum() / (n_sets * (k - 1))
    return float(chi2.sf(between / within, k - 1)) if within else 1.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks in each row; values that agree to nine digits are ties, as sums in other orders are."""
    digits = np.array([f"{value:.9g}" for value in values.ravel()], dtype=float)
    return np.asarray(rankdata(digits.reshape(values.shape), axis=1))


def critical_distance(k: int, n_sets: int, level: float = 0.05) -> float:
    """Nemenyi's critical difference: mean ranks further apart than this differ significantly."""
    q = studentized_range.ppf(1 - level, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * n_sets)))


def alike(ranks: np.ndarray, distance: float) -> list[tuple[float, float]]:
    """Ends of the longest ranges of two or more mean ranks that are no wider than ``distance``."""
    ordered, found = np.sort(ranks), list[tuple[float, float]]()
    for first in ordered:
        last = ordered[ordered <= first + distance][-1]
        if last > first and (not found or last > found[-1][1]):
            found.append((float(first), float(last)))
    return found


def critical_difference(ranks: np.ndarray, names: Sequence[str], n_sets: int, axis: Any) -> None:
    """Draw mean ranks on a line, the best on the left; bars join models that do not differ.

    Args:
        ranks: mean ranks of the k models over ``n_sets`` sets.
        axis: a Matplotlib axis.
    """
    k, distance = len(ranks), critical_distance(len(ranks), n_sets)
    axis.set(xlim=(0.4, k + 0.6), ylim=(-1.1 - 0.5 * ((k + 1) // 2), 1.4))
    axis.axis("off")
    axis.plot([1, k], [0, 0], color="black", linewidth=1)
    for rank in range(1, k + 1):
        axis.plot([rank, rank], [0, 0.15], color="black", linewidth=1)
        axis.text(rank, 0.25, str(rank), ha="center", va="bottom")
    axis.plot([1, 1 + distance], [0.95, 0.95], "|-", color="black")
    axis.text(1 + distance / 2, 1.05, f"critical difference {distance:.2f}", ha="center")
    bars = alike(ranks, distance)
    for i, (first, last) in enumerate(bars):
        height = -0.25 - 0.2 * i
        axis.plot([first - 0.03, last + 0.03], [height, height], color="tab:blue", linewidth=4)
    for place, i in enumerate(np.argsort(ranks, kind="stable")):
        left = place < (k + 1) // 2
        height = -0.6 - 0.2 * len(bars) - 0.5 * (place if left else k - 1 - place)
        end = 0.8 if left else k + 0.2
        axis.plot([ranks[i], ranks[i], end], [0, height, height], color="0.4", linewidth=0.8)
        text = f" {names[i]} {ranks[i]:.2f} "
        axis.text(end, height, text, ha="right" if left else "left", va="center")
