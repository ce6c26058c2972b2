"""Which way of inference a classifier takes."""

from __future__ import annotations

from resnet_gp.fitting.classifier_nearest import NearestFit
from resnet_gp.fitting.classifier_search import ClassifierFit, ExactMemberFit, SparseMemberFit

_EXACT_SAMPLES = 5000


def choose_fit(
    inference: str, n_rows: int, n_neighbors: int | None, n_inducing: int, images: bool
) -> ClassifierFit:
    """The inference of that name; "auto" is exact up to 5000 rows, then nearest, or sparse.

    Args:
        inference: the estimator's parameter.
        n_rows: of the training data.
        n_neighbors, n_inducing: for those that need them.
        images: whether the kernel is of images, and too dear for nearest rows.
    """
    exact, nearest, sparse = ExactMemberFit(), NearestFit(n_neighbors), SparseMemberFit(n_inducing)
    if inference == "auto":
        return exact if n_rows <= _EXACT_SAMPLES else sparse if images else nearest
    every: tuple[ClassifierFit, ...] = (exact, nearest, sparse)
    return {one.name: one for one in every}[inference]
