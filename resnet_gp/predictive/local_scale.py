"""The local scale of a target in closed form, from the errors of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.predictive.error_law import LEAST_ROWS, RESOLUTION, ErrorLaw, Errors, fit_errors
from resnet_gp.predictive.residual_law import LARGEST_SQUARE, NEIGHBOURS

Array = NDArray[np.float64]

_MANY, _FINE = 1000, 0.003  # targets that tell spikes from chance; see ``Errors.resolution``


@dataclass(frozen=True)
class LocalScale(ErrorLaw):
    """The law of a target that its neighbours predict with mean m and deviation s.

    Targets of a neighbourhood are seen one by one, from the farthest to the nearest and, last, the
    one that is predicted. z holds the error of each given all before it, standardised. This is the
    ``ErrorLaw`` with Q the sum of min(z^2, 25) over the k nearest neighbours, at most 20. They are
    predicted nearly as well as the target itself, so that their errors tell its scale.
    """

    @classmethod
    def fit(cls, z: Array) -> LocalScale:
        """Learn the law from left-out targets.

        Args:
            z: errors of neighbourhoods, ``... x m``, of which the last are those of the targets.
                Fewer than ten give the normal law.
        """
        errors, (near, count) = z[..., -1], _sums(z)
        if errors.size < LEAST_ROWS or count == 0:
            return cls()
        resolution = _FINE if errors.size >= _MANY else RESOLUTION
        found = fit_errors(Errors(errors[None], np.zeros(1), near, count, resolution))
        values = np.array(found.parameters, dtype=np.float32)  # which files in that precision keep
        return cls(*values.tolist())

    def factors(self, z: Array) -> Array:
        """c lambda, ``...``, from errors as in ``fit``."""
        if self.is_normal:
            return np.ones(z.shape[:-1])
        return np.asarray(self.c * self.local_factors(*_sums(z)))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a file must hold."""
        return {"local_scale": torch.tensor(self.parameters, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> LocalScale:
        """The inverse of ``tensors``; other keys are ignored."""
        return cls(*tensors["local_scale"].tolist())


def _sums(z: Array) -> tuple[Array, int]:
    """Q and k."""
    nearest = z[..., max(0, z.shape[-1] - 1 - NEIGHBOURS) : -1]
    return np.minimum(np.square(nearest), LARGEST_SQUARE).sum(-1), nearest.shape[-1]
