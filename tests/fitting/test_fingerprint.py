"""What tells objects apart: all of it for checkpoints, all but learned values for files."""

import numpy as np
import pytest
import torch
from gpytorch.kernels import MaternKernel, RBFKernel, RFFKernel, ScaleKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.activations import Activation
from resnet_gp.fitting.fingerprint import structure_of
from resnet_gp.kernels import ConvResNetLimitKernel


def test_values_of_parameters_do_not_count():
    for kernel in (RBFKernel(), ScaleKernel(MaternKernel(2.5)), ResNetLimitKernel(depth=3)):
        before = structure_of(kernel)
        with torch.no_grad():
            for parameter in kernel.parameters():
                parameter += 1
        assert structure_of(kernel) == before


@pytest.mark.parametrize(
    "kernel",
    [
        RBFKernel(active_dims=[1]), RBFKernel() + RBFKernel(), RFFKernel(5),
        ConvResNetLimitKernel((2, 2)), ResNetLimitKernel(input_bias=True),
    ],
)  # fmt: skip
def test_what_a_kernel_keeps_when_it_is_used_does_not_count(kernel):
    before = structure_of(kernel)
    kernel(torch.randn(5, 4)).to_dense()
    assert structure_of(kernel) == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MaternKernel(0.5), MaternKernel(2.5)),
        (RBFKernel(), MaternKernel()),
        (RBFKernel(), RBFKernel(ard_num_dims=2)),
        (RBFKernel(), RBFKernel().requires_grad_(False)),
        (RBFKernel(), "limit"),
        ([RBFKernel(), MaternKernel()], [MaternKernel(), RBFKernel()]),
        (ResNetLimitKernel(), ResNetLimitKernel(depth=2)),
        (ConvResNetLimitKernel((2, 2)), ConvResNetLimitKernel((2, 2), readout="average")),
        (Activation(torch.tanh, "own"), Activation(torch.sin, "own")),
    ],
)
def test_settings_count(one, other):
    assert structure_of(one) != structure_of(other)


def test_rounding_does_not_count():
    other = Activation(lambda u: torch.tanh(u) * (1 + 2 * np.finfo(float).eps), "own")
    assert structure_of(Activation(torch.tanh, "own")) == structure_of(other)
