import math

import numpy as np
import pytest
import torch
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import AdditiveKernel, PeriodicKernel, RBFKernel, ScaleKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.fitting.kernel_spec import KernelSpec, Start, checked_kernel
from resnet_gp.fitting.optimiser import maximise, set_raw
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.models.exact import ExactRegression


def model(spec, d=2):
    x = torch.linspace(-1, 1, 5 * d, dtype=torch.float64).reshape(5, d)
    return ExactRegression(x, x[:, 0], spec.build(d))


def bounds(kernel):
    spec = KernelSpec(kernel, "relu", None, False)
    return spec.bounds(model(spec))


def test_kernels_within_a_users_kernel_get_their_own_bounds():
    inner = ResNetLimitKernel("abs", input_bias=True)
    found = bounds(ScaleKernel(inner) + ScaleKernel(RBFKernel()))
    ours = "covar_module.base_kernel.kernels.0.base_kernel.raw_"
    assert found[f"{ours}weight_variance"] == pytest.approx((math.log(1e-3 / 4), math.log(5e3 / 4)))
    assert found[f"{ours}lengthscale"] == pytest.approx((math.log(1e-2), math.log(10)))
    assert f"{ours}input_bias_variance" in found
    low, high = found["covar_module.base_kernel.kernels.1.base_kernel.raw_lengthscale"]
    assert torch.nn.functional.softplus(torch.tensor([low, high]).double()).tolist() == (
        pytest.approx([1e-3, 1e3])
    )
    for path in ("covar_module", "covar_module.base_kernel.kernels.1"):
        low, high = found[f"{path}.raw_outputscale"]
        assert high > low + 10


def test_constraints_of_the_users_own_are_kept():
    found = bounds(RBFKernel(lengthscale_constraint=Interval(0.1, 2.0)))
    assert "covar_module.base_kernel.raw_lengthscale" not in found
    found = bounds(RBFKernel(lengthscale_constraint=GreaterThan(0.5)))
    assert all(map(math.isfinite, found["covar_module.base_kernel.raw_lengthscale"]))


@pytest.mark.parametrize("activation", ["erf", "tanh"])
def test_kernels_that_are_not_homogeneous_stay_where_moments_are_known(activation):
    spec = KernelSpec("limit", activation, None, True)
    found = spec.bounds(model(spec))
    assert math.exp(found["covar_module.base_kernel.raw_lengthscale"][0]) >= 0.25 - 1e-9
    assert math.exp(found["covar_module.base_kernel.raw_weight_variance"][1]) <= 8 + 1e-9
    assert "covar_module.base_kernel.raw_block_bias_variance" in found


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (RBFKernel(active_dims=(5,)), r"active_dims=\(5,\).*X has 2 features"),
        (ScaleKernel(RBFKernel(active_dims=(2,))), r"active_dims=\(2,\).*X has 2 features"),
        (RBFKernel() + RBFKernel(active_dims=(0, 7)), r"active_dims=\(0, 7\)"),
        (RBFKernel(active_dims=(-3,)), r"active_dims=\(-3,\), which must not be negative"),
        (RBFKernel(ard_num_dims=3), "ard_num_dims=3, X has 2 features"),
        (ScaleKernel(ResNetLimitKernel(ard_num_dims=3)), "ard_num_dims=3, X has 2 features"),
        (RBFKernel(active_dims=(1,), ard_num_dims=2), "ard_num_dims=2, of X it sees 1 features"),
        (RBFKernel(batch_shape=torch.Size([3])), r"\(3, 2, 2\).*batch_shape"),
        (AdditiveKernel(RBFKernel(), PeriodicKernel(ard_num_dims=4)), "ard_num_dims=4"),
    ],
)
def test_kernels_that_do_not_fit_the_data_are_refused(kernel, message):
    with pytest.raises(ValueError, match=message):
        checked_kernel(kernel, 2)


def test_kernels_that_fit_are_copied_in_float64():
    for kernel in (
        RBFKernel(active_dims=(1,), ard_num_dims=1),
        ScaleKernel(RBFKernel(active_dims=(3,))),
        RBFKernel(active_dims=(1, 3), ard_num_dims=2) * ResNetLimitKernel(ard_num_dims=4),
    ):
        found = checked_kernel(kernel, 4)
        assert found is not kernel
        assert next(found.parameters()).dtype == torch.float64


