"""Full Bayes for Gaussian process regression, with hyperparameters as Pyro sample sites."""

from __future__ import annotations

from collections.abc import Iterable

import pyro
import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.gaussian_vector import GaussianVector
from resnet_gp.bayes.hyperparameters import (
    Values,
    sample_hyperparameters,
    with_hyperparameters,
)
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.posterior import Posterior
from resnet_gp.models.priors import add_weak_priors, fix_confounded
from resnet_gp.predictive.law import Law


class GPRegression:
    """y = f(x) + e, f ~ GP(0, outputscale kernel), e ~ N(0, noise), hyperparameters with priors.

    A Pyro model with one site for each hyperparameter, named as in GPyTorch
    ("likelihood.noise_covar.noise", "covar_module.outputscale",
    "covar_module.base_kernel.lengthscale", ...), and the observed site "y".

    Args:
        train_x: ``n x d``; the weak priors suit standardised data.
        train_y: ``n``, or ``n x p`` for p independent outputs that share all hyperparameters.
        kernel: a GPyTorch kernel without an output scale. Hyperparameters without a prior get a
            weak one (``add_weak_priors``); those confounded with the output scale are fixed
            (``fix_confounded``).
        extra_variance: ``n``, known noise variances beyond the learned one.

    Raises:
        ValueError: shapes that do not match, or values that are no numbers or negative variances.
    """

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        kernel: Kernel,
        extra_variance: Tensor | None = None,
    ) -> None:
        check_rows(train_x, train_y)
        if extra_variance is not None:
            check_variances("extra_variance", extra_variance, len(train_x))
        self.module = ExactRegression(train_x, train_y, kernel, extra_variance)
        fix_confounded(self.module)
        add_weak_priors(self.module)

    @classmethod
    def of(cls, module: ExactRegression) -> GPRegression:
        """Wrap an existing model, for instance a fitted one; hyperparameters get weak priors."""
        new = cls.__new__(cls)
        new.module = module
        add_weak_priors(module)
        return new

    def __call__(self) -> Tensor:
        model = sample_hyperparameters("", self.module)
        y: Tensor = self.module.train_targets
        outputs = y.shape[1] if y.dim() == 2 else None
        scale = model.covar_module.outputscale
        law = GaussianVector(model.unscaled_covariance(), outputs, model.row_noise(), scale)
        observed: Tensor = pyro.sample("y", law, obs=y)
        return observed

    def at(self, values: Values) -> ExactRegression:
        """The GPyTorch model at one draw of hyperparameters."""
        return with_hyperparameters("", self.module, values)

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        draws: Draws,
        at_most: int | None = 200,
        observation_noise: bool = True,
    ) -> Law:
        """The predictive law at ``n x d`` points, averaged over draws.

        Args:
            x: points.
            draws: from ``run_nuts`` or ``run_svi``.
            at_most: evenly spaced draws to average over; None for all. Each costs a factorisation.
            observation_noise: True for the law of y, False for that of f.

        Raises:
            ValueError: other columns than the training rows', or values that are no numbers.
        """
        check_points(x, self.module.train_inputs[0])
        members = (self.at(values).posterior() for values in each(draws.pooled(at_most)))
        return mixture_of(members, x, observation_noise)

    @torch.no_grad()
    def loo_log_likelihood(self, draws: Draws) -> Tensor:
        """log p(y_i | all other y, hyperparameters), ``chains x draws x n``, for PSIS-LOO.

        Importance weights need these densities, because the targets are not independent given the
        hyperparameters (Buerkner, Gabry & Vehtari 2021). Closed form (Rasmussen & Williams 2006,
        eq. 5.12).
        """
        y: Tensor = self.module.train_targets
        rows = []
        for values in each(draws.pooled()):
            mean, variance = self.at(values).posterior().leave_one_out()
            density = torch.distributions.Normal(mean, variance.sqrt()).log_prob(y)
            rows.append(density if y.dim() == 1 else density.sum(1))
        return torch.stack(rows).unflatten(0, (draws.num_chains, draws.num_draws))


def mixture_of(members: Iterable[Posterior], x: Tensor, observation_noise: bool) -> Law:
    """Equal mixture of the members' laws of y, or of f, at ``n x d`` points."""
    return Law.mixture(member.law(x, observation_noise) for member in members)


def each(values: Values) -> list[Values]:
    """Split values of several draws into one dictionary for each draw."""
    count = len(next(iter(values.values()))) if values else 0
    return [{name: value[i] for name, value in values.items()} for i in range(count)]


def check_rows(train_x: Tensor, train_y: Tensor) -> None:
    """Raise ``ValueError`` unless training data are numbers whose shapes match."""
    if train_x.dim() != 2 or train_y.dim() not in (1, 2) or len(train_x) != len(train_y):
        raise ValueError(
            f"train_x must be n x d and train_y n or n x p, got shapes {tuple(train_x.shape)} and "
            f"{tuple(train_y.shape)}"
        )
    check_finite("train_x", train_x)
    check_finite("train_y", train_y)


def check_points(x: Tensor, train_x: Tensor) -> None:
    """Raise ``ValueError`` unless points are numbers, with the columns of the training rows."""
    if x.dim() != 2 or x.shape[1] != train_x.shape[1]:
        raise ValueError(f"x must be k x {train_x.shape[1]}, got shape {tuple(x.shape)}")
    check_finite("x", x)


def check_finite(name: str, values: Tensor) -> None:
    """Raise ``ValueError`` unless all values are finite floating-point numbers."""
    if not (values.is_floating_point() and values.isfinite().all()):
        raise ValueError(f"{name} must hold finite floating-point numbers")


def check_variances(name: str, values: Tensor, n: int) -> None:
    """Raise ``ValueError`` unless these are n variances."""
    if values.shape != (n,) or not (values.isfinite() & (values >= 0)).all():
        raise ValueError(f"{name} must hold {n} variances, finite and not negative")
