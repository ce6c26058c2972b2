import math

import pytest
import torch
from gpytorch.kernels import (
    ConstantKernel,
    LinearKernel,
    MaternKernel,
    PeriodicKernel,
    RBFKernel,
    ScaleKernel,
)

from resnet_gp import ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.flow.domain import DomainError
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.models import metric
from resnet_gp.models.metric import correlation_widths

X = torch.randn(80, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([0.4, 1.0, 3.0], dtype=torch.float64)


def with_lengthscales(kernel, lengthscales):
    kernel = kernel.double()
    kernel.lengthscale = lengthscales
    return kernel


def test_of_a_stationary_kernel_they_are_where_the_correlation_has_fallen():
    kernel = with_lengthscales(RBFKernel(ard_num_dims=3), LENGTHS)
    expected = LENGTHS * math.sqrt(-2 * math.log(0.7))  # where exp(-r^2 / 2) = 0.7
    torch.testing.assert_close(correlation_widths(kernel, X), expected, rtol=0.03, atol=0)
    kernel = with_lengthscales(MaternKernel(0.5, ard_num_dims=3), LENGTHS)
    expected = -LENGTHS * math.log(0.7)
    torch.testing.assert_close(correlation_widths(kernel, X), expected, rtol=0.03, atol=0)


def test_few_inputs_at_a_time_change_nothing(monkeypatch):
    kernel = with_lengthscales(RBFKernel(ard_num_dims=3), LENGTHS)
    whole = correlation_widths(kernel, X)
    monkeypatch.setattr(metric, "_ENTRIES", 64 * 3 * 2)
    calls, fall = [], metric._fall

    def counted(kernel, points, variance, step, inputs):
        calls.append(len(inputs))
        return fall(kernel, points, variance, step, inputs)

    monkeypatch.setattr(metric, "_fall", counted)
    torch.testing.assert_close(correlation_widths(kernel, X), whole)
    assert calls[:3] == [3, 2, 1]


def test_they_follow_the_lengthscales_of_the_limit():
    """Equal lengthscales for inputs of the same law give equal widths, others in proportion."""
    kernel = ResNetLimitKernel(input_bias=True, contrast=True, ard_num_dims=3)
    for factor in (1.0, 2.0):
        lengths = factor * torch.tensor([0.5, 0.5, 4.0], dtype=torch.float64)
        widths = correlation_widths(with_lengthscales(kernel, lengths), X * lengths)
        torch.testing.assert_close(widths / lengths, (widths / lengths)[:1].expand(3), rtol=0.2,
                                   atol=0)  # fmt: skip
    wide = correlation_widths(with_lengthscales(kernel, torch.tensor([1.0, 1.0, 30.0])), X)
    assert wide[2] > 10 * wide[:2].max()


def test_the_scale_does_not_matter():
    kernel = ScaleKernel(with_lengthscales(RBFKernel(ard_num_dims=3), LENGTHS)).double()
    kernel.outputscale = 7.0
    torch.testing.assert_close(
        correlation_widths(kernel, X), correlation_widths(kernel.base_kernel, X)
    )


def test_a_sum_is_in_between():
    short, long = (with_lengthscales(RBFKernel(ard_num_dims=3), v) for v in (LENGTHS, 4 * LENGTHS))
    widths = [correlation_widths(one, X) for one in (short, short + long, long)]
    assert (widths[0] < widths[1]).all()
    assert (widths[1] < widths[2]).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_input_that_is_not_used_has_a_long_width(dtype):
    for kernel in (RBFKernel(active_dims=(0, 2)), ResNetLimitKernel(active_dims=(0, 2))):
        widths = correlation_widths(kernel.to(dtype), X.to(dtype))
        assert widths.dtype == dtype
        assert widths[1] > 100 * widths[[0, 2]].max()
        assert widths.isfinite().all()


@pytest.mark.parametrize(
    "kernel",
    [
        ConstantKernel(), LinearKernel(), PeriodicKernel(), RBFKernel() + ConstantKernel(),
        ResNetTangentKernel(), ResNetSumKernel(), ResNetLimitKernel("erf", depth=2),
        with_lengthscales(RBFKernel(), 1e-4), with_lengthscales(RBFKernel(), 1e4),
        LinearKernel() * RBFKernel(),
    ],
    ids=lambda kernel: type(kernel).__name__,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_they_are_positive_and_finite(kernel, dtype):
    points = torch.cat([torch.zeros(1, 3), X, torch.full((1, 3), 50.0)]).to(dtype)
    widths = correlation_widths(kernel.to(dtype), points)
    assert widths.shape == (3,)
    assert widths.isfinite().all()
    assert (widths > 0).all()


def test_a_periodic_correlation_counts_by_its_first_fall():
    kernel = PeriodicKernel().double()
    kernel.period_length, kernel.lengthscale = 2.0, 1.0
    # exp(-2 sin^2(pi r / 2)) = 0.7, GPyTorch's lengthscale is squared in other conventions
    r = 2 / math.pi * math.asin(math.sqrt(-math.log(0.7) / 2))
    found = correlation_widths(kernel, X[:, :1])
    assert found.item() == pytest.approx(r, rel=0.05)


def test_one_point_and_constant_inputs_are_enough():
    for x in (X[:1], torch.zeros(5, 2, dtype=torch.float64)):
        widths = correlation_widths(RBFKernel().double(), x)
        assert widths.isfinite().all()
        assert (widths > 0).all()


class Bounded(RBFKernel):
    """Known at points below 20 alone."""

    def forward(self, x1, x2, **options):
        if max(x1.max(), x2.max()) > 20:
            raise DomainError("too far")
        return super().forward(x1, x2, **options)


def test_a_kernel_of_bounded_domain_is_asked_for_nothing_beyond():
    inside = with_lengthscales(Bounded(ard_num_dims=3), LENGTHS)
    torch.testing.assert_close(
        correlation_widths(inside, X),
        correlation_widths(with_lengthscales(RBFKernel(ard_num_dims=3), LENGTHS), X),
    )
    wide = correlation_widths(with_lengthscales(Bounded(ard_num_dims=3), 100 * LENGTHS), X)
    assert (wide > 16).all()
    assert wide[0] < wide[1] < wide[2]
    with pytest.raises(DomainError, match="too far"):
        correlation_widths(inside, X + 30)
