"""Sparse variational classification with the softmax likelihood, in minibatches (GPyTorch's SVGP).

Hensman, Matthews & Ghahramani 2015, "Scalable Variational Gaussian Process Classification". Kernel
and inducing inputs are given; the variational distribution and one output scale for each class are
learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import SoftmaxLikelihood
from gpytorch.means import ConstantMean
from gpytorch.mlls import VariationalELBO
from gpytorch.models import ApproximateGP
from gpytorch.variational import (
    CholeskyVariationalDistribution,
    IndependentMultitaskVariationalStrategy,
    VariationalStrategy,
)
from torch import Tensor

from resnet_gp.kernels.constraints import log_positive

_RATE = 0.1
_ROWS = 4096


class VariationalClassification(ApproximateGP):
    """C independent processes of one kernel, each with its own constant mean and output scale.

    Args:
        inducing: ``m x d``.
        kernel: any GPyTorch kernel without batch dimensions.
        n_classes: C.
    """

    def __init__(self, inducing: Tensor, kernel: Kernel, n_classes: int) -> None:
        batch = torch.Size([n_classes])
        distribution = CholeskyVariationalDistribution(len(inducing), batch_shape=batch)
        strategy = IndependentMultitaskVariationalStrategy(
            VariationalStrategy(self, inducing, distribution, learn_inducing_locations=False),
            num_tasks=n_classes,
        )
        super().__init__(strategy)
        self.mean_module = ConstantMean(batch_shape=batch)
        self.covar_module = ScaleKernel(
            kernel, batch_shape=batch, outputscale_constraint=log_positive(4.0)
        )
        self.to(inducing)

    def forward(self, x: Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """Of the latent functions, ``n x C``."""
        return self.mean_and_variance(x)[0]

    @torch.no_grad()
    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the latent functions, ``n x C`` each."""
        self.eval()
        parts = [self(part) for part in x.split(_ROWS)]
        means, variances = ([getattr(p, name) for p in parts] for name in ("mean", "variance"))
        return torch.cat(means), torch.cat(variances)


def fit_variational(
    model: VariationalClassification,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
    after_step: Callable[[], object] = lambda: None,
) -> list[float]:
    """Adam on the evidence lower bound, with a step size that falls along a cosine.

    Args:
        model: is left at the last parameters.
        x: ``n x d``.
        labels: integers from 0 to C - 1, ``n``.
        steps: of the optimiser.
        batch_size: rows in each.
        generator: draws the rows and the samples that estimate the expected log-likelihood.
        after_step: called after each step.

    Returns:
        The bound per sample that each step saw, in nats.

    Raises:
        FloatingPointError: the bound is not finite.
    """
    n_classes = model.covar_module.batch_shape[0]
    likelihood = SoftmaxLikelihood(num_classes=n_classes, mixing_weights=False).to(x)
    bound = VariationalELBO(likelihood, model, num_data=len(x))
    free = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(free, lr=_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    values = []
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        for _ in range(steps):
            rows = torch.randint(len(x), (min(batch_size, len(x)),))
            optimiser.zero_grad()
            value = bound(model(x[rows]), labels[rows])
            if not bool(value.isfinite()):
                raise FloatingPointError("the variational bound is not finite")
            (-value).backward()
            optimiser.step()
            schedule.step()
            values.append(float(value.detach()))
            after_step()
    model.eval()
    return values
