import math

import numpy as np
import pyro
import pytest
import torch
from bayes.models import data

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import BayesianResNet, Draws, run_nuts
from resnet_gp.networks import ResNet

X, Y = data(5, 3)


def prior_values(model, count):
    traces = [pyro.poutine.trace(pyro.poutine.uncondition(model)).get_trace() for _ in range(count)]
    return [
        {n: t.nodes[n]["value"] for n in ("W_in", "W", "b_in", "b") if n in t.nodes} for t in traces
    ]


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_mean_covariance_is_the_kernel_of_its_depth(activation):
    """q_L is exact at any width for the diagonal of a ReLU network, nearly so elsewhere."""
    pyro.set_rng_seed(0)
    law = ResNet(64, 3, activation, 2.0, input_bias_variance=0.5, block_bias_variance=0.3)
    model = BayesianResNet(law, X, Y, 0.1, outputscale=1.7)
    drawn = torch.stack([model.covariance(v, X) for v in prior_values(model, 600)])
    kernel = ResNetLimitKernel(activation, 3, input_bias=True, block_bias=True).double()
    kernel.weight_variance, kernel.input_bias_variance = 2.0, 0.5
    kernel.block_bias_variance = 0.3
    expected = 1.7 * kernel(X).to_dense()
    error = drawn.std(0) / math.sqrt(600)
    bias = 0.02 * expected.diagonal().max()  # O(1/width) of entries beside the diagonal
    assert ((drawn.mean(0) - expected).abs() < 4.5 * error + bias).all()


def test_predictions_are_those_of_the_linear_readout():
    model = BayesianResNet(ResNet(4, 2), X, Y, 0.1)
    pyro.set_rng_seed(0)
    [values] = prior_values(model, 1)
    draws = Draws({n: v[None, None] for n, v in values.items()}, torch.zeros(1, 1, dtype=bool))
    new = data(2, 3, seed=1)[0]
    found = model.predict(new, draws)
    features = model.hidden(values, torch.cat([X, new])) / 2
    train, test = features[:5], features[5:]
    precision = train.mT @ train / 0.1 + torch.eye(4).double()
    weights = torch.linalg.solve(precision, train.mT @ Y / 0.1)
    np.testing.assert_allclose(found.mean, test @ weights)
    variance = (test @ torch.linalg.inv(precision) * test).sum(1) + 0.1
    np.testing.assert_allclose(found.variance, variance)


def test_it_is_sampled_with_its_noise():
    model = BayesianResNet(ResNet(3, 2, input_bias_variance=1.0), X, Y)
    with pytest.warns(UserWarning, match="worth|disagree"):
        draws = run_nuts(
            model, num_chains=1, num_draws=10, num_warmup=20, max_tree_depth=3, verbose=False
        )
    assert set(draws.values) == {"W_in", "W", "b_in", "noise"}
    assert draws.values["W"].shape == (1, 10, 2, 3, 3)
    together = model.predict(X, draws, at_most=None)
    for k, noise in enumerate(draws.values["noise"][0]):
        known = BayesianResNet(model.network, X, Y, float(noise))
        one = Draws({n: v[:, k : k + 1] for n, v in draws.values.items()}, draws.diverging[:, :1])
        alone = known.predict(X, one)
        np.testing.assert_allclose(alone.means[0], together.means[k], atol=1e-7)
        np.testing.assert_allclose(alone.scales[0], together.scales[k], atol=1e-7)
    latent = model.predict(X, draws, at_most=None, observation_noise=False)
    noises = draws.values["noise"][0][:, None].numpy()
    np.testing.assert_allclose(together.scales**2, latent.scales**2 + noises)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="train_x must be n x d"):
        BayesianResNet(ResNet(3, 2), X, Y[1:])
    with pytest.raises(ValueError, match="a network to each output"):
        BayesianResNet(ResNet(3, 2), X, torch.stack([Y, Y], 1))
