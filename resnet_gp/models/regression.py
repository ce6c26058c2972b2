"""What every GPyTorch model of a regression with Gaussian noise offers to fits and files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, TypeVar

import torch
from gpytorch import Module
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from torch import Tensor

from resnet_gp.kernels.constraints import log_positive
from resnet_gp.models.posterior import Posterior, UnsupportedError

#: Least noise variance of standardised targets.
LEAST_NOISE = {torch.float64: 1e-8, torch.float32: 1e-4}

_MODEL = "model."  # before the names of parameters in files

AnyModule = TypeVar("AnyModule", bound=Module)

#: Values of the tensors of ``RegressionModel.row_tensors`` that need no file.
_USUAL = {"extra_variance": 0, "sample_weight": 1, "robust_weight": 1}


class RegressionModel(Module):
    """y = f(x) + noise, f ~ GP(0, ``covar_module``), with its training data.

    Attributes:
        likelihood: holds the learned noise variance.
        covar_module: output scale times kernel.
        least_noise: least noise variance that a search may find, by dtype.
    """

    least_noise: ClassVar[dict[torch.dtype, float]] = LEAST_NOISE
    likelihood: GaussianLikelihood
    covar_module: ScaleKernel

    @abstractmethod
    def log_marginal_likelihood(self) -> Tensor:
        """log p(y | X, hyperparameters), or a lower bound, in nats, differentiable once.

        Raises:
            torch.linalg.LinAlgError: a covariance is not positive definite in this precision.
        """

    def look_up(self) -> None:
        """Fix what the likelihood takes from the present hyperparameters beside its value."""

    def forget(self) -> None:
        """Have that found again when it is needed."""

    @abstractmethod
    def posterior(self) -> Posterior:
        """Condition on the training data at the present hyperparameters."""

    def extend(self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None) -> None:
        """Append training rows of weight 1; ``extra_variance`` is their known noise variance.

        Raises:
            UnsupportedError: the model cannot take further rows.
        """
        raise UnsupportedError('further observations need inference="exact" or "nearest"')

    @abstractmethod
    def _known_noise(self) -> dict[str, Tensor | None]:
        """What is known of the noise of the training rows, by name."""

    def row_tensors(self) -> dict[str, Tensor]:
        """Known noise variances and weights of the training rows, where they are not the usual."""
        return {
            name: value
            for name, value in self._known_noise().items()
            if value is not None and bool((value != _USUAL[name]).any())
        }


def gaussian_likelihood() -> GaussianLikelihood:
    """A learned noise variance, optimised in its logarithm."""
    return GaussianLikelihood(noise_constraint=log_positive(0.1))


def scaled(kernel: Kernel) -> ScaleKernel:
    """A kernel times a learned output scale, optimised in its logarithm."""
    return ScaleKernel(kernel, outputscale_constraint=log_positive(1.0))


def parameter_tensors(module: Module) -> dict[str, Tensor]:
    """Raw parameters, and buffers of kernels, as of random features, by their names in a file."""
    return {_MODEL + name: part.detach() for name, part in _parts(module)}


@torch.no_grad()
def with_parameters(module: AnyModule, tensors: dict[str, Tensor]) -> AnyModule:
    """Copy what ``parameter_tensors`` returned into ``module`` and return it."""
    for name, part in _parts(module):
        part.copy_(tensors[_MODEL + name])
    return module


def _parts(module: Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    for path, part in module.named_modules():
        if isinstance(part, Kernel):
            yield from part.named_buffers(path, recurse=False)


def row_noise(
    noise: Tensor, rows: int, extra_variance: Tensor | None, sample_weight: Tensor | None
) -> Tensor:
    """Noise variance of each target, ``n``, from the learned variance and what is known of rows."""
    total = noise.expand(rows)
    if extra_variance is not None:
        total = total + extra_variance
    return total if sample_weight is None else total / sample_weight


def extended(
    extra_variance: Tensor | None,
    sample_weight: Tensor | None,
    old: Tensor,
    new: Tensor,
    new_variance: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Known noise variances and weights of rows and of further ones of weight 1.

    Args:
        extra_variance, sample_weight: of the old rows.
        old, new: the inputs, of which only the numbers count.
        new_variance: known noise variances of the new rows.
    """
    if extra_variance is not None or new_variance is not None:
        before = torch.zeros_like(old[:, 0]) if extra_variance is None else extra_variance
        after = torch.zeros_like(new[:, 0]) if new_variance is None else new_variance
        extra_variance = torch.cat([before, after])
    if sample_weight is not None:
        sample_weight = torch.cat([sample_weight, torch.ones_like(new[:, 0])])
    return extra_variance, sample_weight
