"""Predictions against measurements, and the verdict on a whole family of them.

Nothing here knows what was measured. A family of tests is judged at one level by Holm's method,
which holds whatever the dependence between the tests: if every prediction is true, the chance that
any check fails is at most the level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.01


@dataclass(frozen=True)
class Check:
    """A measured number beside its prediction.

    Args:
        name: what was measured.
        estimate: its value.
        standard_error: of the estimate; None for a number without noise.
        prediction: what theory says.
        kind: "equals"; "at most", a bound; "differs", where theory says that the number is *not*
            the given one, and the check passes if the data show it.
        p_value: of a test that is no z-test, with the estimate as its statistic.
        group: what a report calls the checks that it sums up in one row; the name if left out.
    """

    name: str
    estimate: float
    standard_error: float | None
    prediction: float | None
    kind: Literal["equals", "at most", "differs"] = "equals"
    p_value: float | None = None
    group: str = ""

    @property
    def z(self) -> float | None:
        """(estimate - prediction) / standard error; from the p-value if there is one."""
        if self.p_value is not None:
            return float(-special.ndtri(max(self.p_value, 1e-300) / 2))
        if not self.standard_error or self.prediction is None:
            return None
        return (self.estimate - self.prediction) / self.standard_error

    @property
    def p(self) -> float:
        """Probability of so large a deviation where the prediction is the truth.

        0 or 1 for numbers without noise.
        """
        if self.p_value is not None:
            return self.p_value
        if self.z is None or math.isnan(self.z):
            return float(self._holds_without_noise())
        one_sided = self.kind == "at most"
        return float(special.ndtr(-self.z) if one_sided else 2 * special.ndtr(-abs(self.z)))

    def _holds_without_noise(self) -> bool:
        if self.prediction is None or math.isnan(self.estimate) or self.standard_error is not None:
            return False
        if self.kind == "at most":
            return self.estimate <= self.prediction
        return self.estimate == self.prediction


@dataclass(frozen=True)
class Verdict:
    """A check with its p-value among the family, and whether it passed."""

    check: Check
    adjusted_p: float
    passed: bool


def judge(checks: Sequence[Check], level: float = LEVEL) -> list[Verdict]:
    """Verdicts on a family of checks.

    Predictions fail where Holm's method rejects them at this level; "differs" passes where it
    rejects, in a family of its own.
    """
    verdicts: dict[int, Verdict] = {}
    for differs in (False, True):
        members = [i for i, check in enumerate(checks) if (check.kind == "differs") == differs]
        adjusted = holm([checks[i].p for i in members])
        for i, p in zip(members, adjusted, strict=True):
            verdicts[i] = Verdict(checks[i], p, (p < level) == differs)
    return [verdicts[i] for i in range(len(checks))]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method; NaN counts as 0."""
    p = np.nan_to_num(np.asarray(p_values, dtype=float), nan=0.0)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return [float(value) for value in adjusted]
