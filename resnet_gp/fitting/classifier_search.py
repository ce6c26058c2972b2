"""Fit a classifier's ensemble: average the kernels that predict left-out labels best.

Regression on +-1 targets, one class against the rest; ``ClassifierFit`` is the protocol of
inference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.class_metric import learned_turn
from resnet_gp.fitting.kernel_search import Candidate, scaled_covariance, search
from resnet_gp.fitting.kernel_settings import KernelSetting, make_kernel, settings_of
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.models.calibration import Link, class_scores
from resnet_gp.models.ensemble import Ensemble, ExactMember, Member
from resnet_gp.models.inducing import greedy_inducing_points
from resnet_gp.models.inducing_features import InducingFeatures
from resnet_gp.models.leave_one_out import leave_one_out
from resnet_gp.models.sparse_leave_one_out import SparseMember, SparseSpectrum
from resnet_gp.models.turn import Turn
from resnet_gp.threads import threads_for

NOISE_LEVELS = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0)
# Above this many samples, the kernels are compared on a subset, and at most so many of each group
# are kept, as each is fitted to all samples.
_SEARCH_SAMPLES, _MEMBERS_ABOVE = 800, (3, 2)
# Kernels weigh error^(-n / 10): a tempered density of normal errors at their best variance, which
# is error^(-n / 2). Those of less than this share of the largest weight are left out.
_POWER, _LEAST_WEIGHT = 0.1, 0.1
_MOST_SHARE = 0.3  # of the kernels with a learned metric in the average
# Rows on which the noise levels of a kernel without rivals are compared, and further levels, for
# kernels that are nearly constant.
_ALONE, _MORE_LEVELS = 5000, (1e-6, 1e-5, 1e-4)
_SELECTION_ROWS = 10_000


@dataclass(frozen=True)
class Problem:
    """Labelled data and the kernels to choose from.

    Attributes:
        x: inputs, ``n x d``.
        labels: integers from 0 to C - 1, ``n``.
        settings: of the kernels.
        given: the user's kernel, if there is one.
        generator: draws subsets.
        bar: progress bar that each kernel advances.
    """

    x: Tensor
    labels: Tensor
    settings: Sequence[KernelSetting]
    given: Kernel | None
    generator: np.random.RandomState
    bar: Any

    @property
    def targets(self) -> Tensor:
        """+1 for the class of a column, -1 for others, ``n x C``; two classes share a column."""
        targets = 2 * torch.nn.functional.one_hot(self.labels).double() - 1
        return targets[:, 1:] if targets.shape[1] == 2 else targets

    def kernel(self, index: int) -> Kernel:
        """The kernel of one setting."""
        return make_kernel(self.settings[index], self.given)

    def kernels(self) -> list[Kernel]:
        """All kernels."""
        return [self.kernel(index) for index in range(len(self.settings))]


@dataclass(frozen=True)
class Solution:
    """A fitted ensemble and how it was made.

    Attributes:
        posterior: of the latent functions, one for each class, or one for two classes.
        settings: of each member's kernel.
        link: from means to class probabilities.
        attributes: further fitted attributes of the estimator, by name.
    """

    posterior: Ensemble
    settings: list[KernelSetting]
    link: Link
    attributes: dict[str, Any] = field(default_factory=dict)


class ClassifierFit(ABC):
    """One way to fit the ensemble of a classifier.

    Attributes:
        name: of the inference, as users write it.
        member: class of the members, which also reads them from files.
        sees_scores: whether there are kernels of the normal scores of features.
    """

    name: ClassVar[str]
    member: ClassVar[type[Member]]
    sees_scores: ClassVar[bool] = False

    @abstractmethod
    def views(
        self, blocks: Sequence[tuple[int, ...]], scores: tuple[int, ...]
    ) -> list[tuple[int, ...]]:
        """The columns of the inputs that kernels may see.

        Args:
            blocks: columns of each encoding.
            scores: of the one with normal scores; empty if there is none.
        """

    @abstractmethod
    def steps(self, settings: Sequence[KernelSetting]) -> int | None:
        """Steps of the progress bar for these kernels, if they are known."""

    @abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Choose kernels, and fit their regressions to all rows."""

    @abstractmethod
    def kernel(self, setting: KernelSetting, given: Kernel | None) -> Kernel:
        """The kernel with which a member is read from its tensors."""


