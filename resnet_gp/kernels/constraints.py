"""The default constraint of positive hyperparameters."""

from __future__ import annotations

import torch
from gpytorch.constraints import Interval, Positive


def log_positive(initial_value: float | None = None) -> Positive:
    """Positive, optimised in logarithms: the value 1 is the raw value 0, exactly, in any dtype."""
    return Positive(transform=torch.exp, inv_transform=torch.log, initial_value=initial_value)


def is_logarithmic(constraint: Interval | None) -> bool:
    """Whether the raw values under a constraint are logarithms."""
    return isinstance(constraint, Positive) and constraint._transform is torch.exp
