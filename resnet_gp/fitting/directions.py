"""Inputs along the principal directions of the function's gradient, in place of the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.models.posterior import Posterior, to_array

Array = NDArray[np.float64]

_KEY = "directions"  # in files
_LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class DirectedStandardiser(Standardiser):
    """Standardised inputs, and ranks if there are any, along other directions.

    Lengthscales of the new inputs make the kernel's metric a full matrix in the features.

    Attributes:
        mean, scale: of the features.
        inner: makes the k inputs that are turned.
        directions: ``k x k``, a direction in each column.
    """

    inner: Standardiser
    directions: Array

    @classmethod
    def along(cls, inner: Standardiser, directions: Array) -> DirectedStandardiser:
        """Turn the inputs that a standardiser makes."""
        return cls(inner.mean, inner.scale, inner, directions)

    def __call__(self, values: Array) -> Tensor:
        """``n x k`` inputs, in float64; raises as ``Standardiser``."""
        return self.inner(values) @ torch.from_numpy(self.directions)

    def pull_back(self, gradient: Array, values: Array) -> Array:
        """Gradients in the features, from those in the inputs; ``n x k`` or ``n x k x p``."""
        turned = np.einsum("nk...,jk->nj...", gradient, self.directions)
        return self.inner.pull_back(turned, values)

    def lengthscale(self, lengthscale: Array) -> Array:
        """Lengthscales of the features in their units, ``d``, from those of the ``k`` inputs.

        Those along each feature alone, at which the kernel's metric is 1.
        """
        return self.inner.lengthscale((self.directions**2 @ lengthscale**-2.0) ** -0.5)

    def tensors(self) -> dict[str, Tensor]:
        return self.inner.tensors() | {_KEY: torch.from_numpy(self.directions.copy())}

    @staticmethod
    def from_tensors(inner: Standardiser, tensors: dict[str, Tensor]) -> Standardiser:
        """The inverse of ``tensors``; ``inner`` itself if they hold no directions."""
        if _KEY not in tensors:
            return inner
        return DirectedStandardiser.along(inner, tensors[_KEY].double().numpy())


def gradient_directions(posterior: Posterior, x: Tensor) -> Array | None:
    """Eigenvectors of the mean of grad m(x) grad m(x)^T over some inputs, ``d x d``.

    They span the active subspaces of the mean m (Constantine 2015); the matrix is the average
    gradient outer product of Radhakrishnan et al. (2024). Eigenvectors are divided by the standard
    deviation of the inputs along them, so that new inputs have variance 1; by no less than 0.001,
    as deviations between collinear inputs are rounding errors.

    Args:
        posterior: with a gradient of its mean; those of several outputs are added up.
        x: ``n x d``, standardised.

    Returns:
        The directions, the one along which the mean changes most first; None if it is constant.
    """
    gradient = to_array(posterior.gradient(x, with_variance=False)[0])
    flat = gradient.reshape(*gradient.shape[:2], -1)
    mean_product = np.einsum("njp,nkp->jk", flat, flat) / len(flat)
    if not (np.isfinite(mean_product).all() and mean_product.any()):
        return None
    vectors = np.linalg.eigh(mean_product)[1][:, ::-1]
    deviations = (to_array(x) @ vectors).std(axis=0)
    return np.asarray(vectors / np.maximum(deviations, _LEAST_DEVIATION))
