"""From labelled data to a posterior: average the kernels that predict left-out labels best.

Kernels and noise levels are ranked by the closed-form leave-one-out error of regression on +-1
targets, one class against the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.kernel_search import Candidate, on_all_rows, search
from resnet_gp.models.calibration import fit_slope
from resnet_gp.models.ensemble import Ensemble, ExactMember
from resnet_gp.models.sparse_leave_one_out import NystroemFeatures, SparseMember, SparseSpectrum

NOISE_LEVELS = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0)
# Above so many samples, the kernels are compared on some of them, and fewer are kept.
_SEARCH_SAMPLES = 800
_MEMBERS, _MEMBERS_ABOVE = 10, 4
_SELECTION_ROWS = 10_000


class Posterior(Protocol):
    """Latent functions given the data, one for each class, or one for two classes."""

    def mean(self, x: Tensor) -> Tensor:
        """``n x p``."""

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``n x p`` each."""


@dataclass(frozen=True)
class Problem:
    """What is to be learned.

    Attributes:
        x: inputs, ``n x d``.
        labels: integers from 0 to C - 1, ``n``.
        n_classes: C.
        kernels: to choose from.
        generator: of subsets and minibatches.
        tick: called after each kernel, or each step of an optimiser.
    """

    x: Tensor
    labels: Tensor
    n_classes: int
    kernels: Sequence[Kernel]
    generator: np.random.RandomState
    tick: Callable[[], object]

    @property
    def targets(self) -> Tensor:
        """+1 for the class of a column, -1 for others, ``n x C``; two classes share a column."""
        targets = 2 * torch.nn.functional.one_hot(self.labels, self.n_classes).double() - 1
        return targets[:, 1:] if self.n_classes == 2 else targets

    def ticking(self) -> Iterator[Kernel]:
        """The kernels, each followed by a tick."""
        for kernel in self.kernels:
            yield kernel
            self.tick()


@dataclass(frozen=True)
class Solution:
    """A posterior, and what it was made of.

    Attributes:
        posterior: of the latent functions.
        chosen: indices of its kernels.
        noises: variance of the noise with each, in units of the kernel's mean variance.
        slope: b, where class probabilities are softmax(b mean).
    """

    posterior: Posterior
    chosen: list[int]
    noises: list[float]
    slope: float


def solve(problem: Problem, n_inducing: int | None = None) -> Solution:
    """The average of the regressions that predict left-out targets best.

    Args:
        problem: is solved with all rows, searched with some of them.
        n_inducing: features of a sparse solution; None for an exact one.
    """
    targets = problem.targets
    offset = targets.mean(0)
    centred = targets - offset
    best = _search(problem, centred)
    members: list[ExactMember | SparseMember] = []
    held_out = []
    for candidate in best:
        kernel = problem.kernels[candidate.index]
        if n_inducing is None:
            found = candidate
            if len(candidate.held_out.mean) < len(problem.x):
                found = on_all_rows(candidate, kernel, problem.x, centred)
            members.append(_exact_member(kernel, problem.x, found, centred))
            held_out.append(found.held_out.mean)
        else:
            rows = _random_rows(problem, _SELECTION_ROWS)
            features = NystroemFeatures.of(kernel, problem.x[rows], n_inducing)
            spectrum = SparseSpectrum(features, problem.x, centred)
            errors = spectrum.squared_errors(NOISE_LEVELS)
            noise = NOISE_LEVELS[int(np.argmin(errors))]
            left_out = spectrum.leave_one_out(noise)
            members.append(SparseMember.of(spectrum, noise, left_out))
            held_out.append(left_out.mean)
    scores = all_scores(torch.stack(held_out).mean(0) + offset)
    return Solution(
        Ensemble(members, offset),
        [candidate.index for candidate in best],
        [float(member.noise) for member in members],
        fit_slope(scores, problem.labels),
    )


def all_scores(scores: Tensor) -> Tensor:
    """One score for each class, also where two classes share a column."""
    return torch.cat([-scores, scores], 1) if scores.shape[1] == 1 else scores


def spread_rows(
    labels: NDArray[Any], count: int, generator: np.random.RandomState
) -> NDArray[np.int64]:
    """At most ``count`` random rows, in which every class has its share."""
    order = generator.permutation(len(labels))
    if len(order) <= count:
        return np.arange(len(order))
    order = order[np.argsort(labels[order], kind="stable")]
    return order[np.linspace(0, len(order) - 1, count).round().astype(int)]


def _search(problem: Problem, targets: Tensor) -> list[Candidate]:
    rows = spread_rows(problem.labels.numpy(), _SEARCH_SAMPLES, problem.generator)
    keep = _MEMBERS_ABOVE if len(rows) < len(problem.x) else _MEMBERS
    return search(problem.ticking(), problem.x[rows], targets[rows], NOISE_LEVELS, keep)


def _exact_member(kernel: Kernel, x: Tensor, found: Candidate, targets: Tensor) -> ExactMember:
    outputscale = found.held_out.outputscale(targets)
    noise = torch.tensor(found.noise, dtype=x.dtype)
    return ExactMember(kernel, x, found.held_out.weights, found.scale, noise, outputscale)


def _random_rows(problem: Problem, count: int) -> Tensor:
    return torch.from_numpy(problem.generator.permutation(len(problem.x))[:count])
