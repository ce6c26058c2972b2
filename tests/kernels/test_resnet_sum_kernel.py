from __future__ import annotations

import dataclasses
import pickle
import unittest

import gpytorch
import pytest
import torch
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import ScaleKernel
from gpytorch.priors import GammaPrior, LogNormalPrior
from gpytorch.test.base_kernel_test_case import BaseKernelTestCase
from kernels.properties import KernelProperties, dense, points

from resnet_gp.kernels import ResNetLimitKernel, ResNetSumKernel, ResNetTangentKernel
from resnet_gp.models.priors import add_weak_priors, fix_confounded, log_prior


def moved(kernel):
    """Every hyperparameter away from its initial value and from the others."""
    for c, component in enumerate(kernel.components):
        component.weight_variance = 1.3 + 1.1 * c
        component.lengthscale = 0.8 + 0.3 * c
        if component.ard_num_dims is not None:
            component.lengthscale = torch.tensor([0.7, 1.1, 1.6]) * (1 + 0.3 * c)
        if component.input_bias:
            component.input_bias_variance = 0.4 + 0.3 * c
        if component.block_bias:
            component.block_bias_variance = 0.3 + 0.2 * c
    kernel.ratio = 0.4 + 0.2 * torch.arange(kernel.n_components - 1.0)
    return kernel


@dataclasses.dataclass(frozen=True)
class Configuration:
    activation: str = "relu"
    depth: int | None = None
    n_components: int = 2
    kind: str = "limit"
    input_bias: bool = False
    ard: bool = False
    variance: str = "full"
    contrast: bool = False
    dtype: torch.dtype = torch.float64
    dimensions = 3
    roundings = 2

    @property
    def degree(self):
        return 0 if self.variance == "unit" else 1

    @property
    def twice_differentiable(self):
        return self.depth is None and self.kind == "limit"

    def kernel(self, batch_shape=None):
        kernel = ResNetSumKernel(
            self.activation,
            self.depth,
            n_components=self.n_components,
            kind=self.kind,
            batch_shape=batch_shape,
            negative_slope=0.1,
            input_bias=self.input_bias,
            variance=self.variance,
            contrast=self.contrast,
            ard_num_dims=self.dimensions if self.ard else None,
        )
        return moved(kernel.to(self.dtype))

    def without_bias(self):
        return dataclasses.replace(self, input_bias=False)