@dataclass(frozen=True)
class _Group:
    """Members of an ensemble.

    Attributes:
        settings: of their kernels.
        members: their regressions.
        weights: in an average, which sum to 1.
        held_out: weighted average of their leave-one-out means, ``n x p``.
    """

    settings: list[KernelSetting]
    members: tuple[Member, ...]
    weights: Tensor
    held_out: Tensor


class MemberFit(ClassifierFit):
    """Averages regressions with the kernels of a grid, weighted by their leave-one-out errors.

    The same grid on all inputs over learned lengthscales, or along directions where these are
    better, is a second group. Its metric has seen the labels, so that its left-out errors are too
    small: its share is the one of the least error, but at most 0.3, and it has no say in the link:
    the average is as sure as the first group alone would be.
    """

    def views(
        self, blocks: Sequence[tuple[int, ...]], scores: tuple[int, ...]
    ) -> list[tuple[int, ...]]:
        return list(blocks)

    def kernel(self, setting: KernelSetting, given: Kernel | None) -> Kernel:
        return make_kernel(setting, given)

    def steps(self, settings: Sequence[KernelSetting]) -> int | None:
        if len(settings) == 1:
            return 1
        first = settings[0].active_dims
        return len(settings) + len(settings_of(settings, first, first))

    def solve(self, problem: Problem) -> Solution:
        targets = problem.targets
        offset = targets.mean(0)
        centred = targets - offset
        turn: Turn | None = None
        if len(problem.settings) == 1:
            # One matrix, of as many rows as may be, for the comparison and the fit.
            rows = np.arange(min(len(problem.x), _ALONE))
            alone = self._group(problem, centred, rows, (*_MORE_LEVELS, *NOISE_LEVELS), 1)
            groups = [(alone, 1.0)]
        else:
            with suppress(*IMPOSSIBLE):  # first: all the loops it needs compile at the same time
                turn = learned_turn(problem.x, targets)
                problem = replace(problem, x=turn.extended(problem.x))
            rows = spread_rows(problem.labels.numpy(), problem.generator)
            keep = _MEMBERS_ABOVE if len(rows) < len(problem.x) else (None, None)
            plain = self._group(problem, centred, rows, NOISE_LEVELS, keep[0])
            groups = [(plain, 1.0)]
            if turn is not None:
                with suppress(*IMPOSSIBLE):
                    first_block = problem.settings[0].active_dims
                    settings = settings_of(problem.settings, first_block, turn.places)
                    second = replace(problem, settings=settings)
                    other = self._group(second, centred, rows, NOISE_LEVELS, keep[1])
                    share = best_share(plain.held_out - centred, other.held_out - centred)
                    if share > 0:
                        groups = [(plain, 1 - share), (other, share)]
        if len(groups) == 1:
            turn = None
        average = sum(share * group.held_out for group, share in groups)
        first, all_ = (class_scores(one + offset) for one in (groups[0][0].held_out, average))
        link = Link.fit(first, problem.labels)
        link = link._replace(sharpness=link.sharpness * _ratio_of_spreads(first, all_))
        return Solution(
            Ensemble(
                [member for group, _ in groups for member in group.members],
                torch.cat([share * group.weights for group, share in groups]),
                offset,
                turn,
            ),
            [setting for group, _ in groups for setting in group.settings],
            link,
            {} if turn is None else {"lengthscale_": _of_columns(turn)},
        )

    def _group(
        self,
        problem: Problem,
        targets: Tensor,
        rows: NDArray[np.int64],
        levels: Sequence[float],
        keep: int | None,
    ) -> _Group:
        """Members with the best kernels of a problem.

        Args:
            targets: centred, ``n x p``.
            rows: on which kernels and noise levels are compared.
            levels: of the noise.
            keep: at most so many; None for all.
        """
        kernels, tick = problem.kernels(), problem.bar.update
        found = search(kernels, problem.x[rows], targets[rows], levels, keep, tick)
        best, weights = weighted(found, len(rows))
        with threads_for(len(problem.x)):
            members, held_out = zip(
                *(self.member_of(problem, targets, one, levels) for one in best), strict=True
            )
        return _Group(
            [problem.settings[one.index] for one in best],
            members,
            weights,
            torch.tensordot(weights, torch.stack(held_out), 1),
        )

    @abstractmethod
    def member_of(
        self, problem: Problem, targets: Tensor, candidate: Candidate, levels: Sequence[float]
    ) -> tuple[Member, Tensor]:
        """Fit a member to all rows, with a kernel that the search has chosen.

        Args:
            problem: the data.
            targets: centred, ``n x p``.
            candidate: the kernel, and the noise that is best on the rows of the search.
            levels: of the noise in that search.

        Returns:
            The member, and its leave-one-out means, ``n x p``, from centred targets, ``n x p``.
        """


