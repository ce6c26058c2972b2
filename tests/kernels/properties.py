"""What every kernel owes, over every configuration of it: one suite for all kernels."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from gpytorch.kernels import Kernel
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call


def points(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def dense(kernel, *inputs):
    with torch.no_grad():
        return kernel(*inputs).to_dense()


def assert_positive_semidefinite(K):
    """No eigenvalue below -n eps lambda_max: K plus that much of the identity has a root.

    A Cholesky factorisation, in float64, because all eigenvalues of 1000 x 1000 take seconds.
    """
    n, eps = len(K), torch.finfo(K.dtype).eps
    K = K.double()
    vector = torch.ones(n, dtype=K.dtype)
    for _ in range(20):
        vector = torch.nn.functional.normalize(K @ vector, dim=0)
    largest = vector @ K @ vector  # never above lambda_max
    shifted = K + n * eps * largest * torch.eye(n, dtype=K.dtype)
    assert torch.linalg.cholesky_ex(shifted).info == 0


class Dense(torch.nn.Module):
    """A kernel's matrix as the output of a module, for ``functional_call``."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x, z):
        return self.kernel(x, z).to_dense()


def of_inputs_and_parameters(kernel):
    """K(x, z, *raw parameters) as a function, and the values of the raw parameters."""
    module = Dense(kernel)
    names, values = zip(*module.named_parameters(), strict=True)

    def function(x, z, *parameters):
        return functional_call(module, dict(zip(names, parameters, strict=True)), (x, z))

    return function, [value.detach().clone().requires_grad_() for value in values]


