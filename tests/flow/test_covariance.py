from __future__ import annotations

import functools
import math

import oracle
import pytest
import torch
from kernels.properties import assert_positive_semidefinite
from one_network import unit_covariance
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import hessian

from resnet_gp.flow import autograd
from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.flow.correlation import flow
from resnet_gp.flow.covariance import resnet_covariance
from resnet_gp.threads import torch_threads

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
DTYPES = [torch.float64, torch.float32]


def tensor(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def scalar(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype)


def points(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def unit_points(*shape, seed=0, dtype=torch.float64):
    return torch.nn.functional.normalize(points(*shape, seed=seed, dtype=dtype), dim=-1)


@pytest.fixture
def compiled():
    pytest.importorskip("numba")


@pytest.fixture
def torch_only(monkeypatch):
    """A way to leave the compiled loops within a test."""
    return lambda: monkeypatch.setattr(autograd, "_numba_module", lambda name: None)


def values_and_gradients(*arguments, **options):
    leaves = [argument.detach().clone().requires_grad_() for argument in arguments]
    values = resnet_covariance(*leaves, **options)
    weights = torch.cos(torch.arange(values.numel(), dtype=values.dtype)).reshape(values.shape)
    return values.detach(), torch.autograd.grad(values, leaves, weights)


class TestBothPaths:
    """The loops in numba and the plain torch path are one function."""

    def test_numba_is_used_where_it_is_there(self, compiled):
        assert compiled_loops("flow.compiled", torch.ones(1)) is not None

    def test_other_devices_use_torch(self):
        assert compiled_loops("flow.compiled", torch.ones(1, device="meta")) is None

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("n", "m", "d"),
        [(1, 1, 1), (1, 511, 2), (3, 512, 3), (3, 513, 4), (70, 1025, 5), (1025, 2, 9)],
    )
    def test_cross_covariance(self, compiled, torch_only, n, m, d, dtype):
        arguments = (points(n, d, dtype=dtype), points(m, d, seed=1, dtype=dtype))
        self.check(torch_only, *arguments, scalar(1.4, dtype=dtype))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [1, 2, 9, 511, 513])
    def test_covariance_of_one_set(self, compiled, torch_only, n, dtype):
        x = points(n, 3, dtype=dtype)
        self.check(torch_only, x, x, scalar(0.8, dtype=dtype))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("same", [True, False])
    def test_batches_with_their_own_horizons(self, compiled, torch_only, same, dtype):
        x = points(2, 3, 17, 4, dtype=dtype)
        z = x if same else points(3, 21, 4, seed=1, dtype=dtype)
        w = tensor(1e-3, 0.9, 700.0, dtype=dtype)[:, None, None]
        self.check(torch_only, x, z, w, variance="no_growth")

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_near_and_opposite_points(self, compiled, torch_only, dtype):
        x = points(40, 3, dtype=dtype)
        z = torch.cat([x, -x, 3 * x, x + 1e-4, x + 1e-9, torch.zeros_like(x[:2])])
        self.check(torch_only, x, z, scalar(2.0, dtype=dtype))

    def check(self, torch_only, *arguments, **options):
        fast, fast_gradients = values_and_gradients(*arguments, **options)
        torch_only()
        plain, plain_gradients = values_and_gradients(*arguments, **options)
        eps = EPS[plain.dtype]
        x1, x2, w = arguments
        ends = (resnet_covariance(x, x, w, diag=True, **options) for x in (x1, x2))
        scale = functools.reduce(lambda a, b: (a[..., None] * b[..., None, :]).sqrt(), ends)
        assert ((fast - plain).abs() <= 20 * eps * scale).all()
        for one, other in zip(fast_gradients, plain_gradients, strict=True):
            assert torch.isfinite(one).all()
            assert (one - other).norm() <= 100 * eps * other.norm()

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("horizon", [1e-3, 1.0, 1e4])
    def test_an_entry_is_the_flow_of_its_gap(self, compiled, horizon, dtype):
        """With <u, v> exact; up to rounding, since compiled sums of products are rounded once."""
        horizon = scalar(horizon, dtype=dtype)
        c0 = torch.cat([torch.linspace(-1, 0.98, 700, dtype=dtype), torch.ones(1, dtype=dtype)])
        u = tensor(1.0, 0.0, dtype=dtype)[None]
        v = torch.stack([c0, (1 - c0**2).sqrt()], -1)
        ones = torch.ones_like(c0)
        entries = unit_covariance(u, v, ones[:1], ones, horizon)[0]
        assert (entries - flow(1 - c0, horizon)).abs().max() <= 4 * EPS[dtype]


