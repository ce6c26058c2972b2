"""Classification as regression on the logarithms of Dirichlet variables.

Milios et al. 2018, "Dirichlet-based Gaussian processes for large-scale calibrated classification":
one observed label makes the class probabilities Dirichlet with parameters a (those that were not
seen) and 1 + a (the one that was); each of the gamma variables behind it becomes a log-normal of
the same mean and variance, whose logarithm is a Gaussian target with a noise of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_gp.models.leave_one_out import LeaveOneOut, leave_one_out


def dirichlet_targets(
    labels: Tensor, n_classes: int, concentration: float
) -> tuple[Tensor, Tensor]:
    """Targets and their noise variances, ``n x C`` each (Milios et al. 2018, eq. 5).

    Args:
        labels: integers from 0 to C - 1, ``n``.
        n_classes: C.
        concentration: a, positive.
    """
    parameters = concentration + torch.nn.functional.one_hot(labels, n_classes).double()
    noise = (1 + 1 / parameters).log()
    return parameters.log() - noise / 2, noise


def heteroscedastic_leave_one_out(
    covariance: Tensor, targets: Tensor, noise: Tensor
) -> LeaveOneOut:
    """Leave-one-out predictions where every column has noise variances of its own.

    Args:
        covariance: ``n x n``.
        targets: ``n x C``.
        noise: ``n x C``.

    Returns:
        Its ``variance`` is ``n x C``. One Cholesky factor for each column.
    """
    columns = [
        leave_one_out(covariance, target[:, None], variance)
        for target, variance in zip(targets.unbind(1), noise.unbind(1), strict=True)
    ]
    return LeaveOneOut(
        torch.cat([column.mean for column in columns], 1),
        torch.cat([column.variance for column in columns], 1),
        torch.cat([column.weights for column in columns], 1),
    )
