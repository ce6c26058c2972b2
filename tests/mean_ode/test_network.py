import math

import pytest
import torch

from resnet_gp import Activation
from resnet_gp.mean_ode import ResidualMLP


def test_start_and_blocks_are_those_of_the_paper():
    D, M, L = 5, 400, 30
    network = ResidualMLP(D, M, L, alpha=2.0, generator=torch.Generator().manual_seed(0))
    for parameter in (network.U, network.V):
        count = parameter.numel()
        z = (parameter.square().mean() / D - 1) * math.sqrt(count / 2)
        assert abs(z.item()) < 4
    x = torch.randn(3, D)
    h = x
    for U, V in zip(network.U, network.V, strict=True):
        h = h + 2.0 / (L * M) * torch.tanh(h @ U / D) @ V.T
    torch.testing.assert_close(network(x), h)
    assert len(network.states(x)) == L + 1


@pytest.mark.parametrize(
    ("scale", "alpha"),
    [("complete", 1.0), ("lazy", (8 * 6) ** 0.25), (0.5, 0.5 * 6 * 8 / math.sqrt(4))],
)
def test_scales(scale, alpha):
    assert ResidualMLP(4, 6, 8, scale=scale).alpha == pytest.approx(alpha)
    assert ResidualMLP(4, 6, 8, alpha=3.0, scale=scale).alpha == pytest.approx(3 * alpha)


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_learning_rates(alpha):
    groups = ResidualMLP(4, 6, 8, alpha).parameter_groups(lr=0.1)
    LMD = 4 * 6 * 8
    rates = [group["lr"] for group in groups]
    assert rates == pytest.approx([0.1 * min(1, alpha**-2) * LMD, 0.1 * alpha**-2 * LMD])


def test_any_activation():
    x = torch.randn(3, 4)
    by_name = ResidualMLP(4, 6, 8, activation="relu")
    own = ResidualMLP(4, 6, 8, activation=lambda u: u.clamp(min=0))
    own.load_state_dict(by_name.state_dict())
    assert torch.equal(by_name(x), own(x))
    cosine = ResidualMLP(4, 6, 8, activation=Activation(torch.cos, name="cos"))
    cosine.load_state_dict(by_name.state_dict())
    own.activation = torch.cos
    assert torch.equal(cosine(x), own(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"M": 0}, "M must be an integer of at least 1"),
        ({"alpha": 0.0}, "alpha must be positive"),
        ({"activation": "step"}, "activation must be one of"),
        ({"activation": None}, "activation must be one of"),
        ({"scale": "large"}, "scale must be"),
        ({"scale": -1.0}, "scale must be"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResidualMLP(**{"D": 4, "M": 6, "L": 8} | arguments)


def test_the_state_is_saved_and_restored(tmp_path):
    network, other = ResidualMLP(4, 6, 8), ResidualMLP(4, 6, 8)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    x = torch.randn(2, 4)
    assert torch.equal(network(x), other(x))
