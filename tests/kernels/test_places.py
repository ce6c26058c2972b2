"""Every place where GPyTorch lets a kernel stand; each result against an independent computation.

A further kernel is one more line of ``KERNELS``.
"""

from __future__ import annotations

import math

import gpytorch
import pytest
import torch
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import (
    AdditiveKernel,
    InducingPointKernel,
    MultitaskKernel,
    ProductKernel,
    RBFKernel,
    ScaleKernel,
)
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import ConstantMean
from gpytorch.mlls import ExactMarginalLogLikelihood, VariationalELBO
from kernels.properties import dense, points

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel

DIMENSIONS = 2
NOISE = 0.05


def limit(activation="relu", batch_shape=None, **options):
    return ResNetLimitKernel(
        activation, input_bias=True, ard_num_dims=DIMENSIONS, batch_shape=batch_shape, **options
    )


def tangent(batch_shape=None, **options):
    return ResNetTangentKernel(
        input_bias=True, ard_num_dims=DIMENSIONS, batch_shape=batch_shape, **options
    )


KERNELS = {
    "limit": limit,
    "limit-abs": lambda **options: limit("abs", variance="no_growth", **options),
    "finite-depth": lambda **options: limit(depth=12, **options),
    "tangent": tangent,
    "tangent-finite-depth": lambda **options: tangent(depth=12, variance="no_growth", **options),
}

pytestmark = pytest.mark.parametrize("make", KERNELS.values(), ids=KERNELS.keys())


def configured(make, **options):
    kernel = make(**options).double()
    kernel.lengthscale, kernel.weight_variance = torch.tensor([0.8, 1.3]), 0.9
    return kernel


def data(n=40, seed=0):
    x = points(n, DIMENSIONS, seed=seed)
    return x, torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1].abs() + 0.1 * points(n, seed=seed + 50)


def prediction(K, cross, prior, y, noise, mean):
    """Textbook regression: posterior mean and covariance of f."""
    K = K + noise * torch.eye(len(K), dtype=K.dtype)
    solution = torch.linalg.solve(K, torch.cat([(y - mean)[:, None], cross.mT], dim=1))
    return mean + cross @ solution[:, 0], prior - cross @ solution[:, 1:]


class Exact(gpytorch.models.ExactGP):
    def __init__(self, x, y, kernel):
        super().__init__(x, y, GaussianLikelihood())
        self.mean_module, self.covar_module = ConstantMean(), kernel
        self.double().likelihood.noise = NOISE

    def forward(self, x):
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))


class Variational(gpytorch.models.ApproximateGP):
    def __init__(self, inducing_points, kernel):
        distribution = gpytorch.variational.CholeskyVariationalDistribution(len(inducing_points))
        strategy = gpytorch.variational.VariationalStrategy(self, inducing_points, distribution)
        super().__init__(strategy)
        self.mean_module, self.covar_module = ConstantMean(), kernel
        self.double()

    def forward(self, x):
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))


def train(module, loss, steps, rate=0.05):
    """Losses of a few steps of Adam; every parameter that is learned has a finite gradient."""
    optimiser, losses = torch.optim.Adam(module.parameters(), lr=rate), []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        optimiser.step()
        losses.append(value.item())
    return losses


