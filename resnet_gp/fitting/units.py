"""Standard units of a model and the units of its user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.directions import DirectedStandardiser
from resnet_gp.fitting.ranks import RankingStandardiser
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.models.posterior import to_array
from resnet_gp.predictive.law import Law

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """Maps between the units of data and the standard units in which models work.

    Targets are ``n``, or ``n x p`` for p outputs.

    Attributes:
        x, y: scalers of inputs and targets.
    """

    x: Standardiser
    y: Standardiser

    def mean(self, mean: Tensor) -> Array:
        """Means, ``n`` or ``n x p``, in the units of y."""
        return self.values(to_array(mean))

    def values(self, values: Array) -> Array:
        """Targets, of any shape if y is one vector, else ``... x p``, in the units of y."""
        return np.asarray(values * self.y.scale + self.y.mean)

    def deviation(self, variance: Tensor) -> Array:
        """Standard deviations in the units of y, from variances of the shape of the mean."""
        return np.asarray(np.sqrt(to_array(variance)) * self.y.scale)

    def covariance(self, covariance: Tensor) -> Array:
        """Covariances, ``n x n`` or ``n x n x p``, in the squared units of y."""
        return np.asarray(to_array(covariance) * self.y.scale**2)

    def law(self, law: Law) -> Law:
        """A law of standardised targets, in the units of y."""
        return law.affine(self.y.mean, self.y.scale)

    def slope(self, gradient: Tensor, inputs: Array) -> Array:
        """Gradients, ``n x d`` or ``n x d x p``, in y per unit of the feature.

        Args:
            gradient: of standardised targets, in the inputs of the model.
            inputs: ``n x d`` features, where.
        """
        return self.x.pull_back(to_array(gradient) * self.y.scale, inputs)

    @property
    def ranked_columns(self) -> list[int]:
        """Indices of the features whose ranks are inputs too."""
        x = self.x.inner if isinstance(self.x, DirectedStandardiser) else self.x
        return x.columns.tolist() if isinstance(x, RankingStandardiser) else []

    @property
    def directions(self) -> Array | None:
        """The directions of the inputs among features and ranks, or None."""
        return self.x.directions if isinstance(self.x, DirectedStandardiser) else None

    def tensors(self) -> dict[str, Tensor]:
        """What a file must hold."""
        found = {
            f"{name}_{part}": torch.from_numpy(np.array(getattr(scaler, part)))
            for name, scaler in (("x", self.x), ("y", self.y))
            for part in ("mean", "scale")
        }
        return found | self.x.tensors()

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Units:
        """The inverse of ``tensors``."""
        x, y = (
            Standardiser(tensors[f"{name}_mean"].numpy(), tensors[f"{name}_scale"].numpy())
            for name in ("x", "y")
        )
        x = RankingStandardiser.from_tensors(x, tensors)
        return cls(DirectedStandardiser.from_tensors(x, tensors), y)
