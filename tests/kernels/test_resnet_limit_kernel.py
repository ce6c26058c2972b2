from __future__ import annotations

import dataclasses
import math
import pickle
import unittest

import gpytorch
import mpmath
import numpy as np
import oracle
import pyro
import pytest
import torch
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.priors import GammaPrior
from gpytorch.test.base_kernel_test_case import BaseKernelTestCase
from kernels.properties import KernelProperties, dense, points
from scipy.integrate import solve_ivp

from resnet_gp import ResNetLimitKernel, correlation

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
DTYPES = [torch.float64, torch.float32]


@dataclasses.dataclass(frozen=True)
class Configuration:
    activation: str = "relu"
    input_bias: bool = False
    ard: bool = False
    variance: str = "full"
    dtype: torch.dtype = torch.float64
    dimensions: int = 3
    depth: int | None = None
    block_bias: bool = False
    contrast: bool = False
    roundings = 1

    @property
    def degree(self):
        return 0 if self.variance == "unit" else 1

    @property
    def twice_differentiable(self):
        return self.depth is None

    def __str__(self):
        parts = [self.activation, str(self.dtype)[6:]]
        parts += [str(self.depth)] * (self.depth is not None)
        parts += ["bias"] * self.input_bias + ["ard"] * self.ard
        parts += ["block_bias"] * self.block_bias + ["contrast"] * self.contrast
        return "-".join(parts + [self.variance] * (self.variance != "full"))

    def kernel(self, batch_shape=None):
        kernel = ResNetLimitKernel(
            self.activation,
            self.depth,
            negative_slope=0.1,
            input_bias=self.input_bias,
            block_bias=self.block_bias,
            variance=self.variance,
            contrast=self.contrast,
            ard_num_dims=self.dimensions if self.ard else None,
            batch_shape=batch_shape,
        ).to(self.dtype)
        kernel.weight_variance = 1.3
        kernel.lengthscale = torch.tensor([0.7, 1.1, 1.6]) if self.ard else 0.8
        if self.input_bias:
            kernel.input_bias_variance = 0.4
        if self.block_bias:
            kernel.block_bias_variance = 0.3
        return kernel

    def without_bias(self):
        return dataclasses.replace(self, input_bias=False)

    def linear_limit(self, kernel, x, z):
        kernel.weight_variance = 1e-17
        scale = kernel.lengthscale.detach()
        bias = kernel.input_bias_variance.item() if self.input_bias else 0
        if self.block_bias:
            bias += kernel.block_bias_variance.item()
        covariance = (x / scale) @ (z / scale).mT / self.dimensions + bias
        first, second = (
            ((part / scale).square().sum(-1) / self.dimensions + bias).sqrt() for part in (x, z)
        )
        deviations = first[:, None] * second
        if self.contrast:
            covariance = (covariance + deviations) / 2
        return covariance / deviations if self.variance == "unit" else covariance


