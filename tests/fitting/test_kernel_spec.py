import math

import pytest
import torch
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import AdditiveKernel, PeriodicKernel, RBFKernel, ScaleKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.fitting.kernel_spec import KernelSpec, checked_kernel
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