class TestComposition:
    def test_sum_product_and_scale(self, make):
        kernel, other, x = configured(make), RBFKernel().double(), points(9, DIMENSIONS)
        K, R = dense(kernel, x), dense(other, x)
        scaled = ScaleKernel(kernel).double()
        scaled.outputscale = 0.3
        torch.testing.assert_close(dense(scaled + other * kernel, x), 0.3 * K + R * K)
        torch.testing.assert_close(dense(AdditiveKernel(kernel, other, scaled), x), 1.3 * K + R)
        torch.testing.assert_close(dense(ProductKernel(kernel, kernel), x), K.square())
        with torch.no_grad():
            diagonal = (scaled + other * kernel)(x, diag=True)
        torch.testing.assert_close(diagonal, (0.3 * K + R * K).diagonal())

    def test_additive_over_groups_of_inputs(self, make):
        first, second = configured(make), configured(make)
        second.weight_variance = 2.0
        x = points(7, 4)
        K = dense(first, x[:, [0, 2]]) + dense(second, x[:, [3, 1]])
        groups = []
        for dims, like in (((0, 2), first), ((3, 1), second)):
            kernel = make(active_dims=dims).double()
            state = {name: value.clone() for name, value in like.named_parameters()}
            kernel.load_state_dict(state, strict=False)
            groups.append(kernel)
        torch.testing.assert_close(dense(AdditiveKernel(*groups), x), K)

    def test_multitask(self, make):
        kernel, x, z = configured(make), points(6, DIMENSIONS), points(4, DIMENSIONS, seed=1)
        multitask = MultitaskKernel(kernel, num_tasks=3, rank=2).double()
        with torch.no_grad():
            tasks = multitask.task_covar_module.covar_matrix.to_dense()
        assert torch.linalg.matrix_rank(tasks - tasks.diagonal().diag()) > 0
        torch.testing.assert_close(dense(multitask, x, z), torch.kron(dense(kernel, x, z), tasks))
        with torch.no_grad():
            diagonal = multitask(x, diag=True)
        torch.testing.assert_close(diagonal, dense(multitask, x).diagonal())

    def test_batch_of_kernels_inside_a_scale(self, make):
        """As BoTorch's models of several outputs are made, and indexed."""
        shape, x = torch.Size([2]), points(7, DIMENSIONS)
        scaled = ScaleKernel(configured(make, batch_shape=shape), batch_shape=shape).double()
        scaled.outputscale = torch.tensor([0.5, 2.0])
        scaled.base_kernel.weight_variance = torch.tensor([[[0.4]], [[1.1]]])
        single = configured(make)
        for index, scale in enumerate((0.5, 2.0)):
            single.weight_variance = (0.4, 1.1)[index]
            torch.testing.assert_close(dense(scaled[index], x), scale * dense(single, x))
        expanded = ScaleKernel(single).double().expand_batch(torch.Size([3]))
        torch.testing.assert_close(dense(expanded, x)[2], math.log(2) * dense(single, x))


@pytest.mark.filterwarnings("ignore:The checkpointing feature is deprecated:DeprecationWarning")
class TestCheckpointing:
    """GPyTorch's own way to compute a product in blocks of rows."""

    def test_products(self, make):
        kernel, x, vector = ScaleKernel(configured(make)).double(), points(50, 2), points(50, 3)
        with torch.no_grad():
            with gpytorch.beta_features.checkpoint_kernel(16):
                product = kernel(x) @ vector
            torch.testing.assert_close(product, dense(kernel, x) @ vector)

    def test_gradients(self, make):
        (x, vector), results = (points(50, 2), points(50, 3)), []
        for rows in (0, 16):
            kernel, leaf = ScaleKernel(configured(make)).double(), x.clone().requires_grad_()
            with gpytorch.beta_features.checkpoint_kernel(rows):
                (kernel(leaf) @ vector).square().sum().backward()
            results.append([leaf.grad, *(parameter.grad for parameter in kernel.parameters())])
        for blocked, whole in zip(*results, strict=True):
            torch.testing.assert_close(blocked, whole)


