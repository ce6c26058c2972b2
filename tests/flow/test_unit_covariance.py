from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.properties import assert_positive_semidefinite
from one_network import unit_covariance
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap

from resnet_gp.flow import autograd
from resnet_gp.flow.covariance import resnet_covariance, resnet_sum_covariance
from resnet_gp.flow.unit_covariance import unit_covariance_sum
from resnet_gp.threads import torch_threads

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
OPTIONS = [
    {},
    {"contrast": True, "variance": "no_growth"},
    {"negative_slope": -1.0, "variance": "unit"},
    {"depth": 7},
    {"layers": "all"},
    {"layers": "blocks", "depth": 5},
]


def points(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def hyperparameters(d=3, dtype=torch.float64, components=2):
    """Weight variances, output scales, lengthscales and input biases, far apart."""
    w = torch.tensor([2.0, 50.0, 0.3][:components], dtype=dtype)[:, None, None]
    scale = torch.tensor([1.3, 0.2, 4.0][:components], dtype=dtype)
    lengthscale = points(components, 1, d, seed=5, dtype=dtype).exp()
    bias = torch.tensor([1.0, 0.3, 2.0][:components], dtype=dtype)[:, None, None]
    return w, scale, lengthscale, bias


def summed(x1, x2, w, scale, lengthscale, bias, **options):
    options = {"variance": "no_growth"} | options
    return resnet_sum_covariance(
        x1, x2, w, scale, lengthscale=lengthscale, input_bias_variance=bias, **options
    )


def separate(x1, x2, w, scale, lengthscale, bias, **options):
    """The sum by definition."""
    options = {"variance": "no_growth"} | options
    entries = (..., None) if options.get("diag") else (..., None, None)
    return sum(
        scale[..., c][entries]
        * resnet_covariance(
            x1,
            x2,
            w[..., c, :, :],
            lengthscale=lengthscale[..., c, :, :],
            input_bias_variance=bias[..., c, :, :],
            **options,
        )
        for c in range(w.shape[-3])
    )


def deviations(x, *arguments, **options):
    return separate(x, x, *arguments, diag=True, **options).sqrt()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
class TestSum:
    @pytest.mark.parametrize("dtype", EPS)
    @pytest.mark.parametrize(("n", "m"), [(1, 1), (7, None), (70, 513), (600, None)])
    def test_is_the_sum_of_kernels(self, options, n, m, dtype):
        x, arguments = points(n, 3, dtype=dtype), hyperparameters(3, dtype, components=3)
        z = x if m is None else points(m, 3, seed=1, dtype=dtype)
        expected = separate(x, z, *arguments, **options)
        found = summed(x, z, *arguments, **options)
        scale = deviations(x, *arguments, **options)[:, None] * deviations(z, *arguments, **options)
        assert ((found - expected).abs() <= 20 * EPS[dtype] * scale).all()

    def test_diagonal(self, options):
        x, z, arguments = points(60, 3), points(60, 3, seed=1), hyperparameters()
        for other in (x, z):
            diagonal = summed(x, other, *arguments, diag=True, **options)
            matrix = summed(x, other, *arguments, **options)
            torch.testing.assert_close(diagonal, matrix.diagonal(), rtol=1e-14, atol=1e-14)

    def test_gradients_are_those_of_the_sum(self, options):
        x, z = points(40, 3), points(515, 3, seed=1)
        for sides in ([x, z], [x]):
            leaves = [leaf.clone().requires_grad_() for leaf in (*sides, *hyperparameters())]
            inputs = leaves if len(sides) == 2 else [leaves[0], *leaves]
            weights = points(40, len(inputs[1]), seed=2)
            found, expected = (
                torch.autograd.grad(function(*inputs, **options), leaves, weights)
                for function in (summed, separate)
            )
            for one, other in zip(found, expected, strict=True):
                assert (one - other).norm() <= 1e-12 * other.norm()

    def test_batches(self, options):
        x, z = points(2, 1, 9, 3), points(3, 5, 3, seed=1)
        w, scale, lengthscale, bias = hyperparameters()
        w = torch.stack([w, 2 * w, 3 * w])  # 3 x C x 1 x 1
        found = summed(x, z, w, scale, lengthscale, bias, **options)
        assert found.shape == (2, 3, 9, 5)
        for i in range(2):
            for j in range(3):
                own = x[i, 0], z[j], w[j], scale, lengthscale, bias
                expected = summed(*own, **options)
                torch.testing.assert_close(found[i, j], expected, rtol=1e-14, atol=1e-14)

    def test_vmap(self, options):
        x, (w, scale, lengthscale, bias) = points(2, 9, 3), hyperparameters()
        w, scale = torch.stack([w, 2 * w]), torch.stack([scale, 3 * scale])
        function = functools.partial(summed, **options)
        found = vmap(function, (0, 0, 0, 0, None, None))(x, x, w, scale, lengthscale, bias)
        expected = torch.stack(
            [function(x[i], x[i], w[i], scale[i], lengthscale, bias) for i in range(2)]
        )
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.usefixtures("path")
class TestDerivatives:
    @staticmethod
    def leaves():
        x, z = points(3, 2), points(2, 2, seed=1)
        z = torch.cat([z, x[:1], -x[:1]])  # c_0 = 1 as well
        return tuple(leaf.requires_grad_() for leaf in (x, z, *hyperparameters(2)))

    @pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
    def test_twice(self, options):
        function = functools.partial(summed, **options)
        x, z, *others = self.leaves()
        others[0] = (others[0].detach() / 20).requires_grad_()  # differences at moderate T
        assert gradcheck(function, (x, z, *others))
        assert gradgradcheck(function, (x, z, *others))

    def test_twice_of_one_set(self):
        x, _, *others = self.leaves()
        others[0] = (others[0].detach() / 20).requires_grad_()
        assert gradcheck(lambda x, *others: summed(x, x, *others), (x, *others))
        assert gradgradcheck(lambda x, *others: summed(x, x, *others), (x, *others))

    @pytest.mark.parametrize("options", OPTIONS[3:], ids=str)
    def test_once_at_finite_depth_and_of_tangent_kernels(self, options):
        x, z, *others = self.leaves()
        z = points(4, 2, seed=1).requires_grad_()  # off the kink
        function = functools.partial(summed, **options)
        assert gradcheck(function, (x, z, *others))
        with pytest.raises(RuntimeError, match="second derivatives"):
            gradgradcheck(function, (x, z, *others))

    def test_only_what_is_asked_for(self):
        x, (w, *others) = points(30, 3), hyperparameters()
        for other in (x, points(20, 3, seed=1)):
            leaves = [w.clone().requires_grad_(), *others]
            (alone,) = torch.autograd.grad(summed(x, other, *leaves).sum(), leaves[:1])
            leaves = [leaf.clone().requires_grad_() for leaf in (w, *others)]
            together, *_ = torch.autograd.grad(summed(x, other, *leaves).sum(), leaves)
            assert torch.equal(alone, together)


class TestCompiled:
    pytestmark = pytest.mark.usefixtures("compiled")

    @pytest.fixture
    def compiled(self):
        pytest.importorskip("numba")

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("n", [7, 1030])
    def test_symmetric_to_the_bit(self, n, options):
        x = points(n, 3)
        K = summed(x, x, *hyperparameters(), **options)
        assert torch.equal(K, K.mT)

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("block", [slice(0, 1), slice(3, 800, 5), slice(600, 1100)], ids=str)
    def test_block_has_the_bits_of_the_slice(self, block, options):
        x, arguments = points(1100, 5), hyperparameters(5)
        whole = summed(x, x, *arguments, **options)
        part = summed(x[10:700], x[block], *arguments, **options)
        assert torch.equal(part, whole[10:700, block])

    @pytest.mark.parametrize("n", [300, 1001])
    def test_number_of_threads(self, n):
        """It changes no bit of a value, and gradients by rounding."""
        x, results = points(n, 3), []
        for count in (1, 3, 5):
            with torch_threads(count):
                leaves = [leaf.requires_grad_() for leaf in (x.clone(), *hyperparameters())]
                K = summed(leaves[0], *leaves)
                results.append((K.detach(), *torch.autograd.grad(K, leaves, points(n, n, seed=1))))
        for values, *gradients in results[1:]:
            assert torch.equal(values, results[0][0])
            for one, other in zip(gradients, results[0][1:], strict=True):
                assert (one - other).norm() <= 1e-12 * other.norm()

    def test_the_padding_of_a_short_series_changes_no_bit(self):
        """A component's table is as long as the longest of the sum."""
        u = torch.nn.functional.normalize(points(2, 200, 3), dim=-1)
        scale = torch.stack([torch.ones(200), torch.zeros(200)]).double()
        alone = unit_covariance(u[0], u[0], scale[0], scale[0], torch.tensor(1.0).double())
        times = torch.tensor([1.0, 5000.0], dtype=torch.float64)
        assert torch.equal(unit_covariance_sum(u, u, scale, scale, times), alone)

    @pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[4]], ids=str)
    def test_many_callers_at_once(self, options):
        """Threads with parameters of their own get the bits of serial calls."""

        def call(index):
            torch.set_num_threads(1)
            x = points(120, 4, seed=index)
            w, *others = hyperparameters(4)
            leaves = [leaf.clone().requires_grad_() for leaf in (w * (1 + index / 7), *others)]
            K = summed(x, x, *leaves, **options)
            return (K.detach(), *torch.autograd.grad(K, leaves, points(120, 120, seed=index)))

        with torch_threads(1):
            serial = [call(index) for index in range(24)]
            with ThreadPoolExecutor(8) as pool:
                for _ in range(2):
                    for one, other in zip(pool.map(call, range(24)), serial, strict=True):
                        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class TestProperties:
    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 1000),
        components=st.integers(1, 3),
        weights=st.lists(st.floats(1e-3, 300), min_size=3, max_size=3),
        scales=st.lists(st.floats(1e-6, 1e3), min_size=3, max_size=3),
        options=st.sampled_from(OPTIONS),
    )
    def test_semidefinite_and_the_sum(self, seed, components, weights, scales, options):
        x = points(40, 3, seed=seed)
        x[30:35], x[35:] = x[:5], -2 * x[5:10]
        _, _, lengthscale, bias = hyperparameters(components=components)
        w = torch.tensor(weights[:components], dtype=torch.float64)[:, None, None]
        arguments = w, torch.tensor(scales[:components], dtype=torch.float64), lengthscale, bias
        K = summed(x, x, *arguments, **options)
        assert_positive_semidefinite(K)
        expected = separate(x, x, *arguments, **options)
        assert (K - expected).abs().max() <= 50 * EPS[torch.float64] * expected.diagonal().max()