class TestCompiled:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [5, 700])
    def test_what_is_not_a_number_ends_in_its_own_rows_and_columns(self, compiled, n, dtype):
        x = points(n, 3, dtype=dtype)
        x[3, 1] = math.nan
        matrix = resnet_covariance(x, x, scalar(1.0, dtype=dtype))
        assert matrix[3].isnan().all()
        others = torch.arange(n) != 3
        expected = resnet_covariance(x[others], x[others], scalar(1.0, dtype=dtype))
        assert torch.equal(matrix[others][:, others], expected)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(("batch", "n"), [((), 7), ((), 1030), ((3,), 30), ((2, 2), 515)])
    def test_symmetric_to_the_bit(self, compiled, batch, n, dtype):
        x = points(*batch, n, 3, dtype=dtype)
        K = resnet_covariance(x, x, scalar(1.0, dtype=dtype))
        assert torch.equal(K, K.mT)

    def test_filling_the_lower_half_changes_nothing(self, compiled):
        """One changed row turns the symmetric code off for all others."""
        u, w = unit_points(700, 3), scalar(1.0)
        other = torch.cat([u[:-1], unit_points(1, 3, seed=9)])
        ones = torch.ones(700, dtype=torch.float64)
        K, cross = (unit_covariance(u, v, ones, ones, w) for v in (u, other))
        assert torch.equal(K[:, :-1], cross[:, :-1])

    @pytest.mark.parametrize("block", [slice(0, 1), slice(3, 800, 5), slice(600, 1100)], ids=str)
    def test_block_has_the_bits_of_the_slice(self, compiled, block):
        u, v, w = unit_points(300, 5), unit_points(1100, 5, seed=1), scalar(1.0)
        ones = torch.ones(1100, dtype=torch.float64)
        whole = unit_covariance(u, v, ones[:300], ones, w)
        part = unit_covariance(u[10:30], v[block], ones[10:30], ones[: len(v[block])], w)
        assert torch.equal(part, whole[10:30, block])

    @pytest.mark.parametrize("n", [300, 1001])
    def test_number_of_threads_does_not_change_a_bit(self, compiled, n):
        x, results = points(n, 3), []
        for count in (1, 3, 5):
            with torch_threads(count):
                results.append(values_and_gradients(x, x, scalar(1.0)))
        (alone, gradients), *others = results
        for values, other_gradients in others:
            assert torch.equal(values, alone)
            for one, other in zip(gradients, other_gradients, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("path")
class TestResNetCovariance:
    def test_formula(self):
        """k = sqrt(q_aa q_bb) exp(w (1 + alpha^2) / 2) c_T, with a scale and a bias."""
        x, z, lengthscale, bias, w = points(5, 3), points(4, 3, seed=1), tensor(0.5, 1, 2), 0.3, 1.7
        for slope in (0.0, 0.01, -1.0, 0.5):
            q = (x / lengthscale) @ (z / lengthscale).mT / 3 + bias
            q_x, q_z = ((y / lengthscale).square().sum(-1) / 3 + bias for y in (x, z))
            scale = (q_x[:, None] * q_z).sqrt()
            end = flow(1 - q / scale, scalar(w * (1 - slope) ** 2))
            K = resnet_covariance(
                x,
                z,
                scalar(w),
                negative_slope=slope,
                lengthscale=lengthscale,
                input_bias_variance=scalar(bias),
            )
            expected = scale * end * math.exp(w * (1 + slope**2) / 2)
            torch.testing.assert_close(K, expected, rtol=1e-13, atol=1e-13)

    def test_linear_activation(self):
        x, z = points(5, 3), points(4, 3, seed=1)
        K = resnet_covariance(x, z, scalar(0.7), negative_slope=1.0)
        torch.testing.assert_close(K, math.exp(0.7) * x @ z.mT / 3, rtol=1e-13, atol=1e-13)

    @pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
    def test_no_rows(self, n, m):
        x, z = points(n, 3).requires_grad_(), points(m, 3).requires_grad_()
        w = scalar(1.0).requires_grad_()
        K = resnet_covariance(x, z, w)
        assert K.shape == (n, m)
        gradients = torch.autograd.grad(K.sum(), (x, z, w))
        assert [gradient.abs().sum().item() for gradient in gradients] == [0, 0, 0]
        assert resnet_covariance(x, x, w, diag=True).shape == (n,)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_block_equals_the_slice(self, dtype):
        x, w = points(600, 5, dtype=dtype), scalar(1.0, dtype=dtype)
        whole = resnet_covariance(x, x, w)
        scale = whole.diagonal().sqrt()
        for rows, columns in [(slice(5, 6), slice(0, 600)), (slice(40, 95), slice(100, 613))]:
            block = resnet_covariance(x[rows], x[columns], w)
            bound = 8 * EPS[dtype] * scale[rows, None] * scale[columns]
            assert ((block - whole[rows, columns]).abs() <= bound).all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_diag(self, dtype):
        x, z = points(2, 60, 5, dtype=dtype), points(60, 5, seed=1, dtype=dtype)
        w = tensor(0.5, 3.0, dtype=dtype)[:, None, None]
        bias = scalar(0.3, dtype=dtype)
        for other in (x, z):
            diagonal = resnet_covariance(x, other, w, input_bias_variance=bias, diag=True)
            matrix = resnet_covariance(x, other, w, input_bias_variance=bias)
            ends = (
                resnet_covariance(y, y, w, input_bias_variance=bias, diag=True) for y in (x, other)
            )
            scale = math.prod(end.sqrt() for end in ends)
            error = (diagonal - matrix.diagonal(dim1=-1, dim2=-2)).abs()
            assert (error <= 8 * EPS[dtype] * scale).all()

    def test_diag_builds_no_matrix(self):
        x = points(200_000, 3).requires_grad_()  # n x n would be 320 GB
        diagonal = resnet_covariance(x, x, scalar(1.0), diag=True)
        expected = x.detach().square().sum(-1) / 3 * math.exp(0.5)
        torch.testing.assert_close(diagonal.detach(), expected, rtol=1e-14, atol=0)
        gradient = torch.autograd.grad(diagonal.sum(), x)[0]
        torch.testing.assert_close(
            gradient, x.detach() * (2 * math.exp(0.5) / 3), rtol=1e-13, atol=0
        )

    def test_zero_rows(self):
        x = torch.cat([points(3, 2), torch.zeros(2, 2, dtype=torch.float64)]).requires_grad_()
        w = scalar(1.0).requires_grad_()
        K = resnet_covariance(x, x, w)
        assert (K[3:] == 0).all()
        assert (K[:, 3:] == 0).all()
        gradient = torch.autograd.grad(K.square().sum(), x)[0]
        assert torch.isfinite(gradient).all()
        assert (gradient[3:] == 0).all()
        diagonal = resnet_covariance(x, x, w, diag=True)
        assert torch.equal(diagonal[3:], tensor(0.0, 0.0))

    def test_second_derivatives_at_zero_rows(self):
        x = torch.cat([points(2, 2), torch.zeros(2, 2, dtype=torch.float64)]).requires_grad_()
        w = scalar(1.0).requires_grad_()
        first = torch.autograd.grad(resnet_covariance(x, x, w).sum(), (x, w), create_graph=True)
        assert (first[0][2:] == 0).all()
        second = torch.autograd.grad(first[0].square().sum() + first[1].square(), (x, w))
        assert all(torch.isfinite(gradient).all() for gradient in second)
        assert (second[0][2:] == 0).all()

    def test_a_bias_gives_zero_rows_a_variance(self):
        x = torch.zeros(2, 3, dtype=torch.float64)
        K = resnet_covariance(x, x, scalar(1.0), input_bias_variance=scalar(0.25))
        expected = torch.full((2, 2), 0.25 * math.exp(0.5), dtype=torch.float64)
        torch.testing.assert_close(K, expected, rtol=1e-15, atol=0)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("w", [1e-3, 1.0, 50.0])
    def test_duplicates_have_correlation_one(self, w, dtype):
        x = points(40, 7, dtype=dtype)
        K = resnet_covariance(x, torch.cat([x, x, 2 * x]), scalar(w, dtype=dtype))
        diagonal = resnet_covariance(x, x, scalar(w, dtype=dtype), diag=True)
        assert torch.equal(K[:, :40].diagonal(), diagonal)
        assert torch.equal(K[:, 40:80].diagonal(), diagonal)
        assert torch.equal(K[:, 80:].diagonal(), 2 * diagonal)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("w", [0.1, 1.0, 20.0])
    def test_antipodal_points(self, w, dtype):
        x, w = points(40, 7, dtype=dtype), scalar(w, dtype=dtype)
        K = resnet_covariance(x, torch.cat([-x, -3 * x]), w, variance="no_growth")
        diagonal = resnet_covariance(x, x, w, variance="no_growth", diag=True)
        expected = diagonal * flow(tensor(2.0, dtype=dtype), w)
        for values, factor in ((K[:, :40].diagonal(), 1), (K[:, 40:].diagonal(), 3)):
            bound = 20 * EPS[dtype] * factor * diagonal
            assert ((values - factor * expected).abs() <= bound).all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_positive_semidefinite(self, dtype):
        x = points(1000, 4, dtype=dtype)
        x[250:500], x[500:600], x[600:700] = x[:250], 3 * x[:100], -x[:100]
        K = resnet_covariance(x, x, scalar(1.0, dtype=dtype))
        assert_positive_semidefinite(K)

    @pytest.mark.parametrize(
        ("dtype", "largest"), [(torch.float64, 1419.0), (torch.float32, 177.0)]
    )
    def test_overflow_names_the_weight_variance(self, dtype, largest):
        x = 0.1 * points(3, 2, dtype=dtype)
        assert torch.isfinite(resnet_covariance(x, x, scalar(largest, dtype=dtype))).all()
        too_large = scalar(largest + 2, dtype=dtype)
        with pytest.raises(ValueError, match=r"weight_variance is so large .* variance=.no_growth"):
            resnet_covariance(x, x, too_large)
        assert torch.isfinite(resnet_covariance(x, x, too_large, variance="no_growth")).all()

    def test_horizon_out_of_range(self):
        x = points(3, 2)
        with pytest.raises(ValueError, match="horizon must lie"):
            resnet_covariance(x, x, scalar(2e4), variance="no_growth")

    def test_nan_is_passed_on_and_stays_in_its_row(self):
        x = points(600, 3)
        expected = resnet_covariance(x, x, scalar(1.0))
        x[4, 1] = math.nan
        K = resnet_covariance(x, x, scalar(1.0))
        assert K[4].isnan().all()
        assert K[:, 4].isnan().all()
        others = torch.arange(600) != 4
        torch.testing.assert_close(K[others][:, others], expected[others][:, others])
        assert resnet_covariance(x, x, scalar(1.0), diag=True).isnan().sum() == 1

    def test_infinity_becomes_nan(self):
        x = tensor(1.0, math.inf)[None]
        assert resnet_covariance(x, points(3, 2), scalar(1.0)).isnan().all()

    def test_gradients(self):
        assert gradcheck(self.with_everything, self.leaves())

    def test_second_derivatives(self):
        assert gradgradcheck(self.with_everything, self.leaves())

    def test_gradients_of_the_diagonal(self):
        diagonal = functools.partial(self.with_everything, diag=True)
        x, _, *others = self.leaves()
        assert gradcheck(diagonal, (x, x, *others))
        assert gradgradcheck(diagonal, (x, x, *others))

    @staticmethod
    def with_everything(x, z, w, lengthscale, bias, **options):
        return resnet_covariance(
            x,
            z,
            w,
            negative_slope=0.2,
            lengthscale=lengthscale,
            input_bias_variance=bias,
            **options,
        )

    @staticmethod
    def leaves():
        x, z = points(2, 3, 2), points(2, 2, seed=1)
        z = torch.cat([z, x[0, :1], -x[0, :1]])  # c_0 = 1 as well
        others = (tensor(0.8, 2.0)[:, None, None], tensor(0.7, 1.3), scalar(0.4))
        return tuple(leaf.requires_grad_() for leaf in (x, z, *others))

    def test_second_derivatives_at_right_angles_and_opposite(self):
        x, w = tensor(1.0, 0.5)[None].requires_grad_(), scalar(1.0).requires_grad_()
        z = torch.stack([-x[0], tensor(-0.5, 1.0), tensor(2.0, 1.0)]).detach().requires_grad_()
        assert gradcheck(resnet_covariance, (x, z, w))
        assert gradgradcheck(resnet_covariance, (x, z, w))

    def test_third_derivatives_are_refused(self):
        x, w = points(2, 2).requires_grad_(), scalar(1.0)
        derivative = resnet_covariance(x, points(2, 2, seed=1), w).sum()
        for _ in range(2):
            derivative = torch.autograd.grad(derivative, x, create_graph=True)[0].sum()
        with pytest.raises(RuntimeError, match="third derivatives"):
            torch.autograd.grad(derivative, x)

    def test_only_what_is_asked_for_gets_a_gradient(self):
        x, w = points(3, 2), scalar(1.0).requires_grad_()
        resnet_covariance(x, x, w).sum().backward()
        assert x.grad is None
        assert w.grad > 0


@pytest.mark.usefixtures("path")
class TestHessianAtCoincidentPoints:
    """There k(x, z) = exp(w / 2) <x, z> / d + O(|x - z|^3): what derivative GPs rely on."""

    w = scalar(2.5)
    x = points(3, 2)

    def gradient(self, x, z):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.total(x, z), x)[0]

    def total(self, x, z):
        return resnet_covariance(x, z, self.w).diagonal().sum()

    def test_hessian_in_one_input(self):
        second = hessian(lambda x: self.total(x, self.x), self.x).reshape(6, 6)
        assert torch.isfinite(second).all()
        assert second.abs().max() <= 1e-13
        for index in range(6):
            difference = self.difference(index, lambda x: self.gradient(x, self.x))
            torch.testing.assert_close(second[index], difference, rtol=0, atol=5e-6)

    def test_hessian_in_both_inputs(self):
        def total(z):
            x = self.x.detach().requires_grad_()
            return torch.autograd.grad(self.total(x, z), x, create_graph=True)[0]

        cross = torch.autograd.functional.jacobian(total, self.x).reshape(6, 6)
        expected = torch.eye(6, dtype=torch.float64) * math.exp(self.w / 2) / 2
        torch.testing.assert_close(cross, expected, rtol=1e-13, atol=1e-13)
        for index in range(6):
            difference = self.difference(index, lambda z: self.gradient(self.x, z))
            torch.testing.assert_close(cross[:, index], difference, rtol=0, atol=5e-6)

    def test_hessian_of_the_variance(self):
        second = hessian(lambda x: self.total(x, x), self.x).reshape(6, 6)
        expected = torch.eye(6, dtype=torch.float64) * math.exp(self.w / 2)
        torch.testing.assert_close(second, expected, rtol=1e-12, atol=1e-12)

    def difference(self, index, function, step=1e-6):
        shift = torch.zeros(6, dtype=torch.float64)
        shift[index] = step
        shift = shift.reshape(3, 2)
        return ((function(self.x + shift) - function(self.x - shift)) / (2 * step)).flatten()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("angle", [1.4e-7, 1.4e-6, 1e-4, 1e-2])
