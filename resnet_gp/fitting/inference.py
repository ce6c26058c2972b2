"""The protocol of inference: from training data to a fitted regression, and from files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from resnet_gp.fitting.optimiser import (
    FitResult,
    Hyperparameters,
    Outcome,
    free_parameters,
)
from resnet_gp.models.posterior import Posterior
from resnet_gp.models.regression import RegressionModel, parameter_tensors
from resnet_gp.models.training_rows import shuffled

if TYPE_CHECKING:
    from resnet_gp.fitting.search import Search


@dataclass(frozen=True)
class Training:
    """Standardised training data.

    Attributes:
        x: ``n x d``.
        y: ``n`` or ``n x p``.
        extra_variance: known noise variances beyond the learned one, ``n``, or None.
        sample_weight: ``n``, divides the noise variances; None for 1.
        robust_weight: ``n``, less than 1 for outliers, see ``ExactRegression``; None for 1.
    """

    x: Tensor
    y: Tensor
    extra_variance: Tensor | None = None
    sample_weight: Tensor | None = None
    robust_weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def sample(self, size: int | None) -> Training:
        """A fixed random subset of at most ``size`` rows; all rows for None."""
        if size is None or len(self) <= size:
            return self
        return self.rows(sampled_numbers(len(self), size))

    def rows(self, numbers: Tensor) -> Training:
        """Some of the rows."""
        rows = numbers.to(self.x.device)
        others = (self.extra_variance, self.sample_weight, self.robust_weight)
        chosen = (None if values is None else values[rows] for values in others)
        return Training(self.x[rows], self.y[rows], *chosen)


def sampled_numbers(n: int, size: int) -> Tensor:
    """Numbers of the rows that ``Training.sample`` draws from n."""
    if n <= size:
        return torch.arange(n)
    return torch.from_numpy(shuffled(n)[:size])


@dataclass(frozen=True)
class Fitted:
    """A regression that has seen its data.

    Attributes:
        model: holds hyperparameters and training data.
        posterior: of these.
        result: of the search for the hyperparameters.
        number: of the model's kernel among those of the search.
    """

    model: RegressionModel
    posterior: Posterior
    result: FitResult
    number: int = 0

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Raw parameters by name, and the number of the kernel; another fit can start there."""
        own = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        return own | {"kernel": torch.tensor(self.number)}

    @property
    def num_optimised(self) -> int:
        """Number of hyperparameters at an optimum of the search, none where it was averaged over.

        Residuals of the training rows know of these; see ``ResidualLaw.fit``.
        """
        if self.result.outcome is Outcome.NOT_SEARCHED:
            return 0
        return sum(p.numel() for p in free_parameters(self.model))

    @property
    def attributes(self) -> dict[str, Any]:
        """Further fitted attributes of an estimator, by name."""
        return {}

    def condition(self, x: Tensor, y: Tensor, extra_variance: Tensor | None) -> Fitted:
        """Take in further rows, see ``Posterior.condition``; the model is extended in place.

        Raises:
            UnsupportedError: the inference cannot take further rows.
        """
        posterior = self.posterior.condition(x, y, extra_variance)
        self.model.extend(x, y, extra_variance)
        return replace(self, posterior=posterior)

    def tensors(self) -> dict[str, Tensor]:
        """All that a file must hold beside the training data; ``Inference.restore`` reads it."""
        own = parameter_tensors(self.model) | self.model.row_tensors() | self.posterior.tensors()
        return own | {"kernel": torch.tensor(self.number)}


class Inference(ABC):
    """One way to fit a regression and to condition it on its data.

    Everything above knows ways of inference only by these methods and by what they return, so that
    a new way is one more class. ``Search`` holds what all ways share: the kernel, the optimiser,
    the priors and the starts.

    Attributes:
        name: the value of the estimator's parameter ``inference``.
        leaves_rows_out: whether kernels are compared by left-out rows, and the law of residuals is
            part of the fit.
        reweighs_rows: whether it takes ``robust_weight`` of training rows.
    """

    name: ClassVar[str]
    leaves_rows_out: ClassVar[bool] = False
    reweighs_rows: ClassVar[bool] = False

    @abstractmethod
    def fit(
        self, training: Training, search: Search, known: Hyperparameters | None = None
    ) -> Fitted:
        """Choose hyperparameters and condition on all rows.

        Args:
            training: in standard units.
            search: how hyperparameters are chosen.
            known: hyperparameters to start from, or to keep if the search is fixed.

        Raises:
            ValueError: ``known`` belongs to another model.
            torch.linalg.LinAlgError: no covariance could be factorised.
        """

    @abstractmethod
    def restore(self, training: Training, search: Search, tensors: dict[str, Tensor]) -> Fitted:
        """The inverse of ``Fitted.tensors``, to the bit.

        Args:
            training: the rows of the fit; noise variances and weights come from ``tensors``.
            search: of the fit; it makes the kernel.
            tensors: may hold other entries, too.
        """


def with_row_tensors(training: Training, tensors: dict[str, Tensor]) -> Training:
    """Training rows with the noise variances and weights of a file."""
    names = ("extra_variance", "sample_weight", "robust_weight")
    return Training(training.x, training.y, *map(tensors.get, names))


def number_of(tensors: dict[str, Tensor]) -> int:
    """Which of the search's kernels the tensors belong to."""
    return int(tensors["kernel"])
