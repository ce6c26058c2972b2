"""Convolutional networks at initialisation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_gp.networks import simulate
from resnet_gp.networks.convolutional import ConvResNet, ConvSimulation, _convolved


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("circular", [False, True])
def test_a_layer_is_a_convolution_with_each_networks_own_filters(circular):
    law = ConvResNet(4, 2, image_shape=(3, 4, 5), circular=circular)
    images = torch.randn(2, 6, 3, 4, 5, generator=generator())  # 2 networks, 6 images
    out = _convolved(images, law, 1.7, 0.3, generator(1))
    again = generator(1)
    weights = torch.empty(8, 3, 3, 3).normal_(generator=again) * (1.7 / 27) ** 0.5
    biases = 0.3**0.5 * torch.empty(2, 1, 4, 1, 1).normal_(generator=again)
    for network in range(2):
        for p in range(4):
            for q in range(5):
                total = torch.zeros(6, 4)
                for dy in range(3):
                    for dx in range(3):
                        y, x = p + dy - 1, q + dx - 1
                        if circular:
                            y, x = y % 4, x % 5
                        if 0 <= y < 4 and 0 <= x < 5:
                            own = weights[4 * network : 4 * network + 4, :, dy, dx]
                            total += images[network, :, :, y, x] @ own.T
                expected = total + biases[network, :, :, 0, 0]
                torch.testing.assert_close(out[network, :, :, p, q], expected, rtol=1e-4, atol=1e-5)


def test_one_pixel_and_one_block_have_the_moments_of_their_law():
    law = ConvResNet(200, 1, "relu", 1.5, 0.2, 0.1, image_shape=(2, 1, 1), filter_size=1)
    x = torch.tensor([[1.0, -0.5]])

    def observe(depth, hidden):
        return hidden.square().mean((-4, -3, -2, -1))[:, None]

    simulation = ConvSimulation("one", law, x, 400, observe, (0, 1))
    found = simulate(simulation, np.random.SeedSequence(0))
    start = 1.25 / 2 + 0.2
    for depth, expected in ((0, start), (1, start + 1.5 * start / 2 + 0.1)):
        moments = found[depth]
        assert abs(moments.mean[0] - expected) < 4 * moments.standard_error[0]


def test_blocks_do_not_depend_on_memory(monkeypatch):
    law = ConvResNet(3, 2, image_shape=(1, 2, 2))
    x = torch.randn(2, 4, generator=generator())
    simulation = ConvSimulation("two", law, x, 5, lambda _, hidden: hidden.flatten(1))
    seed = np.random.SeedSequence(1)
    first = simulate(simulation, seed)[2].mean
    second = simulate(simulation, seed, memory=simulation.bytes_of_block(torch.float32))[2].mean
    np.testing.assert_array_equal(first, second)
    assert simulation.blocks == 1
    with pytest.raises(ValueError, match='sampler must be "explicit"'):
        replace(simulation, sampler="exact")
    assert simulation.draws == 81