class TestRefusals:
    def test_shapes(self):
        x, (w, scale, lengthscale, _) = points(4, 3), hyperparameters()
        with pytest.raises(ValueError, match="weight_variance must be batch_shape x C x 1 x 1"):
            resnet_sum_covariance(x, x, w[:1], scale)
        with pytest.raises(ValueError, match="outputscale batch_shape x C"):
            resnet_sum_covariance(x, x, w, scale[0])
        with pytest.raises(ValueError, match="lengthscale must be batch_shape x C x 1 x d"):
            resnet_sum_covariance(x, x, w, scale, lengthscale=lengthscale[[0, 0, 0]])

    def test_options(self):
        x, (w, scale, *_) = points(4, 3), hyperparameters()
        with pytest.raises(ValueError, match="contrast=True needs"):
            resnet_sum_covariance(x, x, w, scale, contrast=True, depth=3)

    def test_horizon_out_of_range(self):
        x, (w, scale, *_) = points(4, 3), hyperparameters()
        with pytest.raises(ValueError, match="horizon must lie"):
            resnet_sum_covariance(x, x, 1e4 * w, scale, variance="no_growth")


def test_half_precision():
    x = points(6, 3)
    arguments = hyperparameters()
    expected = summed(x, x, *arguments)
    half = summed(*(leaf.to(torch.bfloat16) for leaf in (x, x, *arguments)))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, rtol=0.1, atol=0.1)


def test_no_rows():
    x, arguments = points(0, 3), hyperparameters()
    assert summed(x, points(4, 3), *arguments).shape == (0, 4)
    assert summed(x, x, *arguments).shape == (0, 0)


def test_other_devices_use_torch():
    assert autograd.compiled_loops("flow.compiled", torch.ones(1, device="meta")) is None


def test_inputs_need_not_be_contiguous(path):
    x, arguments = points(3, 40), hyperparameters()
    for x1, x2 in ((x.mT, x.mT), (x.mT, points(30, 6, seed=1)[:, ::2])):
        results = []
        for sides in ((x1, x2), (x1.contiguous(), x2.contiguous())):
            leaves = [leaf.clone().requires_grad_() for leaf in arguments]
            K = summed(*sides, *leaves)
            weights = points(*K.T.shape, seed=2).T
            results.append((K.detach(), *torch.autograd.grad(K, leaves, weights)))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)