class TestComponents:
    @pytest.mark.parametrize("kind", ["limit", "tangent"])
    def test_builds_a_sum_with_the_settings_of_one(self, kind):
        one, two = (KernelSpec(kind, "relu", None, False, count).build(3) for count in (1, 2))
        assert isinstance(two, ResNetSumKernel)
        assert two.ratio.shape == (1,)
        for component in two.components:
            assert type(component) is type(one)
            for name in ("depth", "layers", "variance", "contrast", "input_bias", "ard_num_dims"):
                assert getattr(component, name) == getattr(one, name)
            assert not component.raw_input_bias_variance.requires_grad
            assert component.raw_lengthscale.dtype == torch.float64

    def test_bounds(self):
        spec = KernelSpec("limit", "relu", None, False, 2)
        found = spec.bounds(model(spec))
        base = "covar_module.base_kernel"
        assert found[f"{base}.raw_ratio"] == pytest.approx((math.log(1e-6), math.log(1e6)))
        for c in (1, 2):
            path = f"{base}.component_{c}.raw_"
            assert found[f"{path}lengthscale"] == pytest.approx((math.log(1e-2), math.log(10)))
            assert found[f"{path}weight_variance"] == pytest.approx((math.log(1e-3), math.log(5e3)))

    @pytest.mark.parametrize(
        ("start", "horizons", "lengthscales"),
        [
            (Start(5.0, 0.1, 1.0), [5, 50], [1, 0.3]),
            (Start(1000.0, 0.1, 0.02), [1000, 5000], [0.02, 0.01]),
            (Start(1.0, 0.1, np.array([0.5, 2.0])), [1, 10], [[0.5, 2], [0.15, 0.6]]),
        ],
        ids=str,
    )
    def test_starts(self, start, horizons, lengthscales):
        spec = KernelSpec("limit", "relu", None, False, 2)
        own = model(spec)
        set_raw(own, spec.raw(own, start))
        kernel = own.covar_module.base_kernel
        assert [one.horizon.item() for one in kernel.components] == pytest.approx(horizons)
        for one, expected in zip(kernel.components, lengthscales, strict=True):
            expected = torch.as_tensor(expected).double().expand(1, 2)
            torch.testing.assert_close(one.lengthscale.detach(), expected)
        assert kernel.ratio.item() == pytest.approx(0.3)
        assert own.likelihood.noise.item() == pytest.approx(0.1)

    def test_starts_of_kernels_that_are_not_homogeneous(self):
        spec = KernelSpec("limit", "erf", None, True, 3)
        own = model(spec)
        set_raw(own, spec.raw(own, Start(5.0, 0.1, 1.0)))
        parts = own.covar_module.base_kernel.components
        assert [one.weight_variance.item() for one in parts] == pytest.approx([1] * 3)
        assert [one.block_bias_variance.item() for one in parts] == pytest.approx([0.1] * 3)
        assert [one.lengthscale.mean().item() for one in parts] == pytest.approx([1, 0.3, 0.25])

    @pytest.mark.parametrize("count", [0, 1.5, None])
    def test_refuses_what_is_no_number(self, count):
        with pytest.raises(ValueError, match="n_components must be an integer of at least 1"):
            KernelSpec("limit", "relu", None, False, count)

    def test_refuses_a_kernel_of_gpytorch(self):
        with pytest.raises(ValueError, match="n_components=2 needs kernel="):
            KernelSpec(RBFKernel(), "relu", None, False, 2)

    def test_a_sum_can_be_the_users_own(self):
        found = bounds(ResNetSumKernel(ard_num_dims=2))
        assert "covar_module.base_kernel.raw_ratio" in found
        assert "covar_module.base_kernel.component_2.raw_weight_variance" in found
        with pytest.raises(ValueError, match="ard_num_dims=3, X has 2 features"):
            checked_kernel(ResNetSumKernel(ard_num_dims=3), 2)

    def test_two_scales_are_better_explained_by_two_networks(self):
        """A trend in one input, and waves of another."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(120, 2, generator=generator, dtype=torch.float64)
        noise = torch.randn(120, generator=generator, dtype=torch.float64)
        y = x[:, 0] + 0.4 * torch.sin(9 * x[:, 1]) + 0.05 * noise
        values = []
        for count in (1, 2):
            spec = KernelSpec("limit", "relu", None, False, count)
            own = ExactRegression(x, y / y.std(), spec.build(2))
            starts = [spec.raw(own, Start(5.0, 0.1, 1.0))]
            found = maximise(own.log_marginal_likelihood, own, spec.bounds(own), starts)
            assert found.value == pytest.approx(own.log_marginal_likelihood().item())
            values.append(found.value)
        assert values[1] > values[0] + 20