CONFIGURATIONS = [
    Configuration("relu"),
    Configuration("relu", input_bias=True, ard=True),
    Configuration("relu", variance="no_growth", dtype=torch.float32),
    Configuration("relu", input_bias=True, ard=True, dtype=torch.float32),
    Configuration("leaky_relu", input_bias=True),
    Configuration("leaky_relu", ard=True, variance="no_growth"),
    Configuration("leaky_relu", ard=True, dtype=torch.float32),
    Configuration("abs", ard=True),
    Configuration("abs", input_bias=True, variance="no_growth"),
    Configuration("abs", input_bias=True, dtype=torch.float32),
    Configuration("relu", input_bias=True, ard=True, variance="no_growth", contrast=True),
    Configuration("leaky_relu", contrast=True, dtype=torch.float32),
    Configuration("abs", contrast=True),
    Configuration("relu", input_bias=True, ard=True, variance="unit"),
    Configuration("abs", ard=True, contrast=True, variance="unit", dtype=torch.float32),
    Configuration("leaky_relu", depth=8, input_bias=True, variance="unit"),
    Configuration("relu", depth=1, input_bias=True),
    Configuration("relu", depth=10**6, ard=True, variance="no_growth"),
    Configuration("leaky_relu", depth=37, dtype=torch.float32),
    Configuration("abs", depth=3),
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
class TestResNetLimitKernel(KernelProperties):
    """Everything that every kernel owes, and the exact ridge of this one's hyperparameters."""

    def test_scales_are_confounded(self, configuration):
        x, scaled = points(20, 3, dtype=configuration.dtype), configuration.kernel()
        scaled.lengthscale = 2 * scaled.lengthscale
        if configuration.input_bias:
            scaled.input_bias_variance = scaled.input_bias_variance / 4
        K = dense(configuration.kernel(), x)
        factor = 4**configuration.degree
        self.assert_close(configuration, factor * dense(scaled, x), K, x, x, ulp=20)


class TestGPyTorchContract(BaseKernelTestCase, unittest.TestCase):
    seed = 0

    def create_kernel_no_ard(self, **kwargs):
        return ResNetLimitKernel(**kwargs)

    def create_kernel_ard(self, num_dims, **kwargs):
        return ResNetLimitKernel(ard_num_dims=num_dims, **kwargs)


def kernel_at(weight_variance, dtype=torch.float64, **options):
    kernel = ResNetLimitKernel(**options).to(dtype)
    kernel.weight_variance = weight_variance
    return kernel


def circle(solutions, dtype=torch.float64):
    """sqrt(2) (1, 0) and sqrt(2) (cos, sin): q_0 is 1 for both and c_0 between them."""
    with mpmath.workdps(40):
        root = mpmath.sqrt(2)
        rows = [[float(root * row.c0), float(root * row.sine)] for row in solutions]
    a = torch.tensor([[math.sqrt(2), 0.0]], dtype=dtype).expand(len(rows), 2).clone()
    return a[:, None].requires_grad_(), torch.tensor(rows, dtype=dtype)[:, None].requires_grad_()


def correlations(kernel, values):
    """The kernel's values without the growth factor, which is taken at 40 digits."""
    with mpmath.workdps(40):
        growth = (
            mpmath.exp(mpmath.mpf(kernel.weight_variance.item()) / 2)
            if kernel.variance == "full"
            else 1
        )
        return [mpmath.mpf(value) / growth for value in values.flatten().tolist()]


def relative_error(gradient, expected):
    rows = [[float(entry) for entry in row] for row in expected]
    expected = torch.tensor(rows, dtype=torch.float64)
    return ((gradient - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()


def input_gradients(kernel, solutions):
    """The gradients of k(a, b) in a and in b: a radial and a tangential part each."""
    with mpmath.workdps(40):
        growth = (
            mpmath.exp(mpmath.mpf(kernel.weight_variance.item()) / 2)
            if kernel.variance == "full"
            else 1
        )
        size = growth / mpmath.sqrt(2)
        in_a = [[size * row.c, size * row.slope * row.sine] for row in solutions]
        in_b = [
            [
                size * (row.c * row.c0 + row.slope * row.sine**2),
                size * (row.c * row.sine - row.slope * row.sine * row.c0),
            ]
            for row in solutions
        ]
    return in_a, in_b


def assert_exact(kernel, solutions, horizon):
    """Values to 2e-14 and gradients to 1e-10, as relative errors of whole vectors."""
    a, b = circle(solutions)
    K = kernel(a, b).to_dense()
    errors = [abs(c - s.c) for c, s in zip(correlations(kernel, K), solutions, strict=True)]
    assert max(errors) <= 2e-14 * max(1, horizon)
    gradients = torch.autograd.grad(K.sum(), (a, b))
    for gradient, expected in zip(gradients, input_gradients(kernel, solutions), strict=True):
        assert relative_error(gradient[:, 0], expected) <= 1e-10


def weight_error(kernel, solution):
    """Error of dk/dw of one pair on the circle, relative to its terms F and c / 2.

    They have different signs, and cancel to a millionth in one of the pairs.
    """
    a, b = circle([solution])
    raw = torch.autograd.grad(kernel(a, b).to_dense().sum(), kernel.raw_weight_variance)[0]
    w = mpmath.mpf(kernel.weight_variance.item())  # raw is log w
    with mpmath.workdps(40):
        growth = mpmath.exp(w / 2) if kernel.variance == "full" else 1
        terms = [solution.speed, solution.c / 2 if kernel.variance == "full" else 0]
        return float(abs(raw.item() / (w * growth) - sum(terms)) / sum(map(abs, terms)))


@pytest.mark.usefixtures("path")
class TestAgainstTheOracle:
    @pytest.mark.parametrize("horizon", oracle.table())
    def test_values_and_input_gradients(self, horizon):
        assert_exact(kernel_at(horizon), oracle.table()[horizon], horizon)

    @pytest.mark.parametrize("horizon", oracle.table())
    def test_matrix_and_diagonal(self, horizon):
        """The same rows as one row of a matrix, and as a diagonal."""
        kernel, solutions = kernel_at(horizon), oracle.table()[horizon]
        a, b = (x[:, 0].detach() for x in circle(solutions))
        with torch.no_grad():
            diagonal = kernel(a, b, diag=True)
        for values in (dense(kernel, a[:1], b), dense(kernel, b, a[:1]), diagonal):
            for c, solution in zip(correlations(kernel, values), solutions, strict=True):
                assert abs(c - solution.c) <= 2e-14 * max(1, horizon)

    @pytest.mark.parametrize("horizon", oracle.table())
    def test_gradient_in_the_weight_variance(self, horizon):
        kernel = kernel_at(horizon)
        for solution in oracle.table()[horizon]:
            assert weight_error(kernel, solution) <= 1e-11

    @pytest.mark.parametrize("horizon", oracle.table())
    def test_float32(self, horizon):
        """The reference is moved to the weight variance that float32 has: c_T changes by F dT."""
        kernel, solutions = kernel_at(horizon, torch.float32), oracle.table()[horizon]
        a, b = circle(solutions, torch.float32)
        K = kernel(a, b).to_dense()
        shift = kernel.weight_variance.item() - horizon
        for c, solution in zip(correlations(kernel, K), solutions, strict=True):
            assert abs(c - (solution.c + solution.speed * shift)) <= 5e-7
        gradients = torch.autograd.grad(K.sum(), (a, b))
        for gradient, expected in zip(gradients, input_gradients(kernel, solutions), strict=True):
            assert relative_error(gradient[:, 0], expected) <= 1e-5

    @pytest.mark.parametrize("horizon", [0.5, 1.0, 20.0])
    @pytest.mark.parametrize("angle", [1.414214e-6, 1.414214e-7])  # c_0 = 1 - 1e-12, 1 - 1e-14
    def test_close_to_equal_points(self, horizon, angle):
        solution = oracle.solve(angle, horizon)
        kernel = kernel_at(horizon)
        assert_exact(kernel, [solution], horizon)
        assert weight_error(kernel, solution) <= 1e-11

    @pytest.mark.parametrize("horizon", [1e-6, 1e-4, 100.0, 1e3, 9999.0])
    def test_other_horizons(self, horizon):
        """Without growth, which overflows; so dk/dw is F(c_T) alone."""
        kernel = kernel_at(horizon, variance="no_growth")
        angles = (math.pi, 3.0, 1.9, 1.1, 0.3, 1.4e-3, 1.4e-6)
        solutions = [oracle.solve(angle, kernel.weight_variance.item()) for angle in angles]
        assert_exact(kernel, solutions, horizon)
        for solution in solutions:
            assert weight_error(kernel, solution) <= 1e-11

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("horizon", [1e-3, 1.0, 100.0])
    def test_equal_points(self, horizon, dtype):
        """c_T = 1, dc_T/dc_0 = 1 and F = 0: what remains of the gradient is radial."""
        kernel = kernel_at(horizon, dtype, variance="no_growth")
        a = torch.tensor([[1.5, 0.5]], dtype=dtype).requires_grad_()
        b = a.detach().clone().requires_grad_()
        K = kernel(a, b).to_dense()
        assert abs(K.item() - 1.25) <= 2 * EPS[dtype]
        in_a, in_b, in_w = torch.autograd.grad(K.sum(), (a, b, kernel.raw_weight_variance))
        torch.testing.assert_close(in_a, a.detach() / 2, rtol=40 * EPS[dtype], atol=0)
        torch.testing.assert_close(in_b, a.detach() / 2, rtol=40 * EPS[dtype], atol=0)
        assert in_w.item() == 0


def leaky_moment(slope, q_a, q_b, q_ab):
    """E[phi(u) phi(v)] from the four quadrants' E[max(u, 0) max(v, 0)] (Cho & Saul 2009)."""
    scale = math.sqrt(q_a * q_b)

    def positive_part(c):
        angle = math.acos(min(1.0, max(-1.0, c)))
        return scale * (math.sin(angle) + (math.pi - angle) * c) / (2 * math.pi)

    c = q_ab / scale
    return (1 + slope**2) * positive_part(c) - 2 * slope * positive_part(-c)


def covariance_ode(a, b, *, slope=0.0, weight_variance=1.0, lengthscale=1.0, bias=0.0):
    """q_1(a, b) from the covariance ODE with its three components, as in the paper's Theorem 2."""
    a, b = a / lengthscale, b / lengthscale
    start = [np.mean(x * y) + bias for x, y in ((a, a), (b, b), (a, b))]

    def derivative(_, state):
        q_a, q_b, q_ab = state
        moments = [(q_a, q_a, q_a), (q_b, q_b, q_b), (q_a, q_b, q_ab)]
        return [weight_variance * leaky_moment(slope, *moment) for moment in moments]

    solution = solve_ivp(derivative, (0, 1), start, method="DOP853", rtol=1e-12, atol=1e-14)
    return solution.y[2, -1]


class TestAgainstTheCovarianceODE:
    a, b = np.array([1.0, -0.4, 0.7]), np.array([[0.3, 0.9, -1.1], [-1.2, 0.6, 0.1], [2, -1, 1]])

    def test_initially_the_kernel_of_the_paper(self):
        K = dense(ResNetLimitKernel().double(), torch.tensor(self.a)[None], torch.tensor(self.b))
        expected = [covariance_ode(self.a, b) for b in self.b]
        np.testing.assert_allclose(K[0], expected, rtol=1e-9)

    @pytest.mark.parametrize(
        ("activation", "slope"), [("relu", 0.0), ("leaky_relu", 0.2), ("abs", -1.0)]
    )
    def test_all_hyperparameters(self, activation, slope):
        kernel = ResNetLimitKernel(
            activation, negative_slope=0.2, input_bias=True, ard_num_dims=3
        ).double()
        kernel.lengthscale = torch.tensor([0.5, 1.0, 2.0])
        kernel.weight_variance, kernel.input_bias_variance = 2.5, 0.3
        K = dense(kernel, torch.tensor(self.a)[None], torch.tensor(self.b))
        options = {"lengthscale": np.array([0.5, 1, 2]), "bias": 0.3, "weight_variance": 2.5}
        expected = [covariance_ode(self.a, b, slope=slope, **options) for b in self.b]
        np.testing.assert_allclose(K[0], expected, rtol=1e-9)

    def test_linear_network(self):
        kernel = ResNetLimitKernel("leaky_relu", negative_slope=1.0).double()
        K = dense(kernel, torch.tensor(self.a)[None], torch.tensor(self.b))
        np.testing.assert_allclose(K[0], math.e * self.b @ self.a / 3, rtol=1e-13)

    def test_growth_is_a_factor(self):
        x = points(5, 3)
        K, bounded = (
            dense(kernel_at(1.3, variance=variance), x) for variance in ("full", "no_growth")
        )
        torch.testing.assert_close(K, bounded * math.exp(0.65), rtol=1e-14, atol=1e-14)


NAMES = ["lengthscale", "weight_variance", "input_bias_variance"]


@pytest.mark.parametrize("name", NAMES)
class TestHyperparameters:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_starts_at_exactly_one(self, name, dtype):
        kernel = ResNetLimitKernel(input_bias=True).to(dtype)
        assert getattr(kernel, name).dtype == dtype
        assert getattr(kernel, name).item() == 1.0

    def test_float_is_not_rounded_to_float32(self, name):
        kernel = ResNetLimitKernel(input_bias=True).double()
        setattr(kernel, name, 0.1)
        assert getattr(kernel, name).item() == pytest.approx(0.1, rel=1e-15)

    @pytest.mark.parametrize(
        "value", [3, 2.5, np.float64(0.3), torch.tensor(0.7), torch.tensor([[0.2]])], ids=repr
    )
    def test_setter(self, name, value):
        kernel = ResNetLimitKernel(input_bias=True).double()
        setattr(kernel, name, value)
        assert getattr(kernel, name).item() == pytest.approx(float(value), rel=1e-14)

    def test_initialize(self, name):
        kernel = ResNetLimitKernel(input_bias=True).double().initialize(**{name: 0.3})
        assert getattr(kernel, name).item() == pytest.approx(0.3, rel=1e-14)

    def test_batch_setter(self, name):
        kernel = ResNetLimitKernel(input_bias=True, batch_shape=torch.Size([2])).double()
        setattr(kernel, name, torch.tensor([[[0.5]], [[2.0]]]))
        assert getattr(kernel, name).shape == (2, 1, 1)
        torch.testing.assert_close(getattr(kernel, name).flatten().tolist(), [0.5, 2.0])
        setattr(kernel, name, 3.0)
        torch.testing.assert_close(getattr(kernel, name).flatten().tolist(), [3.0, 3.0])

    @pytest.mark.parametrize("value", [-1.0, 0.0, math.nan, math.inf, torch.tensor([[-2.0]])])
    def test_bad_values_are_refused(self, name, value):
        kernel = ResNetLimitKernel(input_bias=True)
        with pytest.raises(ValueError, match=name):
            setattr(kernel, name, value)
        assert getattr(kernel, name).item() == 1

    def test_constraint(self, name):
        bounded = {f"{name}_constraint": Interval(0.5, 2.0)}
        kernel = ResNetLimitKernel(input_bias=True, **bounded).double()
        assert getattr(kernel, name).item() == pytest.approx(1)
        with pytest.raises(ValueError, match=name):
            setattr(kernel, name, 2.5)
        kernel.get_parameter(f"raw_{name}").data.fill_(50)
        assert getattr(kernel, name).item() == pytest.approx(2)

    def test_initial_value_of_a_constraint(self, name):
        constraint = {f"{name}_constraint": GreaterThan(0.1, initial_value=0.4)}
        kernel = ResNetLimitKernel(input_bias=True, **constraint)
        assert getattr(kernel, name).item() == pytest.approx(0.4)

    def test_constraint_that_excludes_one(self, name):
        kernel = ResNetLimitKernel(input_bias=True, **{f"{name}_constraint": Interval(2.0, 3.0)})
        assert 2 < getattr(kernel, name).item() < 3

    def test_prior(self, name):
        prior = GammaPrior(3.0, 2.0)
        kernel = ResNetLimitKernel(input_bias=True, **{f"{name}_prior": prior})
        assert [found[0] for found in kernel.named_priors()] == [f"{name}_prior"]
        torch.manual_seed(0)
        kernel.sample_from_prior(f"{name}_prior")
        torch.manual_seed(0)
        assert getattr(kernel, name).item() == pytest.approx(prior.sample().item())
        ((*_, closure, _),) = kernel.named_priors()
        assert torch.equal(closure(kernel), getattr(kernel, name))

    def test_a_prior_survives_pickling(self, name):
        kernel = ResNetLimitKernel(input_bias=True, **{f"{name}_prior": GammaPrior(3.0, 2.0)})
        loaded = pickle.loads(pickle.dumps(kernel))
        loaded.sample_from_prior(f"{name}_prior")
        ((*_, closure, _),) = loaded.named_priors()
        assert torch.equal(closure(loaded), getattr(loaded, name))

    def test_prior_must_be_a_prior(self, name):
        with pytest.raises(TypeError, match="Prior"):
            ResNetLimitKernel(input_bias=True, **{f"{name}_prior": 1.0})

    def test_matters(self, name):
        x, kernel = points(4, 2, dtype=torch.float32), ResNetLimitKernel(input_bias=True)
        before = dense(kernel, x)
        setattr(kernel, name, 2.0)
        assert not torch.allclose(before, dense(kernel, x))


class TestConstruction:
    def test_lengthscale_of_each_dimension(self):
        kernel = ResNetLimitKernel(ard_num_dims=3, batch_shape=torch.Size([2]))
        assert kernel.lengthscale.shape == (2, 1, 3)
        assert kernel.weight_variance.shape == (2, 1, 1)
        kernel.lengthscale = torch.tensor([0.5, 1.0, 2.0])
        torch.testing.assert_close(kernel.lengthscale[1, 0].tolist(), [0.5, 1.0, 2.0])

    def test_there_is_no_bias_without_input_bias(self):
        kernel = ResNetLimitKernel()
        assert not hasattr(kernel, "input_bias_variance")
        with pytest.raises(AttributeError, match="input_bias=True"):
            kernel.input_bias_variance = 1.0
        with pytest.raises(ValueError, match="input_bias=True"):
            ResNetLimitKernel(input_bias_variance_prior=GammaPrior(1.0, 1.0))

    @pytest.mark.parametrize(
        ("activation", "slope", "factor"),
        [("relu", 0.7, 1), ("leaky_relu", 0.5, 0.25), ("abs", 0.7, 4)],
    )
    def test_horizon(self, activation, slope, factor):
        kernel = ResNetLimitKernel(activation, negative_slope=slope)
        kernel.weight_variance = 3.0
        assert kernel.horizon.item() == pytest.approx(3 * factor)

    def test_unknown_activation(self):
        with pytest.raises(ValueError, match="activation must be one of"):
            ResNetLimitKernel("softplus")

    def test_misspelt_option(self):
        with pytest.raises(TypeError, match="weight_varience"):
            ResNetLimitKernel(weight_varience_prior=None)

    def test_longest_horizon(self):
        """log and exp carry 10^4 past itself by rounding; 9999 gives the same to six digits."""
        for dtype in DTYPES:
            x = points(3, 2, dtype=dtype)
            longest, shorter = (
                dense(kernel_at(T, dtype, variance="no_growth"), x) for T in (1e4, 9999.0)
            )
            torch.testing.assert_close(longest, shorter, rtol=1e-6, atol=0)

    def test_horizon_beyond_the_longest(self):
        with pytest.raises(ValueError, match="horizon must lie between 0 and 10000"):
            dense(kernel_at(3e3, activation="abs", variance="no_growth"), points(3, 2))

    def test_overflow_names_the_weight_variance(self):
        with pytest.raises(ValueError, match="weight_variance is so large"):
            dense(kernel_at(1500.0), points(3, 2))

    @pytest.mark.filterwarnings("ignore:The last_dim_is_batch argument is deprecated")
    def test_last_dim_is_batch_is_refused(self):
        x = points(3, 2, dtype=torch.float32)
        with pytest.raises(RuntimeError, match="last_dim_is_batch"):
            ResNetLimitKernel()(x, last_dim_is_batch=True).to_dense()


class TestComposition:
    def test_output_scale(self):
        kernel, x = ResNetLimitKernel().double(), points(5, 3)
        scaled = gpytorch.kernels.ScaleKernel(kernel).double()
        scaled.outputscale = 2.5
        torch.testing.assert_close(dense(scaled, x), 2.5 * dense(kernel, x))

    def test_sum_and_product(self):
        kernel, other, x = ResNetLimitKernel(), gpytorch.kernels.RBFKernel(), points(5, 3)
        kernel, other = kernel.double(), other.double()
        K, R = dense(kernel, x), dense(other, x)
        torch.testing.assert_close(dense(kernel + other, x), K + R)
        torch.testing.assert_close(dense(kernel * other, x), K * R)

    def test_active_dims(self):
        x = points(5, 4)
        kernel = ResNetLimitKernel(active_dims=(3, 1), ard_num_dims=2).double()
        kernel.lengthscale = torch.tensor([0.5, 2.0])
        whole = ResNetLimitKernel(ard_num_dims=2).double()
        whole.lengthscale = torch.tensor([0.5, 2.0])
        assert torch.equal(dense(kernel, x), dense(whole, x[:, [3, 1]]))


class Model(gpytorch.models.ExactGP):
    def __init__(self, x, y, kernel, **likelihood):
        super().__init__(x, y, gpytorch.likelihoods.GaussianLikelihood(**likelihood))
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(kernel)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


class TestExactGP:
    @staticmethod
    def data(n=40):
        x = points(n, 2)
        return x, torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1].abs()

    def test_training_and_prediction(self):
        x, y = self.data()
        model = Model(x, y, ResNetLimitKernel(input_bias=True, ard_num_dims=2)).double()
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
        optimiser, losses = torch.optim.Adam(model.parameters(), lr=0.1), []
        for _ in range(40):
            optimiser.zero_grad()
            loss = -likelihood(model(x), y)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] - 0.3
        model.eval()
        z = points(50, 2, seed=5)
        expected = torch.sin(2 * z[:, 0]) + 0.5 * z[:, 1].abs()
        with torch.no_grad():
            prediction = model.likelihood(model(z))
        assert (prediction.mean - expected).square().mean() < 0.2 * expected.var()
        assert (prediction.variance > 0).all()

    def test_samples_from_the_priors(self):
        priors = {f"{name}_prior": GammaPrior(3.0, 2.0) for name in NAMES}
        model = Model(*self.data(6), ResNetLimitKernel(input_bias=True, **priors)).double()

        def sampled_model(x, y):
            sampled = model.pyro_sample_from_prior()
            pyro.sample("y", sampled.likelihood(sampled(x)), obs=y)
            return sampled

        pyro.set_rng_seed(0)
        trace = pyro.poutine.trace(sampled_model).get_trace(*self.data(6))
        kernel = trace.nodes["_RETURN"]["value"].covar_module.base_kernel
        for name in NAMES:
            value = trace.nodes[f"covar_module.base_kernel.{name}_prior"]["value"]
            torch.testing.assert_close(getattr(kernel, name).flatten(), value.flatten())
            assert getattr(model.covar_module.base_kernel, name).item() == 1
        x, y = self.data(6)
        K = 0.6931471805599453 * dense(kernel, x) + 0.6931471805599453 * torch.eye(6)
        law = torch.distributions.MultivariateNormal(torch.zeros(6).double(), K)
        drawn = [getattr(kernel, name) for name in NAMES]
        expected = law.log_prob(y) + sum(GammaPrior(3.0, 2.0).log_prob(one).sum() for one in drawn)
        assert trace.log_prob_sum().item() == pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.parametrize("depth", [0, -3, 2.0, True, 10**6 + 1, "10"])
def test_refuses_depths(depth):
    with pytest.raises(ValueError, match="depth"):
        ResNetLimitKernel(depth=depth)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
def test_finite_depth_meets_the_limit_with_slope_minus_one(activation):
    x, depths = points(20, 3), [2**k for k in range(6, 16)]
    limit = dense(kernel_at(2.0, activation=activation), x)
    errors = [
        (dense(kernel_at(2.0, activation=activation, depth=L), x) - limit).norm() for L in depths
    ]
    slopes = np.diff(np.log(errors)) / np.log(2)
    assert slopes == pytest.approx(-1, abs=0.03)
    assert slopes[-1] == pytest.approx(-1, abs=1e-3)


def test_contrast_needs_the_limit():
    with pytest.raises(ValueError, match="contrast=True needs depth=None"):
        ResNetLimitKernel(contrast=True, depth=3)


@pytest.mark.parametrize("options", [{"activation": "erf"}, {"block_bias": True}])
@pytest.mark.parametrize(
    "option", [{"variance": "no_growth"}, {"variance": "unit"}, {"contrast": True}]
)
def test_options_of_homogeneous_kernels(options, option):
    with pytest.raises(ValueError, match=r"variance=\"no_growth\".* need an activation"):
        ResNetLimitKernel(**option, **options)


@pytest.mark.parametrize("variance", ["growth", True, None])
def test_unknown_variance(variance):
    with pytest.raises(ValueError, match="variance must be one of full, no_growth, unit"):
        ResNetLimitKernel(variance=variance)


@pytest.mark.parametrize("options", [{}, {"input_bias": True, "contrast": True}, {"depth": 5}])
def test_unit_variance_is_the_correlation(options):
    plain, unit = (
        ResNetLimitKernel(variance=variance, **options).double() for variance in ("full", "unit")
    )
    x, z = points(30, 3), points(20, 3, seed=1)
    with torch.no_grad():
        deviations = [plain(part, diag=True).sqrt() for part in (x, z)]
    expected = dense(plain, x, z) / (deviations[0][:, None] * deviations[1])
    torch.testing.assert_close(dense(unit, x, z), expected, rtol=0, atol=1e-14)
    assert torch.equal(dense(unit, x).diagonal(), torch.ones(30, dtype=torch.float64))


def test_unit_variance_at_the_origin_without_bias_is_none():
    x = torch.cat([torch.zeros(1, 3), points(2, 3, dtype=torch.float32)]).requires_grad_()
    K = ResNetLimitKernel(variance="unit")(x).to_dense()
    assert torch.equal(K[0], torch.zeros(3))
    assert torch.equal(K.diagonal(), torch.tensor([0.0, 1.0, 1.0]))
    gradient = torch.autograd.grad(K.sum(), x)[0]
    others = x[1:].detach().requires_grad_()
    K = ResNetLimitKernel(variance="unit")(others).to_dense()
    assert torch.equal(gradient[0], torch.zeros(3))
    torch.testing.assert_close(gradient[1:], torch.autograd.grad(K.sum(), others)[0])


def test_unit_variance_does_not_overflow():
    kernel = ResNetLimitKernel(variance="unit")
    kernel.weight_variance = 5000.0  # at which e^w overflows
    x = points(3, 2, dtype=torch.float32)
    cosines = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    torch.testing.assert_close(dense(kernel, x), correlation(cosines.clamp(-1, 1), 5000.0))
