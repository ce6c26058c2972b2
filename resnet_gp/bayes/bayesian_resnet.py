"""ResNets of finite width with a prior on every weight, as a Pyro model."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.gaussian_vector import GaussianVector
from resnet_gp.bayes.gp_regression import check_rows, each
from resnet_gp.bayes.hyperparameters import Values
from resnet_gp.integers import check_number
from resnet_gp.models.posterior import normal_law
from resnet_gp.networks.laws import Network
from resnet_gp.predictive.law import Law


class BayesianResNet:
    """y = f(x) + e, with f a finite network that has a normal readout and a prior on every weight.

    f(x) = sqrt(outputscale / n) <v, Y_L(x)>, v ~ N(0, 1), with Y_L the last layer of ``network``.
    As the width n grows, f tends to the Gaussian process with the same output scale and
    ``ResNetLimitKernel`` of the network's depth (depth None if the depth grows as well).

    All sites are standard normal; the model scales them: "W_in" (``n x d``), "b_in" (``n``), "W"
    (``L x n x n``), "b" (``L x n``), the biases only if the network has them. The readout v is
    integrated in closed form: given the other weights, f is a Gaussian process with covariance
    outputscale <Y_L, Y_L> / n. This leaves fewer weights to sample.

    Args:
        network: law of the weights: width, depth, activation, variances
            (``resnet_gp.networks.ResNet``).
        train_x: ``N x d``.
        train_y: ``N``.
        noise_variance: variance of e; None for a log-normal prior (median 0.05, logarithmic
            deviation 2).
        outputscale: variance of f in units of <Y_L, Y_L> / n.

    Raises:
        ValueError: shapes that do not match, values that are no numbers, or a variance that is not
            positive.
    """

    def __init__(
        self,
        network: Network,
        train_x: Tensor,
        train_y: Tensor,
        noise_variance: float | None = None,
        outputscale: float = 1.0,
    ) -> None:
        check_rows(train_x, train_y)
        if train_y.dim() != 1:
            raise ValueError("train_y must have one dimension: fit a network to each output")
        for name, value in (("noise_variance", noise_variance), ("outputscale", outputscale)):
            if value is not None:
                check_number(name, value)
                if value <= 0:
                    raise ValueError(f"{name} must be positive, got {value!r}")
        self.network, self.train_x, self.train_y = network, train_x, train_y
        self.noise_variance, self.outputscale = noise_variance, outputscale

    def __call__(self) -> Tensor:
        values = {
            name: pyro.sample(name, dist.Normal(self.train_x.new_zeros(shape), 1.0).to_event())
            for name, shape in self._shapes().items()
        }
        noise = self.noise_variance
        if noise is None:
            law = dist.LogNormal(self.train_x.new_tensor(math.log(0.05)), 2.0)
            noise = pyro.sample("noise", law)
        law = self._law(self.covariance(values, self.train_x), noise)
        observed: Tensor = pyro.sample("y", law, obs=self.train_y)
        return observed

    @staticmethod
    def _law(covariance: Tensor, noise: float | Tensor) -> GaussianVector:
        each = torch.as_tensor(noise).to(covariance).expand(len(covariance))
        return GaussianVector(covariance, noise=each)

    def hidden(self, values: Values, x: Tensor) -> Tensor:
        """Pre-activations Y_L of the last layer at ``k x d`` inputs, ``k x n``."""
        net, n, d = self.network, self.network.width, x.shape[1]
        hidden = x @ values["W_in"].mT / math.sqrt(d)
        if "b_in" in values:
            hidden = hidden + math.sqrt(net.input_bias_variance) * values["b_in"]
        step = math.sqrt(net.layer_scale)
        weights = values["W"] * math.sqrt(net.weight_variance / n)
        for layer in range(net.depth):
            change = net.function(hidden) @ weights[layer].mT
            if "b" in values:
                change = change + math.sqrt(net.block_bias_variance) * values["b"][layer]
            hidden = step * change + (hidden if net.carries else 0)
        return hidden

    def covariance(self, values: Values, x: Tensor) -> Tensor:
        """Covariance of f at ``k x d`` inputs given all weights but the readout, ``k x k``."""
        hidden = self.hidden(values, x)
        return self.outputscale / self.network.width * hidden @ hidden.mT

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        draws: Draws,
        at_most: int | None = None,
        observation_noise: bool = True,
    ) -> Law:
        """The predictive law at ``k x d`` points; arguments as ``GPRegression.predict``."""
        rows = len(self.train_x)

        def law(values: Values) -> Law:
            noise = values["noise"] if self.noise_variance is None else self.noise_variance
            joint = self.covariance(values, torch.cat([self.train_x, x]))
            mean, variance = self._law(joint[:rows, :rows], noise).conditional(
                self.train_y, joint[:rows, rows:], joint.diagonal()[rows:]
            )
            return normal_law(mean, variance + noise * observation_noise)

        return Law.mixture(map(law, each(draws.pooled(at_most))))

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        net = self.network
        n = net.width
        shapes: dict[str, tuple[int, ...]] = {
            "W_in": (n, self.train_x.shape[1]), "W": (net.depth, n, n),
        }  # fmt: skip
        if net.input_bias_variance:
            shapes["b_in"] = (n,)
        if net.block_bias_variance:
            shapes["b"] = (net.depth, n)
        return shapes
