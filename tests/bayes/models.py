"""Models that several tests sample."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import Draws, GPRegression
from resnet_gp.bayes.hyperparameters import current_hyperparameters


def data(n=20, d=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, dtype=torch.float64, generator=generator)
    noise = torch.randn(n, dtype=torch.float64, generator=generator)
    return x, torch.sin(2 * x[:, 0]) + 0.2 * noise


def regression(n=20, d=2):
    x, y = data(n, d)
    return GPRegression(x, y, ResNetLimitKernel(input_bias=True, ard_num_dims=d))


def few_draws(model, count=6):
    """Draws from the prior, in two chains."""
    pyro.set_rng_seed(0)
    traces = [
        pyro.poutine.trace(pyro.poutine.uncondition(model)).get_trace() for _ in range(2 * count)
    ]
    names = current_hyperparameters("", model.module)
    values = {
        name: torch.stack([trace.nodes[name]["value"] for trace in traces]).unflatten(0, (2, count))
        for name in names
    }
    return Draws(values, torch.zeros(2, count, dtype=torch.bool))


def conjugate(y):
    """mu ~ N(0, 1), y ~ N(mu, 1): the posterior is N(sum y / (n + 1), 1 / (n + 1))."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def failing_at(calls):
    """A model that raises an error in one of its calls, once."""
    count = iter(range(10**9))

    def model(y):
        if next(count) == calls:
            raise ArithmeticError("no more")
        conjugate(y)

    return model


def spread_around(log_evidence, losses):
    """Check the last losses of a guide near the posterior, and return their deviation s.

    log q / p, of normal laws that are close, has variance s^2 and mean s^2 / 2 under q.
    """
    last = np.array(losses[-100:])
    spread = last.std(ddof=1)
    assert spread < 0.1 * np.std(losses[:100])
    assert abs(last.mean() + log_evidence - spread**2 / 2) < 4 * spread / 100**0.5
    return spread
