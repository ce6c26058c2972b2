import pickle

import pytest
import torch

from resnet_gp import Activation, ResNetLimitKernel, ResNetTangentKernel
from resnet_gp.flow.domain import IMPOSSIBLE, DomainError

STEEP = Activation(lambda u: 2 * torch.tanh(u), name="steep")


@pytest.mark.parametrize(
    ("kernel", "values"),
    [
        (ResNetLimitKernel(variance="no_growth"), {"weight_variance": 3e4}),
        (ResNetLimitKernel(depth=3, variance="no_growth"), {"weight_variance": 3e4}),
        (ResNetTangentKernel(), {"weight_variance": 3e4}),
        (ResNetLimitKernel(), {"weight_variance": 2e3}),  # the growth overflows
        (ResNetLimitKernel(STEEP), {"lengthscale": 1e-2}),
        (ResNetLimitKernel("erf"), {"lengthscale": 1e-200}),
        (ResNetLimitKernel("erf"), {"lengthscale": 1e-90}),
        (ResNetLimitKernel("tanh"), {"lengthscale": 1e-50}),
        (ResNetLimitKernel(block_bias=True), {"weight_variance": 1500.0}),
        (ResNetLimitKernel(), {"weight_variance": -1.0}),
    ],
    ids=[
        "horizon",
        "deep",
        "tangent",
        "growth",
        "moments",
        "squares",
        "products",
        "nodes",
        "overflow",
        "constraint",
    ],
)
def test_what_lies_outside_the_domain_raises_one_error(kernel, values):
    x = torch.linspace(1, 2, 3, dtype=torch.float64)[:, None]
    with pytest.raises(DomainError):
        kernel.double().initialize(**values)(x).to_dense()


def test_the_error_goes_through_processes_and_means_what_gpytorch_means():
    error = pickle.loads(pickle.dumps(DomainError("too far")))
    assert str(error) == "too far"
    assert isinstance(error, IMPOSSIBLE)
    assert isinstance(error, ValueError)
    assert isinstance(error, RuntimeError)
