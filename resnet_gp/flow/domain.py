"""The error of hyperparameters, or inputs, for which a covariance is not defined or not known."""

from __future__ import annotations

import torch


class DomainError(ValueError, RuntimeError):
    """Hyperparameters, or inputs divided by lengthscales, lie outside the domain of a covariance.

    A RuntimeError as well: that is GPyTorch's own error for a value that violates its constraint.
    """


#: Errors that an optimiser or a sampler takes for a point of no probability.
IMPOSSIBLE = (DomainError, torch.linalg.LinAlgError)
