import pytest
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.fitting.kernel_search import search
from resnet_gp.flow.domain import DomainError


def kernel(horizon):
    made = ResNetLimitKernel(input_bias=True, variance="no_growth").double()
    made.weight_variance = horizon
    return made.requires_grad_(False)


X = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]


def test_kernels_outside_the_domain_are_left_out():
    kernels = [kernel(1e5), kernel(2.0), kernel(1e6), kernel(20.0)]
    found = search(kernels, X, X.sin(), [0.01, 0.1], 4)
    assert {candidate.index for candidate in found} == {1, 3}


def test_no_kernel_within_the_domain_is_an_error():
    with pytest.raises(DomainError, match="horizon"):
        search([kernel(1e5)], X, X.sin(), [0.1], 1)