CONFIGURATIONS = [
    Configuration(),
    Configuration(input_bias=True, ard=True, variance="no_growth", contrast=True),
    Configuration("leaky_relu", n_components=3, input_bias=True, dtype=torch.float32),
    Configuration("abs", variance="unit", ard=True),
    Configuration(depth=8, input_bias=True),
    Configuration(kind="tangent", input_bias=True, ard=True),
    Configuration(kind="tangent", depth=5, dtype=torch.float32),
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
class TestResNetSumKernel(KernelProperties):
    """Everything that every kernel owes."""

    # The components have different lengthscales and horizons.
    test_rotation_invariant = None
    test_zero_depth_is_linear = None

    def test_is_the_sum_of_its_components(self, configuration):
        kernel = configuration.kernel()
        x, z = self.points(configuration, 30), self.points(configuration, 20, seed=1)
        first, *others = kernel.components
        expected = dense(first, x, z)
        for ratio, other in zip(kernel.ratio.detach(), others, strict=True):
            expected = expected + ratio * dense(other, x, z)
        self.assert_close(configuration, dense(kernel, x, z), expected, x, z, ulp=8)

    def batch_kernel(self, configuration):
        kernel = configuration.kernel(batch_shape=torch.Size([3]))
        for parameter in kernel.parameters():
            step = 0.2 * torch.arange(3.0, dtype=parameter.dtype)
            parameter.data = parameter.data + step.reshape(3, *(1,) * (parameter.dim() - 1))
        return kernel

    @pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
    def test_half_precision(self, configuration, half):
        x, kernel = self.points(configuration, 20).to(half), configuration.kernel()
        assert torch.equal(dense(kernel, x), dense(kernel, x.float()))
        kernel = kernel.to(half)
        wide = configuration.kernel().float()
        wide.load_state_dict(kernel.state_dict())
        found, expected = dense(kernel, x), dense(wide, x)
        assert found.dtype == half
        bound = 30 * torch.finfo(half).eps * expected.abs().amax()
        assert ((found.float() - expected).abs() <= bound).all()


class TestGPyTorchContract(BaseKernelTestCase, unittest.TestCase):
    seed = 0

    def create_kernel_no_ard(self, **kwargs):
        return ResNetSumKernel(**kwargs)

    def create_kernel_ard(self, num_dims, **kwargs):
        return ResNetSumKernel(ard_num_dims=num_dims, **kwargs)


class TestOtherActivations:
    @pytest.mark.parametrize("options", [{"activation": "erf"}, {"block_bias": True}], ids=str)
    def test_are_computed_one_by_one(self, options):
        x, z = 0.5 * points(2, 6, 3), 0.5 * points(4, 3, seed=1)
        kernel = ResNetSumKernel(depth=3, input_bias=True, **options).double()
        moved(kernel)
        first, second = kernel.components
        expected = dense(first, x, z) + kernel.ratio.item() * dense(second, x, z)
        torch.testing.assert_close(dense(kernel, x, z), expected, rtol=1e-14, atol=0)
        with torch.no_grad():
            diagonal = kernel(x, diag=True)
        torch.testing.assert_close(diagonal, dense(kernel, x).diagonal(dim1=-1, dim2=-2))

    def test_start_at_one_weight_variance(self):
        kernel = ResNetSumKernel("erf")
        assert [one.weight_variance.item() for one in kernel.components] == [1, 1]

    def test_other_numbers_of_inputs_are_refused(self):
        kernel = ResNetSumKernel(ard_num_dims=3)
        for d in (1, 2, 4):
            with pytest.raises(RuntimeError, match="Expected the input to have 3 dimensionality"):
                kernel(torch.randn(5, d))

    def test_in_batches(self):
        x = 0.5 * points(6, 3)
        batch = ResNetSumKernel("erf", 2, batch_shape=torch.Size([2])).double()
        batch.ratio = torch.tensor([[0.3], [0.7]])
        K = dense(batch, x)
        assert K.shape == (2, 6, 6)
        for index in range(2):
            torch.testing.assert_close(dense(batch[index], x), K[index])
        with torch.no_grad():
            torch.testing.assert_close(batch(x, diag=True), K.diagonal(dim1=-1, dim2=-2))


class TestHyperparameters:
    def test_starts(self):
        kernel = ResNetSumKernel(n_components=3, ard_num_dims=2).double()
        horizons = [one.horizon.item() for one in kernel.components]
        assert horizons == pytest.approx([1, 10, 100])
        scales = [one.lengthscale[0].tolist() for one in kernel.components]
        assert scales == [pytest.approx([s, s]) for s in (1, 0.3, 0.09)]
        assert kernel.ratio.tolist() == pytest.approx([0.3, 0.09])

    def test_starts_of_constraints_win(self):
        constraint = Interval(1e-3, 50.0, initial_value=5.0)
        kernel = ResNetSumKernel(
            weight_variance_constraint=constraint, lengthscale_constraint=GreaterThan(0.5)
        )
        assert [one.weight_variance.item() for one in kernel.components] == (pytest.approx([5, 5]))
        assert kernel.components[1].lengthscale.item() > 0.5  # 0.3 is not allowed

    def test_ratio(self):
        kernel = ResNetSumKernel(n_components=3).double()
        kernel.ratio = [0.1, 0.2]
        assert kernel.ratio.tolist() == pytest.approx([0.1, 0.2])
        kernel.ratio = 0.5
        assert kernel.ratio.tolist() == pytest.approx([0.5, 0.5])
        with pytest.raises(ValueError, match="ratio is out of bounds"):
            kernel.ratio = -1.0
        with pytest.raises(ValueError, match=r"ratio must be a number or of shape \(2,\)"):
            kernel.ratio = torch.ones(3)

    def test_each_component_has_its_own_prior(self):
        """GPyTorch counts a prior that two modules share once."""
        prior = LogNormalPrior(0.0, 1.0)
        kernel = ResNetSumKernel(lengthscale_prior=prior, ratio_prior=GammaPrior(2.0, 1.0))
        names = {name for name, *_ in kernel.named_priors()}
        assert names == {
            "ratio_prior",
            "component_1.lengthscale_prior",
            "component_2.lengthscale_prior",
        }
        with pytest.raises(TypeError, match="ratio_prior must be a gpytorch Prior"):
            ResNetSumKernel(ratio_prior=1.0)

    def test_weak_priors(self):
        kernel = ScaleKernel(ResNetSumKernel(input_bias=True, ard_num_dims=2)).double()
        fix_confounded(kernel)
        assert {one.variance for one in kernel.base_kernel.components} == {"no_growth"}
        add_weak_priors(kernel)
        names = {name.removeprefix("base_kernel.") for name, *_ in kernel.named_priors()}
        assert names == {
            "outputscale_prior",
            "ratio_prior",
            *(f"component_{c}.{part}_prior" for c in (1, 2) for part in PARTS),
        }
        before = log_prior(kernel)
        kernel.base_kernel.ratio = 0.3 * torch.e**1.5  # one deviation from the median, 0.3
        assert (log_prior(kernel) - before).item() == pytest.approx(-0.5)


PARTS = ("lengthscale", "weight_variance")


class TestRefusals:
    @pytest.mark.parametrize("count", [0, -1, 1.5, "2", True, None])
    def test_number_of_components(self, count):
        with pytest.raises(ValueError, match="n_components must be"):
            ResNetSumKernel(n_components=count)

    def test_one_component(self):
        with pytest.raises(ValueError, match="n_components must be at least 2"):
            ResNetSumKernel(n_components=1)

    def test_kind(self):
        with pytest.raises(ValueError, match='kind must be "limit" or "tangent"'):
            ResNetSumKernel(kind="both")

    def test_what_components_refuse(self):
        with pytest.raises(ValueError, match="contrast=True needs"):
            ResNetSumKernel(depth=3, contrast=True)
        with pytest.raises(ValueError, match="activation of a tangent kernel"):
            ResNetSumKernel("erf", kind="tangent")

    def test_last_dimension_as_batch(self):
        x, kernel = points(4, 3), ResNetSumKernel().double()
        with (
            pytest.raises(RuntimeError, match="ResNetSumKernel does not accept the last_dim"),
            pytest.warns(DeprecationWarning, match="last_dim_is_batch"),
        ):
            kernel(x, last_dim_is_batch=True).to_dense()


def test_active_dimensions():
    x = points(20, 4)
    kernel = moved(ResNetSumKernel(active_dims=(0, 2, 3), ard_num_dims=3).double())
    plain = moved(ResNetSumKernel(ard_num_dims=3).double())
    torch.testing.assert_close(dense(kernel, x), dense(plain, x[:, [0, 2, 3]]))
    scaled = ScaleKernel(kernel).double()
    scaled.outputscale = 2.0
    torch.testing.assert_close(dense(scaled, x), 2 * dense(kernel, x))


def test_a_scaled_batch_can_be_indexed():
    x = points(8, 3)
    kernel = ScaleKernel(
        moved(ResNetSumKernel(batch_shape=torch.Size([2]))), batch_shape=torch.Size([2])
    ).double()
    kernel.outputscale = torch.tensor([1.0, 3.0])
    kernel.base_kernel.ratio = torch.tensor([[0.1], [0.9]])
    K = dense(kernel, x)
    torch.testing.assert_close(dense(kernel[1], x), K[1])
    torch.testing.assert_close(kernel(x)[1, 2:5].to_dense().detach(), K[1, 2:5])


def test_components_are_of_their_kind():
    assert all(type(one) is ResNetLimitKernel for one in ResNetSumKernel().components)
    tangent = ResNetSumKernel(kind="tangent", layers="blocks").components
    assert all(type(one) is ResNetTangentKernel and one.layers == "blocks" for one in tangent)


def test_parameters_and_their_names():
    kernel = ResNetSumKernel(input_bias=True, ard_num_dims=3)
    names = ("raw_lengthscale", "raw_weight_variance", "raw_input_bias_variance")
    assert [name for name, _ in kernel.named_parameters()] == [
        "raw_ratio",
        *(f"component_{c}.{name}" for c in (1, 2) for name in names),
    ]


class TwoScales(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ZeroMean()
        kernel = ResNetSumKernel(input_bias=True, variance="no_growth", contrast=True)
        self.covar_module = ScaleKernel(kernel)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def test_trains_in_a_model_of_gpytorch():
    x = points(60, 1)
    y = x[:, 0] + 0.2 * torch.sin(12 * x[:, 0]) + 0.05 * points(60, seed=3)
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    model = TwoScales(x, y, likelihood).double()
    likelihood.noise = 0.05
    objective = gpytorch.ExactMarginalLogLikelihood(likelihood, model)
    optimiser, values = torch.optim.Adam(model.parameters(), lr=0.1), []
    for _ in range(30):
        optimiser.zero_grad()
        loss = -objective(model(x), y)
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.1
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    with torch.no_grad(), gpytorch.settings.fast_pred_var():
        predicted = model(points(10, 1, seed=4))
        again = pickle.loads(pickle.dumps(model))(points(10, 1, seed=4))
    assert (predicted.variance > 0).all()
    torch.testing.assert_close(again.mean, predicted.mean)
