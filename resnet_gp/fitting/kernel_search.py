"""Find the kernels and noise levels that predict best, by leave-one-out error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.models.leave_one_out import LeaveOneOut, Spectrum
from resnet_gp.threads import each_serially, threads_for


@dataclass(frozen=True)
class Candidate:
    """A kernel with a noise level and its leave-one-out predictions.

    Attributes:
        index: position of the kernel in the list.
        scale: mean variance of the kernel on the training inputs, by which it is divided.
        noise: variance of the noise, in units of the scaled kernel.
        error: mean squared leave-one-out error.
        held_out: leave-one-out predictions.
    """

    index: int
    scale: float
    noise: float
    error: float
    held_out: LeaveOneOut


@torch.no_grad()
def search(
    kernels: Sequence[Kernel],
    x: Tensor,
    targets: Tensor,
    noise_levels: Sequence[float],
    keep: int | None,
    tick: Callable[[], object] = lambda: None,
) -> list[Candidate]:
    """Return the kernels with the smallest leave-one-out errors, each at its best noise level.

    Each kernel costs one eigendecomposition, in a thread of its own.

    Args:
        kernels: any GPyTorch kernels without batch dimensions.
        x: ``n x d``.
        targets: ``n x p``.
        noise_levels: variances, relative to the mean variance of the kernel.
        keep: the number of kernels to return; None for all.
        tick: called after each kernel.

    Returns:
        At most ``keep`` candidates, the best first, without kernels that are zero at all inputs
        or whose hyperparameters are outside their domain.

    Raises:
        DomainError, torch.linalg.LinAlgError: every kernel is outside its domain.
        ValueError: all others are zero, or one gives something else than a finite matrix.
    """

    def best(numbered: tuple[int, Kernel]) -> Candidate | Exception | None:
        index, kernel = numbered
        try:
            if not bool(kernel(x, diag=True).any()):
                return None
            covariance, scale = scaled_covariance(kernel, x)
            with threads_for(len(x)):
                spectrum = Spectrum(covariance, targets)
        except IMPOSSIBLE as outside:
            return outside
        finally:
            tick()
        levels = ((noise, spectrum.leave_one_out(noise)) for noise in noise_levels)
        candidates = (
            Candidate(index, scale, noise, held_out.squared_error(targets), held_out)
            for noise, held_out in levels
        )
        return min(candidates, key=_error)

    results = each_serially(best, list(enumerate(kernels)))
    found = [one for one in results if isinstance(one, Candidate)]
    if not found:
        failures = [one for one in results if isinstance(one, Exception)]
        raise (failures or [ValueError("every kernel is zero at all inputs")])[-1]
    return sorted(found, key=_error)[:keep]


def _error(candidate: Candidate) -> float:
    return candidate.error


@torch.no_grad()
def scaled_covariance(kernel: Kernel, x: Tensor) -> tuple[Tensor, float]:
    """Return the covariance of ``n x d`` inputs over its mean variance, and that variance.

    Raises:
        ValueError: the kernel does not return a finite matrix of positive variance.
    """
    covariance = kernel(x).to_dense()
    scale = float(covariance.diagonal().mean()) if covariance.dim() == 2 else 0.0
    if not (scale > 0 and bool(covariance.isfinite().all())):
        raise ValueError(
            f"kernel {type(kernel).__name__} must give finite covariances of positive variance, "
            "one n x n matrix"
        )
    return covariance / scale, scale