def test_curvature_close_to_coincident_points(angle):
    """d^2 k / d angle^2 on the unit circle, which is cos(angle_T)'' by the flow."""
    horizon = 2.5
    start = tensor(angle).requires_grad_()
    x = tensor(1.0, 0.0)[None]
    K = resnet_covariance(
        x, torch.stack([start.cos(), start.sin()], -1), scalar(horizon), variance="no_growth"
    )
    first = torch.autograd.grad(2 * K.sum(), start, create_graph=True)[0]
    second = torch.autograd.grad(first, start)[0]
    solution = oracle.solve(angle, horizon)
    # c_T' = slope, and the slope's derivative is slope (theta_T - theta_0) / (2 pi F(c_0))
    with oracle.mpmath.workdps(40):
        end = oracle.mpmath.acos(solution.c)
        bend = solution.slope * (end - angle) / (2 * oracle.mpmath.pi * oracle.speed(angle))
        expected = -solution.slope * solution.c0 - bend * solution.sine**2
    assert first.item() == pytest.approx(float(-solution.slope * solution.sine), rel=1e-8, abs=0)
    assert second.item() == pytest.approx(float(expected), rel=1e-6, abs=0)


def test_inputs_whose_squares_underflow_are_zero(path):
    x = torch.tensor([[1e-200, 0.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    covariance = resnet_covariance(x, x, torch.ones((), dtype=torch.float64))
    (gradient,) = torch.autograd.grad(covariance.sum(), x)
    assert covariance[0].tolist() == [0, 0]
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("options", [{}, {"depth": 10}, {"layers": "all"}], ids=str)
@pytest.mark.parametrize("n", [5, 20, 515])
def test_gradient_of_one_set_is_that_of_each_entry(path, n, options):
    """Where a row's slopes serve its column, with a gradient that is not symmetric."""
    x, grad, w = points(n, 3), points(n, n, seed=1), scalar(2.0)
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
    value = resnet_covariance(leaves[0], *leaves, **options)
    of_x, of_w = torch.autograd.grad(value, leaves, grad)
    leaves = x.clone().requires_grad_(), x.clone().requires_grad_(), w.clone().requires_grad_()
    rows, columns, by_w = torch.autograd.grad(resnet_covariance(*leaves, **options), leaves, grad)
    for one, other in ((of_x, rows + columns), (of_w, by_w)):
        assert (one - other).norm() < 1e-12 * other.norm()


SETTINGS = [{}, {"contrast": True}, {"depth": 7}, {"negative_slope": -1.0}]


class TestVariance:
    """One meaning of ``variance`` here and in the kernels."""

    @pytest.mark.parametrize("options", SETTINGS, ids=str)
    def test_unit_is_the_covariance_over_the_deviations(self, options):
        x, z, w = points(30, 3), points(20, 3, seed=1), scalar(2.0)
        full, unit = (
            functools.partial(resnet_covariance, weight_variance=w, variance=variance, **options)
            for variance in ("full", "unit")
        )
        deviations = [full(part, part, diag=True).sqrt() for part in (x, z)]
        expected = full(x, z) / (deviations[0][:, None] * deviations[1])
        torch.testing.assert_close(unit(x, z), expected, rtol=0, atol=1e-14)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("path", ["compiled", "torch"])
    @pytest.mark.parametrize("options", SETTINGS, ids=str)
    def test_diagonal_of_unit_is_exactly_one(self, torch_only, options, path, dtype):
        if path == "torch":
            torch_only()
        x, ones = points(30, 3, dtype=dtype), torch.ones(30, dtype=dtype)
        for bias in (None, scalar(0.4, dtype=dtype)):
            unit = functools.partial(
                resnet_covariance,
                weight_variance=scalar(2.0, dtype=dtype),
                variance="unit",
                input_bias_variance=bias,
                **options,
            )
            assert torch.equal(unit(x, x).diagonal(), ones)
            assert torch.equal(unit(x, x, diag=True), ones)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"variance": "none"}, "variance must be one of full, no_growth, unit"),
            ({"variance": "unit", "layers": "all"}, 'variance="unit" needs layers="readout"'),
            ({"contrast": True, "layers": "blocks"}, "contrast=True needs depth=None"),
            ({"contrast": True, "depth": 3}, "contrast=True needs depth=None"),
        ],
        ids=str,
    )
    def test_refuses(self, options, message):
        with pytest.raises(ValueError, match=message):
            resnet_covariance(points(3, 2), points(3, 2), scalar(1.0), **options)