class ExactMemberFit(MemberFit):
    """Factorises the covariance of all rows, at the noise level of the search."""

    name, member = "exact", ExactMember

    def member_of(
        self, problem: Problem, targets: Tensor, candidate: Candidate, levels: Sequence[float]
    ) -> tuple[Member, Tensor]:
        kernel, noise = problem.kernel(candidate.index), candidate.noise
        scale, held_out = candidate.scale, candidate.held_out
        if len(held_out.mean) < len(problem.x):
            covariance, scale = scaled_covariance(kernel, problem.x)
            held_out = leave_one_out(covariance, targets, noise)
        outputscale = held_out.outputscale(targets)
        member = ExactMember(kernel, problem.x, held_out.weights, scale, noise, outputscale)
        return member, held_out.mean


@dataclass(frozen=True)
class SparseMemberFit(MemberFit):
    """Regresses on features of inducing points, at the best noise level for all rows.

    Attributes:
        n_inducing: at most this many points, chosen among the rows.
    """

    n_inducing: int
    name, member = "sparse", SparseMember

    def member_of(
        self, problem: Problem, targets: Tensor, candidate: Candidate, levels: Sequence[float]
    ) -> tuple[Member, Tensor]:
        kernel = problem.kernel(candidate.index)
        order = problem.generator.permutation(len(problem.x))
        rows = problem.x[torch.from_numpy(order[:_SELECTION_ROWS])]
        points = rows[greedy_inducing_points(kernel, rows, min(self.n_inducing, len(rows)))]
        spectrum = SparseSpectrum(InducingFeatures.at(kernel, points), problem.x, targets)
        noise = levels[int(np.argmin(spectrum.squared_errors(levels)))]
        held_out = spectrum.leave_one_out(noise)
        return SparseMember.of(spectrum, noise, held_out), held_out.mean


def weighted(candidates: Sequence[Candidate], n_rows: int) -> tuple[Sequence[Candidate], Tensor]:
    """The candidates that count, and their weights in an average, which sum to 1.

    Args:
        candidates: the best first.
        n_rows: on which they were compared.
    """
    errors = torch.tensor([candidate.error for candidate in candidates], dtype=torch.float64)
    ratios = torch.where(errors > errors[0], errors / errors[0], 1.0)  # an error may be 0
    weights = ratios ** (-_POWER * n_rows)
    weights = weights[weights >= _LEAST_WEIGHT]
    return candidates[: len(weights)], weights / weights.sum()


def best_share(errors: Tensor, others: Tensor) -> float:
    """The share of the others in an average of both, up to 0.3, with the least squared error.

    Args:
        errors, others: left-out errors of two predictions of the same targets.
    """
    gain = errors - others
    size = float(gain.square().sum())
    best = float((errors * gain).sum()) / size if size > 0 else 0.0
    return min(max(best, 0.0), _MOST_SHARE)


def _of_columns(turn: Turn) -> NDArray[np.float64]:
    """The lengthscale of each input, for inputs of lengthscale 1 along a turn."""
    found = turn.lengthscale(turn.directions.new_ones(len(turn.places)))
    return np.asarray(found.numpy())


def _ratio_of_spreads(first: Tensor, second: Tensor) -> float:
    """Of scores, ``n x C``, around their means over classes; 1 if the second have none."""
    one, two = ((s - s.mean(1, keepdim=True)).square().sum().sqrt().item() for s in (first, second))
    return one / two if two > 0 else 1.0


def spread_rows(labels: NDArray[Any], generator: np.random.RandomState) -> NDArray[np.int64]:
    """A random subset of the rows for the search, stratified by class; all rows if they are few."""
    order = generator.permutation(len(labels))
    if len(order) <= _SEARCH_SAMPLES:
        return np.arange(len(order))
    order = order[np.argsort(labels[order], kind="stable")]
    return order[np.linspace(0, len(order) - 1, _SEARCH_SAMPLES).round().astype(int)]