class TestExact:
    def test_training_and_prediction(self, make):
        x, y = data()
        model = Exact(x, y, ScaleKernel(configured(make)))
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        losses = train(model, lambda: -likelihood(model(x), y), steps=15)
        assert losses[-1] < losses[0] - 0.02
        z, kernel, noise = data(8, seed=3)[0], model.covar_module, model.likelihood.noise.item()
        matrices = dense(kernel, x), dense(kernel, z, x), dense(kernel, z)
        constant = model.mean_module.constant.detach()
        mean, covariance = prediction(*matrices, y, noise, constant)
        model.eval()
        with torch.no_grad():
            exact = model(z)
            torch.testing.assert_close(exact.mean, mean)
            torch.testing.assert_close(exact.covariance_matrix, covariance)
        model.train()
        model.eval()  # clears the caches
        with torch.no_grad(), gpytorch.settings.fast_pred_var():
            fast = model(z)
            torch.testing.assert_close(fast.mean, mean)
            torch.testing.assert_close(fast.variance, covariance.diagonal(), rtol=1e-5, atol=1e-7)

    def test_marginal_likelihood(self, make):
        x, y = data()
        model = Exact(x, y, configured(make))
        K = dense(model.covar_module, x) + NOISE * torch.eye(len(x), dtype=x.dtype)
        expected = torch.distributions.MultivariateNormal(torch.zeros_like(y), K).log_prob(y)
        with torch.no_grad():
            value = ExactMarginalLogLikelihood(model.likelihood, model)(model(x), y)
        torch.testing.assert_close(value, expected / len(y))

    def test_fantasies(self, make):
        x, y = data()
        model = Exact(x[:-5], y[:-5], configured(make)).eval()
        whole = Exact(x, y, configured(make)).eval()
        z = points(6, DIMENSIONS, seed=8)
        with torch.no_grad():
            model(z)
            more = model.get_fantasy_model(x[-5:], y[-5:])
            torch.testing.assert_close(more(z).mean, whole(z).mean)
            torch.testing.assert_close(more(z).variance, whole(z).variance)


class TestSparse:
    def test_regression_on_inducing_points(self, make):
        """SGPR: the collapsed bound is trained, and predictions are those of the Nystrom matrix."""
        x, y = data(60)
        likelihood, kernel = GaussianLikelihood().double(), ScaleKernel(configured(make))
        sparse = InducingPointKernel(kernel, x[:12].clone(), likelihood)
        model = Exact(x, y, sparse)
        model.likelihood = likelihood
        objective = ExactMarginalLogLikelihood(likelihood, model)
        losses = train(model, lambda: -objective(model(x), y), steps=8)
        assert losses[-1] < losses[0]
        z, u = data(8, seed=3)[0], sparse.inducing_points.detach()
        root = torch.linalg.cholesky(dense(kernel, u))
        at_x, at_z = (
            torch.linalg.solve_triangular(root, dense(kernel, u, a), upper=False) for a in (x, z)
        )
        model.eval()
        with torch.no_grad(), gpytorch.settings.sgpr_diagonal_correction(False):  # that is FITC's
            mean = model(z).mean
        expected, _ = prediction(
            at_x.mT @ at_x,
            at_z.mT @ at_x,
            at_z.mT @ at_z,
            y,
            likelihood.noise.item(),
            model.mean_module.constant.detach(),
        )
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-4)

    def test_variational(self, make):
        """SVGP: the bound rises, and q(f) is what its formula says."""
        x, y = data(60)
        model, likelihood = Variational(x[:12].clone(), configured(make)), GaussianLikelihood()
        likelihood.double().noise = NOISE
        bound = VariationalELBO(likelihood, model, num_data=len(y))
        losses = train(
            torch.nn.ModuleList([model, likelihood]), lambda: -bound(model(x), y), 40, rate=0.03
        )
        assert losses[-1] < losses[0] - 0.1
        model.eval()
        z, kernel, strategy = data(8, seed=3)[0], model.covar_module, model.variational_strategy
        constant, u = model.mean_module.constant.detach(), strategy.inducing_points.detach()
        with torch.no_grad():
            q, found = strategy.variational_distribution, model(z)
            jitter = strategy.jitter_val * torch.eye(len(u), dtype=u.dtype)
            root = torch.linalg.cholesky(dense(kernel, u) + jitter)
            features = torch.linalg.solve_triangular(root, dense(kernel, u, z), upper=False)
            middle = q.covariance_matrix - torch.eye(len(u), dtype=u.dtype)
            covariance = dense(kernel, z) + features.mT @ middle @ features
            torch.testing.assert_close(
                found.mean, constant + features.mT @ q.mean, rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(found.variance, covariance.diagonal(), rtol=1e-3, atol=1e-4)
