"""Lengthscales of a classifier's inputs, by regression on its targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resnet_gp.fitting.inference import Training, sampled_numbers
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import find_modes
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.flow.domain import DomainError
from resnet_gp.progress import progress_bar

# Fewer rows do not tell lengthscales; so many take about a second.
_LEAST_ROWS, _ROWS = 50, 400


def learned_lengthscale(x: Tensor, targets: Tensor) -> tuple[float, ...]:
    """The most probable lengthscales of one network, in the units of the inputs.

    They are stretched so that inputs over lengthscales have a mean square of 1.

    Args:
        x: ``n x d``, of at least 50 rows; at most 400 of them are taken.
        targets: of +-1, ``n x p``.

    Raises:
        DomainError, torch.linalg.LinAlgError: nothing can be learned from these rows.
        KeyboardInterrupt: Ctrl-C.
    """
    rows = sampled_numbers(len(x), _ROWS)
    x, targets = x[rows], targets[rows]
    targets = targets[:, (targets != targets[0]).any(0)]  # of classes that these rows have
    if len(x) < _LEAST_ROWS or not (x.any() and targets.numel()):
        raise DomainError(f"lengthscales need {_LEAST_ROWS} rows, inputs and classes that vary")
    units = Standardiser.of(x.numpy())
    y = Standardiser.of(targets.numpy())(targets.numpy())
    with progress_bar("lengthscales", False) as bar:
        search = Search(
            KernelSpec("limit", "relu", None, False), with_priors=True, fixed=False,
            noise_variance=None, max_iter=None, n_restarts=0, max_samples=None,
            generator=np.random.RandomState(0), bar=bar,
        )  # fmt: skip
        (mode,) = find_modes(Training(units(x.numpy()), y), search)
    if mode.result.interrupted:
        raise KeyboardInterrupt
    kernel = mode.model.covar_module.base_kernel
    lengthscale = kernel.lengthscale.detach().ravel() * torch.from_numpy(units.scale)
    lengthscale *= (x / lengthscale).square().mean().sqrt()
    return tuple(lengthscale.tolist())
