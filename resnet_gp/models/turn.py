"""Further inputs of kernels, along directions that lie across others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Turn(NamedTuple):
    """Inputs along some directions, behind those from which they are made.

    Attributes:
        width: number of inputs before, d.
        columns: of those of them that are turned, k.
        directions: ``k x k``, a direction in each column.
    """

    width: int
    columns: tuple[int, ...]
    directions: Tensor

    @property
    def places(self) -> tuple[int, ...]:
        """Columns of the new inputs."""
        return tuple(range(self.width, self.width + self.directions.shape[1]))

    def extended(self, x: Tensor) -> Tensor:
        """The ``n x d`` inputs, and the new ones behind them."""
        return torch.cat([x, x[:, self.columns] @ self.directions], 1)

    def lengthscale(self, lengthscale: Tensor) -> Tensor:
        """Along each turned column alone, at which the kernel's metric is 1.

        Args:
            lengthscale: of the new inputs, ``k``.
        """
        return (self.directions.square() @ lengthscale**-2.0) ** -0.5

    def tensors(self) -> dict[str, Tensor]:
        return {
            "turn_width": torch.tensor(self.width),
            "turn_columns": torch.tensor(self.columns),
            "turn_directions": self.directions,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Turn | None:
        """The inverse of ``tensors``; None where there is no turn."""
        if "turn_width" not in tensors:
            return None
        columns = tuple(tensors["turn_columns"].tolist())
        return cls(int(tensors["turn_width"]), columns, tensors["turn_directions"])
