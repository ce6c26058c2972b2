"""The metric of a classifier's inputs, by regression on its targets."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.directions import gradient_directions
from resnet_gp.fitting.inference import Training, sampled_numbers
from resnet_gp.fitting.input_choice import is_better
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import find_modes
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.standardise import FarInputError, Standardiser
from resnet_gp.flow.domain import DomainError
from resnet_gp.models.training_rows import shuffled
from resnet_gp.models.turn import Turn
from resnet_gp.progress import progress_bar

# Fewer rows do not tell a metric; so many take about a second.
_LEAST_ROWS, _ROWS = 50, 400
# Beyond so many rows, at most so many of the others judge directions of at most so many inputs:
# gradients of fewer rows say little of more.
_TURNED_ABOVE, _JUDGES, MOST_TURNED = 800, 1000, 400


def learned_turn(x: Tensor, targets: Tensor) -> Turn:
    """Directions of all inputs, over lengthscales, for kernels whose lengthscales are 1.

    The most probable lengthscales of one network of the inputs, or of another one of inputs along
    the principal directions of the first one's gradient, if there are more than 800 rows, at most
    400 inputs, and other rows that it predicts better by more than two standard errors.

    Args:
        x: ``n x d``, of at least 50 rows; at most 400 of them are learned from.
        targets: of +-1, ``n x p``.

    Raises:
        DomainError, torch.linalg.LinAlgError: nothing can be learned from these rows.
        KeyboardInterrupt: Ctrl-C.
    """
    rows, d = sampled_numbers(len(x), _ROWS), x.shape[1]
    judges = torch.from_numpy(shuffled(len(x))[_ROWS : _ROWS + _JUDGES])
    turns = len(x) > _TURNED_ABOVE and 1 < d <= MOST_TURNED
    targets = targets[:, (targets[rows] != targets[rows[0]]).any(0)]  # of classes of these rows
    if len(rows) < _LEAST_ROWS or not (x[rows].any() and targets.numel()):
        raise DomainError(f"lengthscales need {_LEAST_ROWS} rows, inputs and classes that vary")
    directions = torch.eye(d, dtype=torch.float64)
    found = _Network.learned(x[rows], targets[rows], Standardiser.of(x[rows].numpy()))
    if turns and (along := found.directions()) is not None:
        # They have their units. Where these rows hardly vary, others would be far from them.
        as_they_are = Standardiser(np.zeros(d), np.ones(d))
        turned = _Network.learned(x[rows] @ along, targets[rows], as_they_are)
        with suppress(FarInputError):
            errors = found.errors(x[judges], targets[judges])
            if is_better(errors, turned.errors(x[judges] @ along, targets[judges])):
                directions, found = along, turned
    directions = directions / found.lengthscale()
    directions /= (x[rows] @ directions).square().mean().sqrt()
    return Turn(d, tuple(range(d)), directions)


class _Network(NamedTuple):
    """A regression on the targets.

    Attributes:
        model: of inputs and targets in their own units.
        units, y: that make these.
    """

    model: Any
    units: Standardiser
    y: Standardiser

    @classmethod
    def learned(cls, x: Tensor, targets: Tensor, units: Standardiser) -> _Network:
        y = Standardiser.of(targets.numpy())
        with progress_bar("lengthscales", False) as bar:
            spec = KernelSpec("limit", "relu", None, False)
            search = Search(spec, np.random.RandomState(0), bar)
            (mode,) = find_modes(Training(units(x.numpy()), y(targets.numpy())), search)
        if mode.result.interrupted:
            raise KeyboardInterrupt
        return cls(mode.model, units, y)

    def lengthscale(self) -> Tensor:
        """Of the inputs, in their units, ``d``."""
        own: Tensor = self.model.covar_module.base_kernel.lengthscale.detach().ravel()
        return own * torch.from_numpy(self.units.scale)

    def directions(self) -> Tensor | None:
        """Of the gradient, for inputs in their units, ``d x d``; None if there is none."""
        found = gradient_directions(self.model.posterior(), self.model.train_inputs[0])
        if found is None:
            return None
        return torch.from_numpy(found) / torch.from_numpy(self.units.scale)[:, None]

    def errors(self, x: Tensor, targets: Tensor) -> NDArray[np.float64]:
        """Mean squared errors of other rows, ``n``."""
        means = self.model.posterior().mean(self.units(x.numpy())).reshape(targets.shape)
        return np.asarray((means - self.y(targets.numpy())).square().mean(1).numpy())
