"""The exact posterior averaged over draws of hyperparameters, with the methods of one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from resnet_gp.bayes.draws import Draws, below
from resnet_gp.bayes.gp_regression import GPRegression, each, mixture_of
from resnet_gp.bayes.hyperparameters import Values
from resnet_gp.models.exact_posterior import ExactPosterior
from resnet_gp.predictive.normal_mixture import NormalMixture

_BYTES = 2**30  # of the factors of all members
_FEWEST, _MOST = 20, 200
_SITES = "members.at."


class ExactMixture:
    """An equal mixture of ``ExactPosterior``.

    Means and variances are those of the mixture (the law of total variance); means are ``n`` or
    ``n x p``, variances the same shape.

    Args:
        members: one for each draw.
        noise_variances: of the members, ``S``.
        values: their hyperparameters by site, ``S`` in front.
    """

    def __init__(
        self, members: list[ExactPosterior], noise_variances: Tensor, values: Values
    ) -> None:
        self.members, self.noise_variances, self.values = members, noise_variances, values

    @classmethod
    @torch.no_grad()
    def of(cls, model: GPRegression, draws: Draws) -> ExactMixture:
        """Of evenly spaced draws, as many as fit a gibibyte, from 20 to 200."""
        rows = len(model.module.train_targets)
        count = int(min(_MOST, max(_FEWEST, _BYTES // (8 * rows**2))))
        return cls._at(model, draws.pooled(count))

    @classmethod
    def _at(
        cls, model: GPRegression, values: Values, factors: list[tuple[Tensor, Tensor]] | None = None
    ) -> ExactMixture:
        at_draws = [model.at(one) for one in each(values)]
        if factors is None:
            members = [at.posterior() for at in at_draws]
        else:
            x, y = model.module.train_inputs[0], model.module.train_targets
            members = [
                ExactPosterior(at.covar_module, x, y, *pair)
                for at, pair in zip(at_draws, factors, strict=True)
            ]
        noise = torch.stack([at.likelihood.noise.detach().reshape(()) for at in at_draws])
        return cls(members, noise, values)

    def tensors(self) -> dict[str, Tensor]:
        """All that is not training data, ``S`` members in front."""
        factors = torch.stack([member.cholesky.mT for member in self.members])  # rows are columns
        weights = torch.stack([member.weights for member in self.members])
        sites = {_SITES + name: value for name, value in self.values.items()}
        return {"members.cholesky": factors, "members.weights": weights, **sites}

    @classmethod
    def from_tensors(cls, model: GPRegression, tensors: dict[str, Tensor]) -> ExactMixture:
        """The inverse of ``tensors``, at the training data of ``model``."""
        values = below(_SITES, tensors)
        pairs = zip(tensors["members.cholesky"], tensors["members.weights"], strict=True)
        factors = [(factor.clone().mT, weights.clone()) for factor, weights in pairs]
        return cls._at(model, values, factors)

    @property
    def train_x(self) -> Tensor:
        return self.members[0].train_x

    @property
    def train_y(self) -> Tensor:
        return self.members[0].train_y

    @property
    def noise_variance(self) -> float:
        """Of the mixture, the mean of its members'."""
        return float(self.noise_variances.mean())

    def normal_mixture(self, x: Tensor, observation_noise: bool) -> NormalMixture:
        """The members' laws of y, or of f, at ``n x d`` points."""
        members = zip(self.members, self.noise_variances, strict=True)
        return mixture_of(members, x, observation_noise)

    def mean(self, x: Tensor) -> Tensor:
        return torch.stack([member.mean(x) for member in self.members]).mean(0)

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of f."""
        mixture = self.normal_mixture(x, observation_noise=False)
        return mixture.mean, mixture.variance

    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of f; the covariance is ``n x n`` or ``n x n x p``."""
        means, covariances = zip(
            *(member.mean_and_covariance(x) for member in self.members), strict=True
        )
        mean, covariance = torch.stack(means), torch.stack(covariances).mean(0)
        gap = mean - mean.mean(0)
        if mean.dim() == 2:
            return mean.mean(0), covariance + gap.mT @ gap / len(gap)
        between = torch.einsum("sip,sjp->ijp", gap, gap) / len(gap)
        return mean.mean(0), covariance[..., None] + between

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (noise included) of each target given all others.

        Members count by 1 / p(y_i | other y), which takes y_i out of the posterior of the
        hyperparameters.
        """
        means, variances = zip(*(member.leave_one_out() for member in self.members), strict=True)
        mean, variance = torch.stack(means), torch.stack(variances)
        if mean.dim() == 3:
            variance = variance[..., None].expand_as(mean)
        density = torch.distributions.Normal(mean, variance.sqrt()).log_prob(self.train_y)
        joint = density.sum(-1, keepdim=True) if mean.dim() == 3 else density
        weights = (-joint).softmax(0)
        centre = (weights * mean).sum(0)
        return centre, (weights * (variance + (mean - centre).square())).sum(0)

    def gradient(self, x: Tensor, with_variance: bool) -> tuple[Tensor, Tensor | None]:
        """Mean and variance of the gradient of f, as ``ExactPosterior.gradient``.

        Raises:
            ValueError: variances of several outputs.
        """
        parts = [member.gradient(x, with_variance) for member in self.members]
        mean = torch.stack([part for part, _ in parts])
        if not with_variance:
            return mean.mean(0), None
        if mean.dim() == 4:
            raise ValueError("the deviation of gradients of several outputs needs one model each")
        variance = torch.stack([part for _, part in parts if part is not None])
        return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)

    def condition(self, x: Tensor, y: Tensor, extra_variance: Tensor) -> ExactMixture:
        """The mixture with further rows; the draws are not weighted anew.

        Args:
            x: ``k x d``.
            y: ``k`` or ``k x p``.
            extra_variance: ``k``, known noise variances beyond the members' own.
        """
        members = [
            member.condition(x, y, noise + extra_variance)
            for member, noise in zip(self.members, self.noise_variances, strict=True)
        ]
        return ExactMixture(members, self.noise_variances, self.values)

    def log_marginal_likelihood(self) -> float:
        """The mean over the draws, in nats."""
        return sum(member.log_marginal_likelihood() for member in self.members) / len(self.members)
