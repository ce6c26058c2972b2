import math

import pytest
import torch
from torch.func import functional_call

from resnet_gp.mean_ode import ResidualMLP
from resnet_gp.mean_ode.linearised import LinearisedSweep
from resnet_gp.mean_ode.training import Networks, train

L, B, D, M, N = 7, 3, 4, 5, 6


def networks(alphas=(0.5, 1.0, 4.0), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    U, V = torch.randn(2, L, B, D, M, generator=generator, dtype=dtype) * math.sqrt(D)
    X, Y = torch.randn(2, B, N, D, generator=generator, dtype=dtype)
    return Networks(U, V, X, Y, torch.tensor(alphas, dtype=dtype))


def module_of(start, index):
    alpha = start.alpha[index].item()
    module = ResidualMLP(D, M, L, alpha).to(start.U.dtype)
    module.load_state_dict({"U": start.U[:, index], "V": start.V[:, index]})
    return module


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_trains_like_autograd_with_a_torch_optimiser(dtype):
    start, steps = networks(dtype=dtype), 8
    trained = train(start, steps)
    tolerance = 1000 * torch.finfo(dtype).eps  # rounding of eight steps through seven layers
    for index in range(B):
        module = module_of(start, index)
        optimiser = torch.optim.SGD(module.parameter_groups())
        for step in range(steps):
            squares = (module(start.X[index]) - start.Y[index]).square().mean()
            torch.testing.assert_close(
                trained.losses[step, index], squares, rtol=tolerance, atol=tolerance
            )
            optimiser.zero_grad()
            (squares / 2).backward()
            optimiser.step()
        output = module(start.X[index])
        torch.testing.assert_close(trained.output[index], output, rtol=tolerance, atol=tolerance)
        alpha = start.alpha[index]
        for moved, end, begin in (
            (trained.displacement_U, module.U, start.U),
            (trained.displacement_V, module.V, start.V),
        ):
            expected = alpha * (end - begin[:, index])
            torch.testing.assert_close(
                moved[:, index], expected, rtol=100 * tolerance, atol=100 * tolerance
            )


def linearised_output(start, index, moved):
    """Output by forward-mode differentiation of the module's blocks, one by one."""
    h = start.X[index]
    for layer in range(L):
        module = ResidualMLP(D, M, 1, scale=math.sqrt(D) / (L * M)).to(h.dtype)
        before = {key: getattr(start, key)[layer : layer + 1, index] for key in "UV"}
        displaced = {key: moved[key][layer : layer + 1] for key in "UV"}

        def block(parameters, module=module, h=h):
            return functional_call(module, parameters, (h,)) - h

        _, change = torch.func.jvp(block, (before,), (displaced,))
        h = h + change
    return h


def test_linearised_networks_train_like_autograd():
    start, steps = networks(), 4
    trained = train(start, steps, LinearisedSweep)
    for index in range(B):
        moved = {key: torch.zeros(L, D, M, dtype=torch.float64) for key in "UV"}
        for _ in range(steps):
            leaves = {key: value.requires_grad_() for key, value in moved.items()}
            loss = (linearised_output(start, index, leaves) - start.Y[index]).square().mean() / 2
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            pairs = zip(moved, gradients, strict=True)
            moved = {key: moved[key].detach() - L * M * D * g for key, g in pairs}
        output = linearised_output(start, index, moved)
        torch.testing.assert_close(trained.output[index], output, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(trained.displacement_U[:, index], moved["U"])
        torch.testing.assert_close(trained.displacement_V[:, index], moved["V"])


def test_a_lazy_network_tends_to_its_linearisation_as_alpha_grows():
    """The start's own output is of order alpha: pairs of units (u, v), (u, -v) remove it."""
    start = networks()
    U, V = torch.cat([start.U] * 2, -1), torch.cat([start.V, -start.V], -1)
    distances = []
    for alpha in (8.0, 16.0, 32.0):
        paired = Networks(U, V, start.X, start.Y, torch.full((B,), alpha, dtype=torch.float64))
        difference = train(paired, 5).output - train(paired, 5, LinearisedSweep).output
        distances.append(difference.abs().max().item())
    assert distances[0] > 1.5 * distances[1] > 2 * distances[2]


def test_the_sign_of_alpha_is_the_sign_of_v():
    """So the lazy limit of a start symmetric in V has no term in 1/alpha."""
    start = networks()
    mirrored = Networks(start.U, -start.V, start.X, start.Y, -start.alpha)
    assert torch.equal(train(start, 5).output, train(mirrored, 5).output)
