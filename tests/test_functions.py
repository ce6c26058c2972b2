from __future__ import annotations

import doctest
import functools
import math

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from resnet_gp import ResNetLimitKernel, correlation, kernel_matrix


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class TestCorrelation:
    def test_values(self):
        """25-digit values at T = 1."""
        ends = correlation(np.array([-1.0, 1.0]), 1.0)
        np.testing.assert_allclose(ends, [-0.5915620807795490757, 1.0], rtol=0, atol=2e-14)

    @pytest.mark.parametrize("c0", [0, 0.0, [0.0], (0,), np.zeros((2, 3)), np.array([0]), False])
    def test_arrays_lists_and_numbers(self, c0):
        end = correlation(c0, 1)
        assert isinstance(end, np.ndarray)
        assert end.dtype == np.float64
        assert end.shape == np.shape(c0)
        np.testing.assert_allclose(end, 0.14134767705004827, rtol=1e-13)

    def test_docstring(self):
        (example,) = doctest.DocTestFinder().find(correlation, globs={"np": np} | globals())
        assert doctest.DocTestRunner().run(example).failed == 0

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_tensors_keep_their_dtype(self, dtype):
        c0 = torch.linspace(-1, 1, 9, dtype=dtype)
        end = correlation(c0, 0.7)
        assert end.dtype == dtype
        array = correlation(c0.numpy(), 0.7)
        assert isinstance(array, np.ndarray)
        assert np.array_equal(end.numpy(), array)

    def test_other_tensors_become_float64(self):
        assert correlation(torch.tensor([0, 1]), 1.0).dtype == torch.float64

    def test_the_argument_is_not_changed(self):
        c0 = np.linspace(-1, 1, 9)
        correlation(c0, 1.0)
        assert np.array_equal(c0, np.linspace(-1, 1, 9))

    def test_horizons_broadcast(self):
        c0, horizon = np.linspace(-1, 1, 5), np.array([[0.1], [3.0], [50.0]])
        together = correlation(c0, horizon)
        assert together.shape == (3, 5)
        for row, time in zip(together, horizon[:, 0], strict=True):
            assert np.array_equal(row, correlation(c0, time))

    def test_one_correlation_and_many_horizons(self):
        ends = correlation(-0.5, [0, 1, 10])
        assert ends.shape == (3,)
        assert ends[0] == -0.5
        assert (np.diff(ends) > 0).all()

    def test_differentiable(self):
        c0 = torch.tensor([-0.8, 0.3], dtype=torch.float64, requires_grad=True)
        horizon = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(correlation, (c0, horizon))
        assert torch.autograd.gradgradcheck(correlation, (c0, horizon))

    @pytest.mark.parametrize("c0", [1.0001, -2, math.nan, [0.5, math.inf]])
    def test_what_is_no_correlation_is_refused(self, c0):
        with pytest.raises(ValueError, match="c0 must be correlations between -1 and 1"):
            correlation(c0, 1.0)

    @pytest.mark.parametrize("horizon", [-1, math.nan, math.inf, 1e5, [1.0, -1.0]])
    def test_horizon_out_of_range(self, horizon):
        with pytest.raises(ValueError, match="horizon must lie between 0 and 10000"):
            correlation([0.5, 0.7], horizon)

    @pytest.mark.parametrize("value", ["a", 1j, None, torch.tensor(1j)], ids=repr)
    def test_numbers_must_be_real(self, value):
        with pytest.raises(ValueError, match="c0 must be real numbers"):
            correlation(value, 1.0)

    @pytest.mark.parametrize("value", ["a", 1j, None], ids=repr)
    def test_horizons_must_be_real(self, value):
        with pytest.raises(ValueError, match="horizon must be real numbers"):
            correlation(0.5, value)


