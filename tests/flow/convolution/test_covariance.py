"""Covariances of convolutional networks: compiled loops, plain torch, and an independent solver."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from resnet_gp.flow import autograd
from resnet_gp.flow.convolution import network as networks
from resnet_gp.flow.convolution import on_torch
from resnet_gp.flow.convolution.covariance import conv_covariance, covariance_cost
from resnet_gp.flow.convolution.network import ConvFlow, conv_network
from resnet_gp.flow.covariance import resnet_covariance
from resnet_gp.flow.domain import DomainError

CASES = list(itertools.product([(2, 3, 4), (1, 1), (4, 4)], [1, 3, 5], ["zero", "circular"]))


def images(network, count, seed=0):
    """Some equal, opposite, nearly equal and blank."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, network.features, generator=generator, dtype=torch.float64)
    if count > 5:
        x[3], x[4], x[5] = -x[2], x[2] + 1e-5 * x[1], 0
    return x


def scalars(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def covariance(x, z, network, w=1.3, bias=None, block=None, **options):
    w, *biases = (None if value is None else scalars(value)[0] for value in (w, bias, block))
    return conv_covariance(
        x, z, network, w, input_bias_variance=biases[0], block_bias_variance=biases[1], **options
    )


def relative(K, expected, variance1, variance2):
    return ((K - expected) / (variance1[:, None] * variance2).sqrt()).abs().max()


def solved(network, a, b, w, bias, block):
    """k(a, b) by an adaptive solver, over all pairs of pixels, one by one."""
    _, height, width = network.image_shape
    a, b = (x.reshape(network.image_shape).numpy() for x in (a, b))
    places = list(itertools.product(range(height), range(width)))
    offsets = range(-network.radius, network.radius + 1)
    shifts = list(itertools.product(offsets, offsets))

    def moved(place, shift):
        y, x = place[0] + shift[0], place[1] + shift[1]
        if network.circular:
            return y % height, x % width
        return (y, x) if 0 <= y < height and 0 <= x < width else None

    def mean(values, p, q):
        ends = ((moved(p, shift), moved(q, shift)) for shift in shifts)
        return sum(values(u, v) for u, v in ends if u and v) / len(shifts)

    slope = network.activation.negative_slope

    def moment(v, u, c):
        size = math.sqrt(v * u)
        angle = math.acos(min(1.0, max(-1.0, c / size))) if size else 0.0
        kinked = size * (math.sin(angle) - angle * math.cos(angle)) / (2 * math.pi)
        return (1 + slope**2) / 2 * c + (1 - slope) ** 2 * kinked

    pairs = list(itertools.product(places, places))
    sides = {"aa": (a, a), "bb": (b, b), "ab": (a, b)}
    start = [
        mean(lambda u, v, x=x, z=z: x[(..., *u)] @ z[(..., *v)] / len(x), p, q) + bias
        for x, z in sides.values()
        for p, q in pairs
    ]

    def speed(_, state):
        parts = dict(zip(sides, np.split(state, 3), strict=True))
        aa, bb, ab = (dict(zip(pairs, parts[s], strict=True)) for s in sides)
        own = {"aa": (aa, aa, aa), "bb": (bb, bb, bb), "ab": (aa, bb, ab)}
        return np.array(
            [
                w * mean(lambda u, v, f=f, g=g, h=h: moment(f[u, u], g[v, v], h[u, v]), p, q)
                + block
                for f, g, h in own.values()
                for p, q in pairs
            ]
        )

    end = solve_ivp(speed, (0, 1), start, method="DOP853", rtol=1e-9, atol=1e-11).y[:, -1]
    ends = dict(zip(pairs, np.split(end, 3)[2], strict=True))
    wanted = pairs if network.average else [(p, p) for p in places]
    return np.mean([ends[pair] for pair in wanted])


@pytest.mark.parametrize("readout", ["flatten", "average"])
@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_agrees_with_an_adaptive_solver_of_every_pair(readout, padding, activation):
    network = conv_network((2, 2, 3), 3, readout, padding, activation, 0.3)
    a, b = images(network, 2)
    K = covariance(a[None], b[None], network, 1.3, 0.2, 0.1)
    assert K.item() == pytest.approx(solved(network, a, b, 1.3, 0.2, 0.1), rel=3e-7)


@pytest.mark.parametrize("readout", ["flatten", "average"])
@pytest.mark.parametrize("depth", [None, 3])
@pytest.mark.parametrize(("shape", "size", "padding"), CASES)
def test_compiled_loops_agree_with_torch(shape, size, padding, depth, readout):
    pytest.importorskip("numba")
    network = conv_network(shape, size, readout, padding, "leaky_relu", depth=depth)
    x, z = images(network, 9), images(network, 3, seed=1)
    variances = [value.requires_grad_() for value in scalars(1.3, 0.2, 0.1)]
    weights = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    fast = covariance_of(x, z, network, variances)
    plain = on_torch.covariance(ConvFlow(network, variances), x, z)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-13)
    gradients = [torch.autograd.grad((K * weights).sum(), variances) for K in (fast, plain)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def covariance_of(x, z, network, variances, **options):
    w, bias, block = variances
    return conv_covariance(
        x, z, network, w, input_bias_variance=bias, block_bias_variance=block, **options
    )


@pytest.mark.parametrize("readout", ["flatten", "average"])
@pytest.mark.parametrize("padding", ["zero", "circular"])
def test_an_entry_depends_on_its_two_images_alone(readout, padding):
    pytest.importorskip("numba")
    network = conv_network((4, 2), 3, readout, padding)  # opposite displacements coincide
    x = images(network, 300 if readout == "flatten" else 70)
    K = covariance(x, x, network)
    assert torch.equal(K, K.mT)
    for rows, columns in ((slice(4, 21), slice(0, None)), (slice(50, None), slice(3, 9))):
        assert torch.equal(covariance(x[rows], x[columns], network), K[rows, columns])
    assert torch.equal(covariance(x, x, network, diag=True), K.diagonal())
    z = x.flip(0)
    assert torch.equal(covariance(x, z, network, diag=True), K.flip(1).diagonal())
    single = covariance(x.float(), x.float(), network)
    assert single.dtype == torch.float32
    assert torch.equal(single, covariance(x.float().double(), x.float().double(), network).float())


def with_steps(monkeypatch, factor, function):
    original = networks._limit_steps
    with monkeypatch.context() as patch:
        patch.setattr(networks, "_limit_steps", lambda n, growth: original(factor * n, growth))
        return function()


@pytest.mark.parametrize("kind", ["blank edges", "standardised", "nearly equal", "opposite"])
@pytest.mark.parametrize(
    ("w", "block"), [(0.3, None), (1.0, None), (1.0, 3.0), (4.0, 30.0), (16.0, None)]
)
def test_the_steps_are_fine_enough(kind, w, block, monkeypatch):
    """Against ten times as many; twice as many are better."""
    network = conv_network((9, 9))
    x = images(network, 5).reshape(5, 9, 9)
    x[:, 0], x[:, :, :4] = 0, 0
    x[0, 6:] = 0
    if kind == "standardised":
        x = (x.abs() - x.mean()) / x.std()
    if kind == "nearly equal":
        x[1:] = x[0] + 1e-3 * x[1:]
    if kind == "opposite":
        x[1:] = 1e-4 * x[1:] - x[0]
    x = x.reshape(5, 81)
    first, second, exact = (
        with_steps(monkeypatch, factor, lambda: covariance(x, x, network, w, block=block))
        for factor in (1, 2, 10)
    )
    variance = exact.diagonal()
    error = relative(first, exact, variance, variance)
    assert error < 1e-6
    assert relative(second, exact, variance, variance) < max(error / 2, 1e-10)


@pytest.mark.parametrize(
    ("activation", "w"), [("relu", 36.0), ("relu", 64.0), ("relu", 100.0), ("abs", 25.0)]
)
@pytest.mark.parametrize(("size", "padding"), [(3, "zero"), (3, "circular"), (7, "zero")])
def test_long_horizons_are_stable(activation, w, size, padding, monkeypatch):
    """Fields decay against the one that grows fastest, which depends on the padding."""
    network = conv_network((5, 5), size, padding=padding, activation=activation)
    x = images(network, 5)
    x[1], x[2] = 1e-3 * x[1] - x[0], 1e-3 * x[2] + x[0]
    found, exact = (
        with_steps(monkeypatch, factor, lambda: covariance(x, x, network, w)) for factor in (1, 10)
    )
    variance = exact.diagonal()
    assert relative(found, exact, variance, variance) < 2e-7


def test_opposite_images_lose_half_integer_powers_of_time(monkeypatch):
    """In steps of t instead of sqrt(t), correlations that leave -1 would reduce the order."""
    network = conv_network((9, 9))
    x = images(network, 2)
    x[1] = -x[0]
    found = [
        with_steps(monkeypatch, factor, lambda: covariance(x, x, network, 4.0)[0, 1])
        for factor in (1, 2, 20)
    ]
    assert abs(found[0] - found[2]) > 50 * abs(found[1] - found[2])


@pytest.mark.parametrize("readout", ["flatten", "average"])
@pytest.mark.parametrize("padding", ["zero", "circular"])
@pytest.mark.parametrize("depth", [None, 1, 10, 100])
def test_one_pixel_is_the_fully_connected_network(depth, padding, readout):
    network = conv_network((5, 1, 1), 1, readout, padding, depth=depth)
    x = images(network, 20)
    K = covariance(x, x, network, 1.7, 0.3)
    w, bias = scalars(1.7, 0.3)
    expected = resnet_covariance(x, x, w, depth=depth, input_bias_variance=bias)
    variance = expected.diagonal()
    assert relative(K, expected, variance, variance) < (1e-6 if depth is None else 1e-13)


@pytest.mark.parametrize("depth", [None, 4])
def test_circular_averages_do_not_see_shifts(depth):
    network = conv_network((2, 4, 5), 3, "average", "circular", depth=depth)
    x, z = images(network, 4), images(network, 3, seed=1)
    shifted = x.reshape(4, 2, 4, 5).roll((1, 3), (2, 3)).reshape(4, -1)
    K = covariance(x, z, network, 2.0, 0.1, 0.1)
    again = covariance(shifted, z, network, 2.0, 0.1, 0.1)
    torch.testing.assert_close(again, K, rtol=1e-13, atol=0)
    flat = conv_network((2, 4, 5), 3, "flatten", "circular", depth=depth)
    assert not torch.allclose(covariance(shifted, z, flat), covariance(x, z, flat), rtol=1e-2)
    moved = z.reshape(3, 2, 4, 5).roll((1, 3), (2, 3)).reshape(3, -1)
    torch.testing.assert_close(covariance(shifted, moved, flat), covariance(x, z, flat))


def test_is_homogeneous_in_the_image_without_biases():
    network = conv_network((3, 3))
    x = images(network, 8)
    torch.testing.assert_close(covariance(3 * x, x, network), 3 * covariance(x, x, network))


def test_is_positive_semidefinite():
    network = conv_network((5, 5), readout="average")
    x = images(network, 40)
    values = torch.linalg.eigvalsh(covariance(x, x, network, 4.0))
    assert values[0] > -1e-13 * values[-1]


@pytest.mark.parametrize("diag", [False, True])
def test_images_have_gradients_by_plain_torch(diag):
    network = conv_network((2, 2, 2))
    x, z = images(network, 2).requires_grad_(), images(network, 2, seed=1)

    def function(x, w):
        return conv_covariance(x, z, network, w, diag=diag)

    assert torch.autograd.gradcheck(function, (x, scalars(1.2)[0].requires_grad_()))


def test_gradients_are_finite_at_equal_and_blank_images():
    network = conv_network((3, 3))
    x = images(network, 6).requires_grad_()
    w, bias = (value.requires_grad_() for value in scalars(1.2, 0.1))
    covariance_of(x, x, network, (w, bias, None)).sum().backward()
    assert all(value.grad.isfinite().all() for value in (x, w, bias))


def test_derivatives_are_computed_only_where_they_are_wanted(monkeypatch):
    pytest.importorskip("numba")
    from resnet_gp.flow.convolution import on_numba

    seen, original = [], on_numba.covariance

    def watched(flow, x1, x2):
        seen.append(list(flow.parameters))
        return original(flow, x1, x2)

    monkeypatch.setattr(on_numba, "covariance", watched)
    network = conv_network((2, 2))
    x, (w, bias, block) = images(network, 2), scalars(1.2, 0.1, 0.1)
    w.requires_grad_(), block.requires_grad_()
    covariance_of(x, x, network, (w, bias, block))
    with torch.no_grad():
        covariance_of(x, x, network, (w, bias, block))
    assert seen == [[0, 2], []]


def test_second_derivatives_raise():
    network = conv_network((2, 2))
    x = images(network, 2)
    w = scalars(1.2)[0].requires_grad_()
    (slope,) = torch.autograd.grad(conv_covariance(x, x, network, w).sum(), w, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(slope, w)


@pytest.mark.parametrize("readout", ["flatten", "average"])
def test_blocks_of_torch_agree_with_one(readout, monkeypatch):
    network = conv_network((3, 3), readout=readout)
    x = images(network, 7)
    flow = ConvFlow(network, scalars(1.2, 0.0, 0.0))
    whole = on_torch.covariance(flow, x, x)
    monkeypatch.setitem(on_torch._ENTRIES, "cpu", 1)
    torch.testing.assert_close(on_torch.covariance(flow, x, x), whole)


@pytest.mark.parametrize("diag", [False, True])
def test_works_without_numba_and_in_half_precision(diag, monkeypatch):
    network = conv_network((3, 3))
    x = images(network, 4)
    expected = covariance(x, x, network, diag=diag)
    monkeypatch.setattr(autograd, "_numba_module", lambda name: None)
    torch.testing.assert_close(covariance(x, x, network, diag=diag), expected)
    single = covariance(x.float(), x.float(), network, diag=diag)
    torch.testing.assert_close(single, expected.float(), rtol=1e-5, atol=1e-6)
    w = torch.tensor(1.3, dtype=torch.float16)
    half = conv_covariance(x.half(), x.half(), network, w, diag=diag)
    assert half.dtype == torch.float16
    with pytest.raises(RuntimeError, match="fast"):
        covariance_cost(network, *scalars(1.0, 0.0), 10, None)


def test_batches_and_empty_sets():
    network = conv_network((2, 3))
    x = images(network, 5)
    w = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)[:, None, None]
    K = conv_covariance(x, x[:2], network, w)
    assert K.shape == (3, 5, 2)
    for k, own in zip(K, w, strict=True):
        assert torch.equal(k, conv_covariance(x, x[:2], network, own[0, 0]))
    assert conv_covariance(x[:0], x, network, w).shape == (3, 0, 5)
    assert conv_covariance(x, x, network, w, diag=True).shape == (3, 5)


@pytest.mark.parametrize(
    ("x", "w", "error", "text"),
    [
        (torch.ones(2, 5), 1.0, ValueError, "have 4 values each, got inputs with 5"),
        (torch.full((2, 4), math.nan), 1.0, DomainError, "images must be finite"),
        (torch.ones(2, 4), 200.0, DomainError, "weight_variance must be above 0 and at most 100"),
        (torch.ones(2, 4), 0.0, DomainError, "weight_variance"),
    ],
)
def test_bad_input_is_named(x, w, error, text):
    with pytest.raises(error, match=text):
        covariance(x, x, conv_network((2, 2)), w)


def test_cost_grows_with_the_number_of_pairs():
    pytest.importorskip("numba")
    network = conv_network((8, 8))
    (w,) = scalars(1.0)
    cost = covariance_cost(network, w, torch.zeros(()), 1000, None)
    other = covariance_cost(network, w, torch.zeros(()), 1000, 3000)
    assert cost.bytes == 8 * 1000**2
    assert other.bytes == 3 * cost.bytes
    assert 0 < cost.seconds < other.seconds
    assert "MiB" in str(cost)


def test_tells_what_a_long_computation_takes(monkeypatch, caplog, capsys):
    pytest.importorskip("numba")
    from resnet_gp.flow.convolution import on_numba
    from resnet_gp.progress import bars

    monkeypatch.setattr(on_numba, "_SAMPLED", 1)
    x = images(conv_network((3, 3)), 20)
    with caplog.at_level("INFO", logger="resnet_gp"), bars(True):
        covariance(x, x, conv_network((3, 3)))
    assert "covariances of 20 x 20 images (" in caplog.text
    assert "covariances of 20 x 20 images" in capsys.readouterr().err


def test_equal_images_of_two_tensors_have_their_own_gradients():
    network = conv_network((2, 3))
    x = images(network, 4).requires_grad_()
    z = x.detach().clone().requires_grad_()
    weight = torch.arange(16, dtype=torch.float64).reshape(4, 4)
    by_x, by_z = torch.autograd.grad((covariance(x, z, network) * weight).sum(), (x, z))
    K = covariance(x, z.detach(), network)
    torch.testing.assert_close(by_x, torch.autograd.grad((K * weight).sum(), x)[0])
    K = covariance(x.detach(), z, network)
    torch.testing.assert_close(by_z, torch.autograd.grad((K * weight).sum(), z)[0])


@pytest.mark.parametrize(("activation", "w"), [("relu", 0.15), ("relu", 0.8), ("abs", 0.2)])
def test_the_steps_are_fine_enough_for_means_that_cancel(activation, w, monkeypatch):
    network = conv_network((4, 4), 3, "average", "circular", activation)
    x = images(network, 6).reshape(6, 4, 4)
    x[:, 0] = x[:, :, :2] = 0
    x[1:] = 1e-4 * x[1:] - x[0]
    x[5] = torch.roll(x[0], 2, 1)
    x = x.reshape(6, 16)
    first, exact = (
        with_steps(monkeypatch, factor, lambda: covariance(x, x, network, w)) for factor in (1, 10)
    )
    variance = exact.diagonal()
    assert relative(first, exact, variance, variance) < 1e-6


@pytest.mark.parametrize("bad", [-1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["input_bias_variance", "block_bias_variance"])
def test_variances_outside_their_domain(name, bad):
    network = conv_network((3, 3))
    x = images(network, 2)
    with pytest.raises(DomainError, match=f"{name} must be finite and not negative"):
        conv_covariance(x, x, network, torch.tensor(1.0), **{name: torch.tensor(bad)})
