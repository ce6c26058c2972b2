"""The inputs of kernels: standardised features, of which some are indicators of categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer
from torch import Tensor

from resnet_gp.fitting.ranks import RankingStandardiser, skewed_columns
from resnet_gp.fitting.standardise import Standardiser, is_constant

Array = NDArray[np.float64]

# With this many different numbers a column may hold codes of categories rather than a quantity.
_FEWEST, _MOST = 3, 12
_QUANTILES = 1000  # of a feature, between which its normal scores are interpolated
_FARTHEST = 3.0  # normal score: beyond, a rank says little


def scaler_of(values: Array, indicators: Sequence[slice], whole: bool = False) -> Standardiser:
    """Standardise ``n x d`` features, of which some slices are the indicators of one column each.

    The indicators of one column share one scale, so that together they have the variance of one
    feature; with a scale each, rare categories would be far from all others. All inputs are
    stretched so that their mean square does not depend on the number of categories. Features that
    are ``whole``, such as the pixels of an image, are left as they are.
    """
    if whole:
        return Standardiser.none(values.shape[1])
    plain = Standardiser.of(values)
    if not indicators:
        return plain
    scale = plain.scale.copy()
    for one in indicators:
        scale[one] = np.sqrt(values[:, one].var(axis=0).sum()) or 1.0
    extra = sum(one.stop - one.start - 1 for one in indicators)
    return Standardiser(plain.mean, scale / np.sqrt(len(scale) / (len(scale) - extra)))


class Expanded:
    """A view of features in which some columns of numbers are indicators of their values.

    A value that is new at prediction has no indicator: all are zero.

    Args:
        X: the features of the training rows.
        columns: indices of these columns.
        indicators: slices of further indicators among the features, of one column each.

    Attributes:
        n_indicators: of these columns; they are the first inputs.
    """

    def __init__(self, X: Array, columns: Sequence[int], indicators: Sequence[slice]) -> None:
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        self._encoder = ColumnTransformer([("nominal", one_hot, columns)], remainder="passthrough")
        values = np.asarray(self._encoder.fit_transform(X))
        sizes = [len(group) for group in self._encoder.named_transformers_["nominal"].categories_]
        self.n_indicators = sum(sizes)
        own = [slice(*ends) for ends in pairwise(np.cumsum([0, *sizes]).tolist())]
        moved = [sum(sizes) - sum(column < one.start for column in columns) for one in indicators]
        others = [
            slice(one.start + by, one.stop + by) for one, by in zip(indicators, moved, strict=True)
        ]
        self.scaler = scaler_of(values, [*own, *others])

    def __call__(self, X: Array) -> Tensor:
        """``n x d`` inputs."""
        return self.scaler(np.asarray(self._encoder.transform(X)))


class NormalScores:
    """Normal scores of some features: the standard normal quantiles of their ranks, standardised.

    Args:
        X: the features of the training rows.
        columns: indices of these features.
    """

    def __init__(self, X: Array, columns: Sequence[int]) -> None:
        count = min(_QUANTILES, len(X))
        self._columns = list(columns)
        self._quantiles = QuantileTransformer(
            n_quantiles=count, output_distribution="normal", subsample=None
        ).fit(X[:, self._columns])
        self._scaler = Standardiser.of(self._scores(X))

    def __call__(self, X: Array) -> Tensor:
        """``n x columns`` inputs."""
        return self._scaler(self._scores(X))

    def _scores(self, X: Array) -> Array:
        scores = self._quantiles.transform(X[:, self._columns])
        return np.asarray(np.clip(scores, -_FARTHEST, _FARTHEST))


class Inputs:
    """The inputs of kernels: views of features, of which each kernel sees one.

    One view has the features as they are; one, if asked for, columns of few values as categories;
    one, if asked for, the ranks of skewed features in their place, if there are any; and then one,
    if asked for, the normal scores of all features of many values in their place.

    Args:
        X: the features of the training rows.
        indicators: slices of indicators among them, of one column each.
        tries_categories: whether there is a view with categories.
        tries_ranks: whether there is one with ranks.
        tries_scores: whether there is one with normal scores, if there are skewed features.
        whole: features stay as they are, not standardised, and this is the only view.

    Attributes:
        blocks: columns of each view among those of all inputs; views may share some.
        scores: those of the view with normal scores, which is not among the blocks; it has the
            categories as well. Empty if there is none.
    """

    def __init__(
        self,
        X: Array,
        indicators: Sequence[slice],
        tries_categories: bool,
        tries_ranks: bool = True,
        tries_scores: bool = False,
        whole: bool = False,
    ) -> None:
        first, d = scaler_of(X, indicators, whole), X.shape[1]
        skewed = skewed_columns(X) if tries_ranks else []
        if skewed:
            first = RankingStandardiser.add_to(first, X, skewed)
        self._parts: list[Callable[[Array], Tensor]] = [first]
        self.blocks = [tuple(range(d))]
        ranks = range(d, d + len(skewed))
        end, categories = ranks.stop, range(0)
        columns = columns_of_few_values(X) if tries_categories else []
        if columns:
            second = Expanded(X, columns, indicators)
            self._parts.append(second)
            categories = range(end, end + second.n_indicators)
            self.blocks.append(tuple(range(end, end + len(second.scaler.mean))))
            end += len(second.scaler.mean)
        if skewed:
            others = (i for i in range(d) if i not in skewed)
            self.blocks.append((*others, *ranks))
        self.scores: tuple[int, ...] = ()
        many = columns_of_many_values(X) if tries_scores and skewed else []
        if many:
            self._parts.append(NormalScores(X, many))
            others = (i for i in range(d) if i not in many)
            self.scores = (*others, *categories, *range(end, end + len(many)))

    def __call__(self, X: Array) -> Tensor:
        """``n x d`` inputs, for the columns of all blocks."""
        first, *more = self._parts
        return torch.cat([first(X), *(part(X) for part in more)], 1) if more else first(X)


def columns_of_many_values(X: Array) -> list[int]:
    """Indices of columns with more than 12 different numbers."""
    return [i for i, column in enumerate(X.T) if len(np.unique(column)) > _MOST]


def columns_of_few_values(X: Array) -> list[int]:
    """Indices of columns with 3 to 12 different numbers and at least two rows for each."""
    chosen = []
    for i, column in enumerate(X.T):
        values = np.unique(column)
        few = _FEWEST <= len(values) <= _MOST and 2 * len(values) <= len(column)
        if few and not is_constant(values[0], values[-1]):
            chosen.append(i)
    return chosen