class TestKernelMatrix:
    @pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
    def test_is_the_kernel(self, rng, activation):
        X, Z = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
        kernel = ResNetLimitKernel(
            activation, negative_slope=0.2, input_bias=True, ard_num_dims=3
        ).double()
        kernel.lengthscale = torch.tensor([0.5, 1.0, 2.0])
        kernel.weight_variance, kernel.input_bias_variance = 1.7, 0.3
        K = kernel_matrix(
            X,
            Z,
            activation=activation,
            negative_slope=0.2,
            weight_variance=1.7,
            lengthscale=[0.5, 1.0, 2.0],
            input_bias_variance=0.3,
        )
        expected = kernel(torch.tensor(X), torch.tensor(Z)).to_dense().detach()
        np.testing.assert_allclose(K, expected, rtol=1e-14, atol=1e-14)

    def test_initially_the_kernel_of_the_paper(self, rng):
        X = rng.normal(size=(6, 3))
        expected = ResNetLimitKernel().double()(torch.tensor(X)).to_dense().detach()
        np.testing.assert_allclose(kernel_matrix(X), expected, rtol=1e-15)

    def test_one_argument_is_both(self, rng):
        X = rng.normal(size=(6, 3))
        np.testing.assert_allclose(kernel_matrix(X), kernel_matrix(X, X.copy()), rtol=1e-15)

    @pytest.mark.parametrize(
        "X", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), np.array([[1.0, 2], [3, 4]], order="F")]
    )
    def test_lists_integers_and_layouts(self, X):
        K = kernel_matrix(X)
        assert isinstance(K, np.ndarray)
        assert K.dtype == np.float64
        np.testing.assert_allclose(K, kernel_matrix(np.array([[1.0, 2.0], [3.0, 4.0]])), rtol=0)

    def test_float32_stays_float32(self, rng):
        X = rng.normal(size=(6, 3)).astype(np.float32)
        assert kernel_matrix(X).dtype == np.float32
        assert kernel_matrix(X, X.astype(np.float64)).dtype == np.float32
        assert kernel_matrix(torch.tensor(X)).dtype == torch.float32
        np.testing.assert_allclose(kernel_matrix(X), kernel_matrix(X.astype(float)), atol=1e-5)

    def test_tensors(self, rng):
        X = torch.tensor(rng.normal(size=(2, 6, 3)), requires_grad=True)
        w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        K = kernel_matrix(X, weight_variance=w)
        assert K.shape == (2, 6, 6)
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(K.sum(), (X, w)))

    @pytest.mark.parametrize("name", ["weight_variance", "lengthscale", "input_bias_variance"])
    @pytest.mark.parametrize("value", [0.0, -1, math.nan, math.inf])
    def test_bad_hyperparameters_are_named(self, name, value):
        with pytest.raises(ValueError, match=f"{name} must be positive and finite"):
            kernel_matrix(np.ones((2, 3)), **{name: value})

    @pytest.mark.parametrize("lengthscale", [[1.0, 2.0], np.ones((1, 3)), np.ones((2, 1, 3))])
    def test_lengthscale_of_the_wrong_shape(self, lengthscale):
        with pytest.raises(ValueError, match="lengthscale must be a number or 3 of them"):
            kernel_matrix(np.ones((2, 3)), lengthscale=lengthscale)

    def test_features_must_match(self):
        with pytest.raises(ValueError, match="X has 3 features but Z has 2"):
            kernel_matrix(np.ones((2, 3)), np.ones((2, 2)))

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
    def test_inputs_of_the_wrong_shape(self, shape):
        with pytest.raises(ValueError, match="X must be n x d"):
            kernel_matrix(np.ones(shape))

    def test_single_inputs(self, rng):
        X, z = rng.normal(size=(4, 3)), rng.normal(size=3)
        whole = kernel_matrix(X, z[None])
        np.testing.assert_array_equal(kernel_matrix(X, z), whole[:, 0])
        np.testing.assert_array_equal(kernel_matrix(X[1], X), kernel_matrix(X)[1])
        assert kernel_matrix(X[2], z) == whole[2, 0]
        assert kernel_matrix(z).shape == ()

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_inputs_must_be_finite(self, value):
        with pytest.raises(ValueError, match="X contains NaN or infinity"):
            kernel_matrix([[1.0, value]])
        with pytest.raises(ValueError, match="Z contains NaN or infinity"):
            kernel_matrix([[1.0, 2.0]], [[1.0, value]])

    def test_inputs_must_be_numbers(self):
        with pytest.raises(ValueError, match="X must be real numbers"):
            kernel_matrix([["a", "b"]])

    def test_unknown_activation(self):
        with pytest.raises(ValueError, match="activation must be one of"):
            kernel_matrix(np.ones((2, 3)), activation="cubic")

    def test_overflow(self):
        with pytest.raises(ValueError, match="weight_variance is so large"):
            kernel_matrix(np.ones((2, 3)), weight_variance=2000)


class TestScikitLearn:
    def test_support_vector_classifier(self, rng):
        X = rng.normal(size=(120, 2))
        y = X[:, 0] * X[:, 1] > 0  # not linearly separable
        kernel = functools.partial(kernel_matrix, weight_variance=5.0, input_bias_variance=0.5)
        model = SVC(kernel=kernel, C=10.0)
        assert cross_val_score(model, X, y, cv=3).mean() > 0.85
        precomputed = SVC(kernel="precomputed", C=10.0).fit(kernel(X), y)
        assert np.array_equal(model.fit(X, y).predict(X), precomputed.predict(kernel(X, X)))

    def test_kernel_ridge_with_a_precomputed_matrix(self, rng):
        X, Z = rng.normal(size=(60, 2)), rng.normal(size=(30, 2))
        kernel = functools.partial(kernel_matrix, input_bias_variance=1.0)
        model = KernelRidge(alpha=1e-3, kernel="precomputed").fit(kernel(X), np.abs(X[:, 0]))
        error = model.predict(kernel(Z, X)) - np.abs(Z[:, 0])
        assert np.mean(error**2) < 0.1 * np.var(np.abs(Z[:, 0]))

    def test_kernel_ridge_with_a_callable_takes_pairs_of_rows(self, rng):
        """KernelRidge calls its kernel on two rows at a time, SVC on two matrices."""
        X = rng.normal(size=(12, 2))
        model = KernelRidge(alpha=0.1, kernel=kernel_matrix).fit(X, X[:, 0])
        precomputed = KernelRidge(alpha=0.1, kernel="precomputed").fit(kernel_matrix(X), X[:, 0])
        expected = precomputed.predict(kernel_matrix(X))
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-8)


def test_kernel_matrix_of_finite_depth():
    X = np.random.RandomState(0).randn(6, 3)
    kernel = ResNetLimitKernel(depth=5).double()
    expected = kernel(torch.from_numpy(X)).to_dense().detach().numpy()
    np.testing.assert_allclose(kernel_matrix(X, depth=5), expected, rtol=1e-13)
    with pytest.raises(ValueError, match="depth"):
        kernel_matrix(X, depth=0)
