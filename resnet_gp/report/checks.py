"""Checks of measurements against predictions, and the verdicts on a family of checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

LEVEL = 0.01
Kind: TypeAlias = Literal["equals", "at most", "differs"]


@dataclass(frozen=True)
class Check:
    """A measured number and its prediction.

    Args:
        name: the measured quantity.
        estimate: its measured value.
        standard_error: of the estimate; None for a number without noise.
        prediction: its value in theory.
        kind: "equals"; "at most" for an upper bound; "differs" if the data have to rule it out.
        p_value: of a test other than the z-test; the estimate is then its statistic.
        group: heading of the row in which a report sums up several checks; the name by default.
    """

    name: str
    estimate: float
    standard_error: float | None
    prediction: float | None
    kind: Kind = "equals"
    p_value: float | None = None
    group: str = ""

    @property
    def z(self) -> float | None:
        """z-score: (estimate - prediction) / standard error, or the quantile of ``p_value``."""
        if self.p_value is not None:
            return float(-special.ndtri(max(self.p_value, 1e-300) / 2))
        error = self.standard_error
        if not error or not math.isfinite(error) or self.prediction is None:
            return None
        return (self.estimate - self.prediction) / error

    @property
    def p(self) -> float:
        """p-value of the prediction; 0 or 1 for numbers without noise.

        Where a number is not known, no check passes.
        """
        if self.p_value is not None:
            unknown = math.isnan(self.p_value)
            return float(self.kind == "differs") if unknown else self.p_value
        if self.z is None or math.isnan(self.z):
            return float(self._holds_without_noise())
        one_sided = self.kind == "at most"
        return float(special.ndtr(-self.z) if one_sided else 2 * special.ndtr(-abs(self.z)))

    def _holds_without_noise(self) -> bool:
        if self.prediction is None or math.isnan(self.estimate) or self.standard_error:
            return self.kind == "differs"
        if self.kind == "at most":
            return self.estimate <= self.prediction
        return self.estimate == self.prediction


def equality_checks(
    names: Sequence[str],
    estimates: ArrayLike,
    standard_errors: ArrayLike,
    predictions: ArrayLike,
    *,
    group: str = "",
) -> list[Check]:
    """Return one "equals" check for each name."""
    rows = zip(*map(np.ravel, (estimates, standard_errors, predictions)), strict=True)
    return [
        Check(name, float(estimate), float(error), float(prediction), group=group)
        for name, (estimate, error, prediction) in zip(names, rows, strict=True)
    ]


def check_of_test(name: str, test: Any, kind: Kind = "equals") -> Check:
    """Return the check of a SciPy test, whose statistic is 0 if the prediction holds exactly."""
    return Check(name, float(test.statistic), None, 0.0, kind, float(test.pvalue))


@dataclass(frozen=True)
class Verdict:
    """A check with its adjusted p-value, and whether it passed."""

    check: Check
    adjusted_p: float
    passed: bool


def judge(checks: Sequence[Check], level: float = LEVEL) -> list[Verdict]:
    """Judge a family of checks by Holm's method; returns their verdicts in the same order.

    If every prediction is true, the probability that any check of "equals" or "at most" fails is at
    most the level, whatever the dependence between them. Checks of kind "differs" form a family of
    their own, and pass only if equality is rejected.
    """
    verdicts: dict[int, Verdict] = {}
    for differs in (False, True):
        members = [i for i, check in enumerate(checks) if (check.kind == "differs") == differs]
        adjusted = holm([checks[i].p for i in members])
        for i, p in zip(members, adjusted, strict=True):
            verdicts[i] = Verdict(checks[i], p, (p < level) == differs)
    return [verdicts[i] for i in range(len(checks))]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down method; NaN counts as 0."""
    p = np.nan_to_num(np.asarray(p_values, dtype=float), nan=0.0)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return [float(value) for value in adjusted]
