"""The error of hyperparameters, or inputs, for which a covariance is not defined or not known."""

from __future__ import annotations

import torch
from torch import Tensor


class DomainError(ValueError, RuntimeError):
    """Hyperparameters, or inputs divided by lengthscales, lie outside the domain of a covariance.

    A RuntimeError as well: that is GPyTorch's own error for a value that violates its constraint.
    """


#: Errors that an optimiser or a sampler takes for a point of no probability.
IMPOSSIBLE = (DomainError, torch.linalg.LinAlgError)


def check_variances(**variances: Tensor | None) -> None:
    """Check variances by name; None is not checked.

    Raises:
        DomainError: names the one that is negative or not finite.
    """
    for name, value in variances.items():
        if value is not None and not bool(((value >= 0) & value.isfinite()).all()):
            raise DomainError(f"{name} must be finite and not negative")
