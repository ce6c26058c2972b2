"""Draws from a posterior, the result of ``run_nuts`` and ``run_svi``."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from resnet_gp.integers import check_integer

_SITES = "draws.at."
_FAILURES = "draws.failure."


@dataclass(frozen=True)
class Draws:
    """Values of every site by chain and iteration.

    Attributes:
        values: by site, ``chains x draws x (shape of the site)``.
        diverging: ``chains x draws``, whether the trajectory to a draw diverged.
        failures: reasons by chain number why chains failed; ``values`` leaves these chains out.
        interrupted: whether Ctrl-C ended the run early.
        seconds: wall time.
        losses: the loss of each step of stochastic inference in nats; empty for chains.
    """

    values: dict[str, Tensor]
    diverging: Tensor
    failures: dict[int, str] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    @property
    def num_chains(self) -> int:
        return self.diverging.shape[0]

    @property
    def num_draws(self) -> int:
        """Draws of each chain."""
        return self.diverging.shape[1]

    @property
    def num_divergences(self) -> int:
        return int(self.diverging.sum())

    def pooled(self, at_most: int | None = None) -> dict[str, Tensor]:
        """Concatenate the draws of all chains, ``draws x (shape of the site)``.

        Args:
            at_most: take evenly spaced draws of each chain, about this many in total; None for all.

        Raises:
            ValueError: ``at_most`` is no positive integer.
        """
        total = self.num_chains * self.num_draws
        keep = torch.arange(self.num_draws)
        if at_most is not None:
            check_integer("at_most", at_most)
            if at_most < total:
                each = max(1, at_most // self.num_chains)
                keep = torch.linspace(0, self.num_draws - 1, each).round().long()
        return {name: value[:, keep].flatten(0, 1) for name, value in self.values.items()}

    def tensors(self) -> dict[str, Tensor]:
        """What a file must hold; not seconds, in which equal fits differ, and losses."""
        sites = {_SITES + name: value.contiguous() for name, value in self.values.items()}
        reasons = {
            f"{_FAILURES}{chain}": torch.tensor(list(reason.encode()))
            for chain, reason in self.failures.items()
        }
        flags = {
            "draws.diverging": self.diverging.double(),
            "draws.interrupted": torch.tensor(float(self.interrupted)),
        }
        return flags | sites | reasons

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Draws:
        """The inverse of ``tensors``."""
        failures = {
            int(chain): bytes(reason.byte().tolist()).decode()
            for chain, reason in below(_FAILURES, tensors).items()
        }
        diverging, interrupted = tensors["draws.diverging"].bool(), tensors["draws.interrupted"]
        return cls(below(_SITES, tensors), diverging, failures, bool(interrupted))


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names begin with a prefix, which is removed."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
