import subprocess
import sys

import numpy as np
import pytest
import torch
from gpytorch.kernels import MaternKernel, PeriodicKernel, RBFKernel, ScaleKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.activations import Activation
from resnet_gp.fitting.checkpoint import Checkpoint
from resnet_gp.fitting.fingerprint import digest_of

ROWS = [np.arange(3.0)]


def periodic(period):
    kernel = PeriodicKernel()
    kernel.period_length = period
    kernel.raw_period_length.requires_grad_(False)
    return kernel


class Own(RBFKernel):
    """A kernel of a user's, with an attribute that is no parameter."""

    def __init__(self, period):
        super().__init__()
        self.period = period


def learned(kernel):
    kernel.raw_period_length.requires_grad_(True)
    return kernel


def shifted(step):
    return Own(lambda u: u + step)


OWN = [
    1.0, np.float32(1), np.float32(3), np.array([1.0]), np.array([3.0]), torch.tensor([1.0]),
    torch.tensor([3.0]), [1.0], [3.0], {"a": 1}, {"a": 3}, torch.cos, torch.sin,
    (torch.cos, lambda u: u), (torch.cos, lambda u: 2 * u),
]  # fmt: skip
DIFFERENT = {
    **{f"own {i}": Own(period) for i, period in enumerate(OWN)},
    "step 1": shifted(1),
    "step 2": shifted(2),
    "period learned": learned(periodic(1.0)),
    "limit": "limit",
    "tangent": "tangent",
    "period 1": periodic(1.0),
    "period 3": periodic(3.0),
    "matern 1/2": MaternKernel(0.5),
    "matern 5/2": MaternKernel(2.5),
    "two": ScaleKernel(RBFKernel() + MaternKernel(0.5)),
    "other two": ScaleKernel(RBFKernel() + MaternKernel(1.5)),
    "relu": ResNetLimitKernel(),
    "abs": ResNetLimitKernel("abs"),
    "depth": ResNetLimitKernel(depth=3),
    "cos": ResNetLimitKernel(Activation(torch.cos, name="own")),
    "tanh": ResNetLimitKernel(Activation(torch.tanh, name="own")),
    "narrow": RBFKernel(active_dims=(0,)),
    "wide": RBFKernel(),
}


def test_different_parameters_have_different_digests():
    digests = {name: digest_of({"kernel": kernel}, ROWS) for name, kernel in DIFFERENT.items()}
    assert len(set(digests.values())) == len(DIFFERENT)
    cos, tanh = (Activation(f, name="own") for f in (torch.cos, torch.tanh))
    assert digest_of({"activation": cos}, ROWS) != digest_of({"activation": tanh}, ROWS)


def test_arrays_count_by_values_and_shapes():
    arrays = [[None], [np.ones(3)], [np.zeros(3)], [np.ones((3, 1))], [np.ones(3), None]]
    assert len({digest_of({}, one) for one in arrays}) == len(arrays)


PROGRAM = """
import numpy as np, torch
from resnet_gp import ResNetLimitKernel
from resnet_gp.activations import Activation
from resnet_gp.fitting.fingerprint import digest_of
activation = Activation(torch.cos, name="cos")
kernel = ResNetLimitKernel(activation)
kernel.own = torch.cos, lambda u: u, [np.float32(1)]
print(digest_of({"kernel": kernel, "activation": activation}, [np.ones(2)]))
"""


def test_another_process_has_the_same_digest():
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for _ in range(2)
    }
    assert len(printed) == 1


def test_the_best_parameters_come_back(tmp_path):
    file = Checkpoint(tmp_path / "fit.json", "digest")
    assert file.read() is None
    best = {"a": torch.tensor([[1.0, 2.0]], dtype=torch.float64), "b": torch.tensor(0.1).double()}
    file.offer(best, -3.0)
    file.offer({"a": torch.zeros(1, 2)}, -4.0, at_once=True)  # worse
    again = Checkpoint(tmp_path / "fit.json", "digest").read()
    assert again.keys() == best.keys()
    assert all(torch.equal(again[name], value) for name, value in best.items())
    with pytest.raises(ValueError, match="of a fit of other data"):
        Checkpoint(tmp_path / "fit.json", "another").read()
