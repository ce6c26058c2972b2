"""The metric of a classifier's inputs, by regression on its targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resnet_gp.fitting.directions import gradient_directions
from resnet_gp.fitting.inference import Training, sampled_numbers
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import find_modes
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.flow.domain import DomainError
from resnet_gp.models.turn import Turn
from resnet_gp.progress import progress_bar

# Fewer rows do not tell a metric; so many take about a second.
_LEAST_ROWS, _ROWS = 50, 400
# Directions help beyond so many rows, and for so many inputs at most: gradients of fewer rows say
# little of them.
_TURNED_ABOVE, _MOST_TURNED = 800, 400


def learned_turn(x: Tensor, targets: Tensor) -> Turn:
    """Directions of all inputs, over lengthscales, for kernels whose lengthscales are 1.

    The principal directions of the gradient of one network's means, and the most probable
    lengthscales of another one along them. Up to 800 rows, or beyond 400 inputs, there are only
    lengthscales.

    Args:
        x: ``n x d``, of at least 50 rows; at most 400 of them are taken.
        targets: of +-1, ``n x p``.

    Raises:
        DomainError, torch.linalg.LinAlgError: nothing can be learned from these rows.
        KeyboardInterrupt: Ctrl-C.
    """
    turns = len(x) > _TURNED_ABOVE and 1 < x.shape[1] <= _MOST_TURNED
    rows = sampled_numbers(len(x), _ROWS)
    x, targets = x[rows], targets[rows]
    targets = targets[:, (targets != targets[0]).any(0)]  # of classes that these rows have
    if len(x) < _LEAST_ROWS or not (x.any() and targets.numel()):
        raise DomainError(f"lengthscales need {_LEAST_ROWS} rows, inputs and classes that vary")
    d = x.shape[1]
    directions = torch.eye(d, dtype=torch.float64)
    lengthscale, along = _learned(x, targets)
    if turns and along is not None:
        directions = along
        lengthscale, _ = _learned(x @ directions, targets)
    directions = directions / lengthscale
    directions /= (x @ directions).square().mean().sqrt()
    return Turn(d, tuple(range(d)), directions)


def _learned(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """Lengthscales of the inputs, ``d``, and directions of the gradient, ``d x d``, if any."""
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
    scale = torch.from_numpy(units.scale)
    lengthscale = mode.model.covar_module.base_kernel.lengthscale.detach().ravel() * scale
    found = gradient_directions(mode.model.posterior(), mode.model.train_inputs[0])
    return lengthscale, None if found is None else torch.from_numpy(found) / scale[:, None]
