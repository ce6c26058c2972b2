"""The exact posterior averaged over draws of the hyperparameters."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_gp.bayes.draws import Draws, below
from resnet_gp.bayes.gp_regression import GPRegression, each, mixture_of
from resnet_gp.bayes.hyperparameters import Values
from resnet_gp.models.exact_posterior import ExactPosterior
from resnet_gp.models.posterior import Posterior, for_outputs
from resnet_gp.predictive.law import Law

_BYTES = 2**30  # of the factors of all members
_FEWEST, _MOST = 20, 200
_SITES = "members.at."


class ExactMixture(Posterior):
    """An equal mixture of ``ExactPosterior``, one for each draw of the hyperparameters.

    Means and variances are those of the mixture, by the law of total variance; the noise variance
    is the members' mean.

    Args:
        members: one for each draw.
        values: hyperparameters of the members by site, ``S`` in front.
    """

    def __init__(self, members: list[ExactPosterior], values: Values) -> None:
        self.members, self.values = members, values
        self.noise_variance = torch.stack([one.noise_variance for one in members]).mean()

    @classmethod
    @torch.no_grad()
    def of(cls, model: GPRegression, draws: Draws) -> ExactMixture:
        """Average over evenly spaced draws: 20 to 200, as many as fit into a gibibyte."""
        rows = len(model.module.train_targets)
        count = int(min(_MOST, max(_FEWEST, _BYTES // (8 * rows**2))))
        values = draws.pooled(count)
        return cls([model.at(one).posterior() for one in each(values)], values)

    def tensors(self) -> dict[str, Tensor]:
        factors = torch.stack([member.cholesky.mT for member in self.members])  # rows are columns
        weights = torch.stack([member.weights for member in self.members])
        sites = {_SITES + name: value for name, value in self.values.items()}
        return {"members.cholesky": factors, "members.weights": weights, **sites}

    @classmethod
    @torch.no_grad()
    def from_tensors(cls, model: GPRegression, tensors: dict[str, Tensor]) -> ExactMixture:
        """The inverse of ``tensors``, for the training data of ``model``."""
        values = below(_SITES, tensors)
        parts = zip(
            each(values), tensors["members.cholesky"], tensors["members.weights"], strict=True
        )
        members = [
            model.at(one).posterior_from(factor.clone().mT, weights.clone())
            for one, factor, weights in parts
        ]
        return cls(members, values)

    def law(self, x: Tensor, observation_noise: bool = True) -> Law:
        return mixture_of(self.members, x, observation_noise)

    def mean(self, x: Tensor) -> Tensor:
        return torch.stack([member.mean(x) for member in self.members]).mean(0)

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [member.mean_and_variance(x) for member in self.members]
        mean, variance = (torch.stack(part) for part in zip(*parts, strict=True))
        return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)

    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [member.mean_and_covariance(x) for member in self.members]
        means, covariance = (torch.stack(part) for part in zip(*parts, strict=True))
        gap = means - means.mean(0)
        products = "si,sj->ij" if means.dim() == 2 else "sip,sjp->ijp"
        between = torch.einsum(products, gap, gap) / len(gap)
        return means.mean(0), covariance.mean(0) + between

    def leave_one_out(self, observation_noise: bool = True) -> tuple[Tensor, Tensor]:
        """Weight each member by 1 / p(y_i | all other y), which leaves y_i out of its posterior."""
        y = self.members[0].train_y
        parts = [member.leave_one_out() for member in self.members]
        mean, variance = (torch.stack(part) for part in zip(*parts, strict=True))
        density = torch.distributions.Normal(mean, variance.sqrt()).log_prob(y)
        joint = density.sum(-1, keepdim=True) if mean.dim() == 3 else density
        weights = (-joint).softmax(0)
        if not observation_noise:
            noise = torch.stack([for_outputs(member.row_noise, y) for member in self.members])
            variance = (variance - noise).clamp_(min=0)
        centre = (weights * mean).sum(0)
        return centre, (weights * (variance + (mean - centre).square())).sum(0)

    def gradient(self, x: Tensor, with_variance: bool) -> tuple[Tensor, Tensor | None]:
        parts = [member.gradient(x, with_variance) for member in self.members]
        mean = torch.stack([part for part, _ in parts])
        if not with_variance:
            return mean.mean(0), None
        variance = torch.stack([part for _, part in parts if part is not None])
        return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)

    def condition(self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None) -> ExactMixture:
        """Condition each member; the draws keep their equal weights."""
        members = [member.condition(x, y, extra_variance) for member in self.members]
        return ExactMixture(members, self.values)

    def log_marginal_likelihood(self) -> float:
        """The mean over the draws, in nats."""
        return sum(member.log_marginal_likelihood() for member in self.members) / len(self.members)
