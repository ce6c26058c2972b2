"""Which way of inference a classifier takes."""

from __future__ import annotations

from resnet_gp.fitting.classifier_nearest import NearestFit
from resnet_gp.fitting.classifier_search import ClassifierFit, ExactMemberFit, SparseMemberFit

_EXACT_SAMPLES = 5000


def choose_fit(
    inference: str, n_rows: int, n_neighbors: int | None, n_inducing: int
) -> ClassifierFit:
    """Return the inference of that name; "auto" is exact up to 5000 rows, then nearest."""
    exact, nearest = ExactMemberFit(), NearestFit(n_neighbors)
    if inference == "auto":
        return exact if n_rows <= _EXACT_SAMPLES else nearest
    every: tuple[ClassifierFit, ...] = (exact, nearest, SparseMemberFit(n_inducing))
    return {one.name: one for one in every}[inference]