class KernelProperties:
    """Inherit and parametrise the class over ``configuration``, which offers

    * ``kernel(batch_shape=torch.Size())``, every hyperparameter away from its initial value;
    * ``dtype`` of the kernel and ``dimensions`` of its inputs;
    * ``twice_differentiable``; where it is not, second derivatives must raise;
    * ``roundings``: what an entry may be off, for a kernel whose last bits are not all right;
    * ``without_bias()``, the configuration whose kernel is homogeneous, and ``degree``, of what
      degree in each argument;
    * ``linear_limit(kernel, x, z)``: takes the kernel to zero depth, returns what it must be then.
    """

    def points(self, configuration, *shape, seed=0):
        return points(*shape, configuration.dimensions, seed=seed, dtype=configuration.dtype)

    def assert_close(self, configuration, values, expected, rows, columns, ulp):
        """Within ``ulp`` roundings of sqrt(k(x, x) k(z, z)); the points are rows and columns."""
        kernel, eps = configuration.kernel(), torch.finfo(configuration.dtype).eps
        with torch.no_grad():
            scale = (kernel(rows, diag=True)[:, None] * kernel(columns, diag=True)).sqrt()
        bound = ulp * configuration.roundings * eps * scale
        assert ((values - expected).abs() <= bound).all()

    def test_dtype_and_shape(self, configuration):
        x, z = self.points(configuration, 4), self.points(configuration, 3, seed=1)
        K = dense(configuration.kernel(), x, z)
        assert K.dtype == configuration.dtype
        assert K.shape == (4, 3)

    def test_no_points(self, configuration):
        kernel = configuration.kernel()
        x, z = self.points(configuration, 0), self.points(configuration, 4)
        for pair in ((x, z), (z, x), (x, x)):
            assert dense(kernel, *pair).shape == (len(pair[0]), len(pair[1]))
        assert kernel(x, diag=True).shape == (0,)

    def test_symmetric(self, configuration):
        x, z = self.points(configuration, 70), self.points(configuration, 50, seed=1)
        kernel = configuration.kernel()
        K = dense(kernel, x)
        self.assert_close(configuration, K, K.mT, x, x, ulp=4)
        self.assert_close(configuration, dense(kernel, x, z), dense(kernel, z, x).mT, x, z, ulp=8)

    def test_one_argument_is_both(self, configuration):
        x, kernel = self.points(configuration, 40), configuration.kernel()
        self.assert_close(configuration, dense(kernel, x), dense(kernel, x, x.clone()), x, x, ulp=4)

    def test_equal_points_of_two_tensors_have_their_own_gradients(self, configuration):
        """Half of the matrix is computed for one set of points; these might be taken for one."""
        x = self.points(configuration, 4).requires_grad_()
        z = x.detach().clone().requires_grad_()
        weight, kernel = points(4, 4, seed=1, dtype=configuration.dtype), configuration.kernel()
        by_x, by_z = torch.autograd.grad((kernel(x, z).to_dense() * weight).sum(), (x, z))
        turned = torch.autograd.grad((kernel(x, z).to_dense() * weight.mT).sum(), (z, x))
        torch.testing.assert_close((by_x, by_z), turned)
        (whole,) = torch.autograd.grad((kernel(x).to_dense() * weight).sum(), x)
        torch.testing.assert_close(by_x + by_z, whole)

    def test_diagonal(self, configuration):
        x, z = self.points(configuration, 70), self.points(configuration, 70, seed=1)
        kernel = configuration.kernel()
        eps = configuration.roundings * torch.finfo(configuration.dtype).eps
        with torch.no_grad():
            variance, other = kernel(x, diag=True), kernel(z, diag=True)
            cross = kernel(x, z, diag=True)
        assert ((variance - dense(kernel, x).diagonal()).abs() <= 8 * eps * variance).all()
        bound = 8 * eps * (variance * other).sqrt()
        assert ((cross - dense(kernel, x, z).diagonal()).abs() <= bound).all()

    def test_block_equals_the_slice(self, configuration):
        x, kernel = self.points(configuration, 200), configuration.kernel()
        whole = dense(kernel, x)
        for rows, columns in [(slice(5, 6), slice(0, 200)), (slice(50, 95), slice(7, 180, 3))]:
            block, block_points = dense(kernel, x[rows], x[columns]), (x[rows], x[columns])
            self.assert_close(configuration, block, whole[rows, columns], *block_points, ulp=8)

    def test_positive_semidefinite(self, configuration):
        x = self.points(configuration, 1000)
        x[250:500], x[500:600], x[600:700] = x[:250], 3 * x[:100], -x[:100]
        assert_positive_semidefinite(dense(configuration.kernel(), x))

    def test_rotation_invariant(self, configuration):
        """In units of the lengthscale."""
        kernel = configuration.kernel()
        x, scale = self.points(configuration, 40), kernel.lengthscale.detach()
        rotation = torch.linalg.qr(self.points(configuration, configuration.dimensions, seed=2)).Q
        rotated = (x / scale) @ rotation * scale
        K = dense(kernel, x)
        self.assert_close(configuration, dense(kernel, rotated), K, x, x, ulp=40)

    def test_homogeneous_without_bias(self, configuration):
        configuration = configuration.without_bias()
        x, z = self.points(configuration, 40), self.points(configuration, 30, seed=1)
        kernel = configuration.kernel()
        K, scaled = dense(kernel, x, z), dense(kernel, 0.3 * x, 7 * z)
        factor = (0.3 * 7) ** configuration.degree
        self.assert_close(configuration, scaled / factor, K, x, z, ulp=20)

    def test_zero_depth_is_linear(self, configuration):
        x, z = self.points(configuration, 40), self.points(configuration, 30, seed=1)
        kernel = configuration.kernel()
        expected = configuration.linear_limit(kernel, x, z)
        self.assert_close(configuration, dense(kernel, x, z), expected, x, z, ulp=20)

    def inputs_with_special_pairs(self, configuration):
        """One point, and points that are equal, opposite, orthogonal and random to it."""
        x, other = points(2, 1, configuration.dimensions)
        orthogonal = other - x * (x * other).sum() / x.square().sum()
        return x.requires_grad_(), torch.cat([x, -x, orthogonal, other]).detach().requires_grad_()

    def test_gradients(self, configuration):
        function, parameters = of_inputs_and_parameters(configuration.kernel().double())
        assert gradcheck(function, (*self.inputs_with_special_pairs(configuration), *parameters))

    def test_second_derivatives(self, configuration):
        function, parameters = of_inputs_and_parameters(configuration.kernel().double())
        inputs = (*self.inputs_with_special_pairs(configuration), *parameters)
        if configuration.twice_differentiable:
            assert gradgradcheck(function, inputs)
            return

        def twice():
            gradients = torch.autograd.grad(function(*inputs).sum(), inputs, create_graph=True)
            torch.autograd.grad(gradients[0].sum(), inputs)

        with pytest.raises(RuntimeError, match="second derivatives"):
            twice()

    def layers_of(self, kernel):
        """Which layers are trained; tangent kernels have more than the readout."""
        return getattr(kernel, "components", [kernel])[0].layers

    def test_gradients_by_torch_func(self, configuration):
        function, parameters = of_inputs_and_parameters(configuration.kernel().double())
        inputs = (*self.inputs_with_special_pairs(configuration), *parameters)
        weights = points(len(inputs[0]), len(inputs[1]), seed=3)

        def total(*inputs):
            return (function(*inputs) * weights).sum()

        expected = torch.autograd.grad(total(*inputs), inputs)
        found = torch.func.grad(total, argnums=tuple(range(len(inputs))))(*inputs)
        # Slopes of tangent kernels are infinite at opposite points: rounding next to them counts.
        layers = self.layers_of(configuration.kernel())
        tolerance = 1e-12 if layers == "readout" else 1e-8
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
    def test_half_precision(self, configuration, half):
        """The parameters' dtype wins; if it is half as well, float32 is rounded at the end."""
        x, kernel = self.points(configuration, 20).to(half), configuration.kernel()
        z = self.points(configuration, 10, seed=1).to(half)
        assert torch.equal(dense(kernel, x, z), dense(kernel, x.float(), z.float()))
        kernel, wide = kernel.to(half), configuration.kernel().float()
        for name in (
            "lengthscale",
            "weight_variance",
            "input_bias_variance",
            "block_bias_variance",
        ):
            if hasattr(kernel, name):
                setattr(wide, name, getattr(kernel, name).detach().float())
        leaves = [x.clone().requires_grad_(), x.float().requires_grad_()]
        results = []
        for one, leaf, other in zip((kernel, wide), leaves, (z, z.float()), strict=True):
            K = one(leaf, other).to_dense()
            (gradient,) = torch.autograd.grad(K.sum(), leaf)
            results.append([K.detach(), gradient, one(leaf, diag=True).detach()])
        for found, expected in zip(*results, strict=True):
            assert found.dtype == half
            bound = 4 * torch.finfo(half).eps * expected.abs().amax()
            assert ((found.float() - expected).abs() <= bound).all()

    def test_precisions_agree(self, configuration):
        x, results = points(30, configuration.dimensions, dtype=torch.float32), []
        for dtype in (torch.float32, torch.float64):
            function, parameters = of_inputs_and_parameters(configuration.kernel().to(dtype))
            leaves = [x.to(dtype).requires_grad_(), *parameters]
            K = function(leaves[0], *leaves)
            results.append([K, *torch.autograd.grad(K.square().sum(), leaves)])
        for single, double in zip(*results, strict=True):
            assert single.dtype == torch.float32
            assert (single - double).norm() <= 3e-6 * double.norm()

    def test_batch_of_inputs(self, configuration):
        kernel, x = configuration.kernel(), self.points(configuration, 2, 3, 10)
        z = self.points(configuration, 3, 7, seed=1)
        K = dense(kernel, x, z)
        assert K.shape == (2, 3, 10, 7)
        self.assert_close(configuration, K[1, 2], dense(kernel, x[1, 2], z[2]), x[1, 2], z[2], 8)
        with torch.no_grad():
            diagonal = kernel(x, diag=True)
        torch.testing.assert_close(diagonal, dense(kernel, x).diagonal(dim1=-1, dim2=-2))

    def batch_kernel(self, configuration):
        """A batch of kernels, no two alike."""
        kernel = configuration.kernel(batch_shape=torch.Size([3]))
        for parameter in kernel.parameters():
            step = 0.2 * torch.arange(3.0, dtype=parameter.dtype)[:, None, None]
            parameter.data = parameter.data + step
        return kernel

    def single_kernels(self, configuration):
        batch = self.batch_kernel(configuration)
        for index in range(3):
            kernel = configuration.kernel()
            state = {name: value[index] for name, value in batch.named_parameters()}
            kernel.load_state_dict(kernel.state_dict() | state)
            yield kernel

    def test_batch_of_hyperparameters(self, configuration):
        x, z = self.points(configuration, 12), self.points(configuration, 3, 9, seed=1)
        K = dense(self.batch_kernel(configuration), x, z)
        for index, kernel in enumerate(self.single_kernels(configuration)):
            torch.testing.assert_close(K[index], dense(kernel, x, z[index]))
        assert not torch.allclose(K[0], dense(kernel, x, z[0]), rtol=1e-2)

    def test_getitem(self, configuration):
        batch, x = self.batch_kernel(configuration), self.points(configuration, 12)
        for index, kernel in enumerate(self.single_kernels(configuration)):
            assert batch[index].batch_shape == torch.Size()
            torch.testing.assert_close(dense(batch[index], x), dense(kernel, x))
        assert dense(batch[1:], x).shape == (2, 12, 12)
        torch.testing.assert_close(dense(batch[1:], x), dense(batch, x)[1:])

    def test_rows_of_a_lazy_matrix(self, configuration):
        kernel, x = configuration.kernel(), self.points(configuration, 30)
        lazy = kernel(x)[3:8, 10:]
        expected = dense(kernel, x)[3:8, 10:]
        torch.testing.assert_close(lazy.to_dense().detach(), expected)

    def test_expand_batch(self, configuration):
        kernel, x = configuration.kernel(), self.points(configuration, 2, 10)
        expanded = kernel.expand_batch(torch.Size([4, 2]))
        assert expanded.batch_shape == torch.Size([4, 2])
        K = dense(expanded, x)
        assert K.shape == (4, 2, 10, 10)
        torch.testing.assert_close(K, dense(kernel, x).expand(4, -1, -1, -1))

    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda kernel: pickle.loads(pickle.dumps(kernel))]
    )
    def test_copies(self, configuration, copied):
        kernel, x = configuration.kernel(), self.points(configuration, 20)
        dense(kernel, x)
        other = copied(kernel)
        assert torch.equal(dense(other, x), dense(kernel, x))
        next(other.parameters()).data.add_(0.5)
        assert not torch.allclose(dense(other, x), dense(kernel, x))

    def test_state_dict(self, configuration):
        x, original, restored = (
            self.points(configuration, 20),
            *(configuration.kernel() for _ in range(2)),
        )
        for parameter in original.parameters():
            parameter.data.add_(0.25)
        assert not torch.allclose(dense(restored, x), dense(original, x))
        restored.load_state_dict(original.state_dict())
        assert torch.equal(dense(restored, x), dense(original, x))

    def test_is_not_stationary(self, configuration):
        kernel, x = configuration.kernel(), self.points(configuration, 5)
        assert not kernel.is_stationary
        assert not torch.allclose(dense(kernel, x), dense(kernel, x + 1))

    def test_holds_no_tables(self, configuration):
        """Indexing a kernel indexes its buffers."""
        kernel = configuration.kernel()
        dense(kernel, self.points(configuration, 5))
        for part in kernel.modules():
            if isinstance(part, Kernel):
                assert {name for name, _ in part.named_buffers(recurse=False)} <= {"active_dims"}
