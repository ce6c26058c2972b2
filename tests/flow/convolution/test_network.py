"""What a convolutional network is, and in which steps it is computed."""

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from resnet_gp.activations import LeakyReLU
from resnet_gp.flow.convolution.network import ConvFlow, Cost, conv_network


@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 2), (4, 4), (5, 3)])
def test_planes_hold_every_pair_of_pixels(shape, padding):
    network = conv_network(shape, 3, "average", padding)
    weights = np.zeros((network.pixels, network.pixels))
    for number, plane in enumerate(network.planes):
        assert len(plane.pixels) == len(plane.others) == np.prod(plane.shape)
        np.add.at(weights, (plane.pixels, plane.others), plane.weight)
        if number > 0:
            np.add.at(weights, (plane.others, plane.pixels), plane.weight)
    np.testing.assert_allclose(weights, 1 / network.pixels**2)


@pytest.mark.parametrize("shape", [(3, 2), (4, 5)])
def test_neighbours_within_planes_are_neighbours_in_both_images(shape):
    network = conv_network(shape, 3, "average")
    for plane in network.planes:
        grids = [x.reshape(plane.shape) for x in (plane.pixels, plane.others)]
        for grid, (axis, step) in itertools.product(grids, ((0, shape[1]), (1, 1))):
            assert (np.diff(grid, axis=axis) == step).all()


def test_one_plane_for_the_weights_of_each_pixel():
    (plane,) = conv_network((2, 3)).planes
    assert plane.shape == (2, 3)
    np.testing.assert_array_equal(plane.pixels, plane.others)
    assert plane.weight == pytest.approx(1 / 6)


def integrated(steps, matrix, start):
    state = start
    for own, combined in zip(*steps, strict=True):
        slopes = []
        for factor, row in zip(own, combined, strict=True):
            inner = factor * state + sum(c * s for c, s in zip(row, slopes, strict=False))
            slopes.append(matrix @ inner)
        state = inner
    return state


@pytest.mark.parametrize("w", [0.1, 1.0, 7.0, 60.0])
def test_growth_is_integrated_exactly(w):
    """Of the field that grows fastest; others by the method."""
    steps = ConvFlow(conv_network((2, 2), padding="circular"), torch.tensor([w, 0.0, 0.0])).steps
    matrix = np.array([[w / 2, 0.0], [0.0, w / 3]])
    state = integrated(steps, matrix, np.ones(2))
    exact = expm(matrix) @ np.ones(2)
    assert state[0] == pytest.approx(exact[0], rel=1e-11)
    assert state[1] == pytest.approx(exact[1], abs=1e-6 * exact[0])


@pytest.mark.parametrize(("shape", "size"), [((5, 4), 3), ((6, 6), 5), ((1, 7), 9)])
def test_growth_is_that_of_the_field_that_grows_fastest(shape, size):
    network = conv_network(shape, size, activation="leaky_relu", negative_slope=0.3)
    field = torch.ones(1, 1, *shape, dtype=torch.float64)
    for _ in range(200):
        filtered = torch.nn.functional.avg_pool2d(field, size, 1, size // 2)
        factor = filtered.norm() / field.norm()
        field = filtered / factor
    assert network.growth == pytest.approx(float(factor) * network.linear, rel=1e-9)
    circular = conv_network(shape, size, padding="circular")
    assert circular.growth == circular.linear


def test_a_block_is_a_step_of_euler():
    steps = ConvFlow(conv_network((2, 2), depth=5), torch.tensor([1.3, 0.0, 0.1])).steps
    assert integrated(steps, np.array([[0.7]]), np.ones(1)) == pytest.approx([(1 + 0.7 / 5) ** 5])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"image_shape": 8}, "image_shape"),
        ({"image_shape": (8,)}, "image_shape"),
        ({"image_shape": (8, 0)}, "image_shape"),
        ({"image_shape": (1, 8, 8, 8)}, "image_shape"),
        ({"image_shape": (8, 8.0)}, "image_shape"),
        ({"filter_size": 2}, "filter_size"),
        ({"filter_size": True}, "filter_size"),
        ({"readout": "mean"}, "readout"),
        ({"padding": "same"}, "padding"),
        ({"activation": "tanh"}, "activation"),
        ({"depth": 0}, "depth"),
        ({"depth": 1001}, "depth"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        conv_network(**({"image_shape": (8, 8)} | arguments))


def test_takes_numpy_integers_and_activations():
    network = conv_network(tuple(np.array([3, 8, 8])), activation=LeakyReLU(0.2))
    assert network.features == 192
    assert network.linear == pytest.approx(0.52)


def test_costs_are_readable():
    assert str(Cost(0.5, 2**20)) == "0.5 s, 1 MiB"
    assert str(Cost(75.4, 2**30)) == "1 min 15 s, 1.02e+03 MiB"
