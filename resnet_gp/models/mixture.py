"""The exact posterior averaged over draws of the hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.exact_posterior import ExactPosterior, pairs_of
from resnet_gp.models.posterior import Posterior, for_outputs, normal_law, to_array
from resnet_gp.predictive.law import Law
from resnet_gp.threads import each_serially


class ExactMixture(Posterior):
    """A weighted mixture of ``ExactPosterior``, one for each draw of the hyperparameters.

    Means and variances are those of the mixture, by the law of total variance; the noise variance
    is the members' mean.

    Args:
        members: of the same training rows; their kernels may differ.
        shares: positive weights of the members, which sum to 1; None for equal ones.
    """

    def __init__(self, members: Sequence[ExactPosterior], shares: Tensor | None = None) -> None:
        self.members = list(members)
        first = self.members[0].train_y
        self.shares = (
            first.new_full((len(self.members),), 1 / len(self.members))
            if shares is None
            else shares.to(first)
        )
        self.noise_variance = self._average([one.noise_variance for one in self.members])

    def tensors(self) -> dict[str, Tensor]:
        factors = torch.stack([member.cholesky.mT for member in self.members])  # rows are columns
        weights = torch.stack([member.weights for member in self.members])
        return {
            "members.cholesky": factors, "members.weights": weights, "members.shares": self.shares
        }  # fmt: skip

    @classmethod
    @torch.no_grad()
    def from_tensors(
        cls, models: Sequence[ExactRegression], tensors: dict[str, Tensor]
    ) -> ExactMixture:
        """The inverse of ``tensors``, for the members' models at their hyperparameters."""
        factors, weights = tensors["members.cholesky"], tensors["members.weights"]
        members = [
            model.posterior_from(factor.clone().mT, own.clone())
            for model, factor, own in zip(models, factors, weights, strict=True)
        ]
        return cls(members, tensors["members.shares"])

    def law(self, x: Tensor, observation_noise: bool = True) -> Law:
        laws = each_serially(lambda one: one.law(x, observation_noise), self.members)
        return Law.mixture(laws, self.shares.cpu().numpy())

    def mean(self, x: Tensor) -> Tensor:
        return self._average(each_serially(lambda one: one.mean(x), self.members))

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = each_serially(lambda one: one.mean_and_variance(x), self.members)
        return self._moments(parts, self.shares)

    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = each_serially(lambda one: one.mean_and_covariance(x), self.members)
        means = torch.stack([mean for mean, _ in parts])
        mean = self._average(means)
        gap = means - mean
        products = "s,si,sj->ij" if means.dim() == 2 else "s,sip,sjp->ijp"
        between = torch.einsum(products, self.shares, gap, gap)
        return mean, self._average([covariance for _, covariance in parts]) + between

    def leave_one_out(self, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        parts, shares = self._left_out
        if not observation_noise:
            y = self.members[0].train_y
            parts = [
                (mean, (variance - for_outputs(member.left_out_noise, y)).clamp_(min=0))
                for member, (mean, variance) in zip(self.members, parts, strict=True)
            ]
        return self._moments(parts, shares)

    def leave_one_out_law(self, rows: NDArray[np.intp] | None = None) -> Law:
        parts, shares = self._left_out
        law = Law.mixture([normal_law(*part) for part in parts], shares.cpu().numpy())
        return law if rows is None else law[rows]

    def leave_pair_out(self) -> NDArray[np.float64] | None:
        return pairs_of(self.members, to_array(self._left_out[1]))

    @cached_property
    def _left_out(self) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Each member's mean and variance of each left-out target, and its share there.

        The share is divided by p(y_i | all other y), which leaves y_i out of the posterior of the
        hyperparameters, and truncated at sqrt(S) times the mean (Ionides 2008): a target that is
        unlikely under one member would else be predicted by that member alone.
        """
        parts = each_serially(ExactPosterior.leave_one_out, self.members)
        mean, variance = (torch.stack(part) for part in zip(*parts, strict=True))
        y = self.members[0].train_y
        further = [for_outputs(one.row_noise - one.left_out_noise, y) for one in self.members]
        variance = variance + torch.stack(further)
        density = torch.distributions.Normal(mean, variance.sqrt()).log_prob(y)
        joint = density.sum(-1, keepdim=True) if mean.dim() == 3 else density
        first = self.shares.reshape(-1, *[1] * y.dim())
        logarithms = first.log() - joint
        ceiling = logarithms.logsumexp(0) - 0.5 * torch.tensor(float(len(parts))).log()
        shares = torch.minimum(logarithms, ceiling).softmax(0)
        return parts, shares

    def gradient(self, x: Tensor, with_variance: bool) -> tuple[Tensor, Tensor | None]:
        parts = [member.gradient(x, with_variance) for member in self.members]
        means, variances = zip(*parts, strict=True)
        if not with_variance:
            return self._average(means), None
        return self._moments(list(zip(means, variances, strict=True)), self.shares)

    def condition(self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None) -> ExactMixture:
        """Condition each member, and weigh it by its predictive density of the new targets."""
        members = [member.condition(x, y, extra_variance) for member in self.members]
        gains = [
            new.log_marginal_likelihood() - old.log_marginal_likelihood()
            for new, old in zip(members, self.members, strict=True)
        ]
        return ExactMixture(members, (self.shares.log() + self.shares.new_tensor(gains)).softmax(0))

    def log_marginal_likelihood(self) -> float:
        """The mean over the draws, in nats."""
        values = [member.log_marginal_likelihood() for member in self.members]
        return float(self.shares @ self.shares.new_tensor(values))

    def _average(self, values: Sequence[Tensor] | Tensor) -> Tensor:
        stacked = values if isinstance(values, Tensor) else torch.stack(list(values))
        return torch.tensordot(self.shares, stacked, 1)

    @staticmethod
    def _moments(parts: Sequence[tuple[Tensor, Tensor]], shares: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of a mixture of laws with these means and variances."""
        mean, variance = (torch.stack(part) for part in zip(*parts, strict=True))
        weights = shares.reshape(*shares.shape, *[1] * (mean.dim() - shares.dim()))
        centre = (weights * mean).sum(0)
        return centre, (weights * (variance + (mean - centre).square())).sum(0)
