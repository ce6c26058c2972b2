"""The kernel of images as GPyTorch and its users see it."""

import copy
import pickle

import gpytorch
import pytest
import torch
from gpytorch.kernels import ScaleKernel
from gpytorch.priors import GammaPrior
from torch.autograd import gradcheck
from torch.func import functional_call

from resnet_gp.flow.convolution import covariance as module
from resnet_gp.flow.domain import DomainError
from resnet_gp.kernels import ConvResNetLimitKernel

SHAPE = (2, 3, 3)


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 18, generator=generator, dtype=torch.float64)


def kernel_of(**options):
    kernel = ConvResNetLimitKernel(SHAPE, **options).double()
    kernel.weight_variance = 1.3
    if kernel.input_bias:
        kernel.input_bias_variance = 0.2
    if kernel.block_bias:
        kernel.block_bias_variance = 0.1
    return kernel


@pytest.fixture
def calls(monkeypatch):
    """The number of covariances that were computed."""
    made = []
    original = module._member

    def counted(*arguments):
        made.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(module, "_member", counted)
    return made


@pytest.mark.parametrize("readout", ["flatten", "average"])
@pytest.mark.parametrize("depth", [None, 2])
@pytest.mark.parametrize("diag", [False, True])
def test_gradients_in_all_hyperparameters(readout, depth, diag):
    kernel = kernel_of(readout=readout, depth=depth, input_bias=True, block_bias=True)
    x, z = images(3), images(3, seed=1)
    x[1] = z[1]
    names, values = zip(*kernel.named_parameters(), strict=True)

    def function(*parameters):
        given = {f"kernel.{name}": value for name, value in zip(names, parameters, strict=True)}
        return functional_call(Forward(kernel), given, (x, z, diag))

    inputs = [value.detach().clone().requires_grad_() for value in values]
    assert gradcheck(function, inputs, eps=1e-4)


class Forward(torch.nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x, z, diag):
        return self.kernel.forward(x, z, diag=diag)


def test_hyperparameters_have_the_names_of_the_other_kernels():
    kernel = ConvResNetLimitKernel(SHAPE, input_bias=True, block_bias=True)
    names = ["raw_weight_variance", "raw_input_bias_variance", "raw_block_bias_variance"]
    assert [name for name, _ in kernel.named_parameters()] == names
    assert kernel.weight_variance.tolist() == [[1.0]]
    assert not kernel.has_lengthscale
    assert not kernel.is_stationary
    with pytest.raises(AttributeError, match="input_bias"):
        _ = ConvResNetLimitKernel(SHAPE).input_bias_variance
    with pytest.raises(ValueError, match="block_bias=True"):
        ConvResNetLimitKernel(SHAPE, block_bias_variance_prior=GammaPrior(2.0, 1.0))
    kernel = ConvResNetLimitKernel(SHAPE, weight_variance_prior=GammaPrior(2.0, 1.0))
    assert [name for name, *_ in kernel.named_priors()] == ["weight_variance_prior"]


def test_the_matrix_is_that_of_the_flow():
    kernel = kernel_of(input_bias=True, block_bias=True, filter_size=1)
    x = images(5)
    with torch.no_grad():
        expected = module.conv_covariance(
            x, x, kernel.network, kernel.weight_variance,
            input_bias_variance=kernel.input_bias_variance,
            block_bias_variance=kernel.block_bias_variance,
        )  # fmt: skip
        assert torch.equal(kernel(x).to_dense(), expected)
        assert torch.equal(kernel(x, diag=True), expected.diagonal())
        assert torch.equal(kernel(x, x[:2]).to_dense(), expected[:, :2])


def test_batches_of_hyperparameters_and_chosen_columns():
    kernel = ConvResNetLimitKernel(
        (3, 3), batch_shape=torch.Size([2]), active_dims=tuple(range(9, 18))
    ).double()
    kernel.weight_variance = torch.tensor([0.5, 2.0]).reshape(2, 1, 1)
    x = images(4)
    K = kernel(x).to_dense()
    assert K.shape == (2, 4, 4)
    for k, w in zip(K, (0.5, 2.0), strict=True):
        single = ConvResNetLimitKernel((3, 3)).double()
        single.weight_variance = w
        torch.testing.assert_close(k, single(x[:, 9:]).to_dense(), rtol=1e-14, atol=0)


def test_single_precision_stores_single_precision():
    kernel, x = ConvResNetLimitKernel(SHAPE).double().requires_grad_(False), images(6).float()
    K = kernel(x.double()).to_dense()
    assert torch.equal(copy.deepcopy(kernel).float()(x).to_dense(), K.float())


def test_last_matrices_are_given_out_again(calls):
    kernel, x = kernel_of().requires_grad_(False), images(6)
    K = kernel(x).to_dense()
    K += 1  # what is given out is the caller's
    again = copy.deepcopy(kernel)(x.clone()).to_dense()
    assert len(calls) == 1
    assert torch.equal(again, K - 1) or torch.allclose(again, K - 1)
    kernel(x, x[:2]).to_dense(), kernel(x).to_dense(), kernel(x, x[:2]).to_dense()
    assert len(calls) == 2
    kernel.weight_variance = 2.0
    assert not torch.allclose(kernel(x).to_dense(), again)
    kernel(x + 1).to_dense(), kernel(x, diag=True)
    assert len(calls) == 5


def test_matrices_with_gradients_are_not_kept(calls):
    kernel, x = kernel_of(), images(3)
    for _ in range(2):
        kernel(x).to_dense().sum().backward()
    assert len(calls) == 2


def test_pickles_without_matrices():
    kernel, x = kernel_of(input_bias=True), images(50)
    with torch.no_grad():
        K = kernel(x).to_dense()
        data = pickle.dumps(kernel)
        assert len(data) < 8 * K.numel()
        assert torch.equal(pickle.loads(data)(x).to_dense(), K)


def test_is_a_kernel_of_an_exact_gp():
    x, y = images(20), images(20)[:, 0]
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()

    class Model(gpytorch.models.ExactGP):
        def __init__(self):
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ZeroMean()
            self.covar_module = ScaleKernel(kernel_of())

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    model = Model().double()
    likelihood_of = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    likelihood_of(model(x), y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        K = model.covar_module(x).to_dense()
        z = images(3, seed=2)
        cross = model.covar_module(z, x).to_dense()
        expected = cross @ torch.linalg.solve(K + likelihood.noise * torch.eye(20), y)
        torch.testing.assert_close(model(z).mean, expected, rtol=1e-4, atol=1e-5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="have 18 values each, got inputs with 17"):
        kernel_of()(images(2)[:, :17]).to_dense()
    kernel = kernel_of()
    kernel.weight_variance = 101.0
    with pytest.raises(DomainError, match="weight_variance"):
        kernel(images(2)).to_dense()
    with pytest.raises(RuntimeError, match="last_dim_is_batch"):
        kernel_of().forward(images(2), images(2), last_dim_is_batch=True)


def test_tells_its_cost():
    pytest.importorskip("numba")
    assert kernel_of().cost(100).bytes == 80_000
    assert kernel_of().cost(100, 200).bytes == 160_000


def test_block_biases_cost_more_steps(monkeypatch):
    pytest.importorskip("numba")
    from resnet_gp.flow.convolution import on_numba

    stages = []
    block = on_numba._block
    monkeypatch.setattr(
        on_numba, "_block", lambda flow, *a: stages.append(len(flow.steps.own)) or block(flow, *a)
    )
    for biases in (False, True):
        kernel_of(block_bias=biases).cost(10)
    assert stages[-1] == 2 * stages[0]


@pytest.mark.parametrize("diag", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_images_of_integers_are_numbers(dtype, diag):
    x = (torch.arange(40).reshape(5, 8) % 7 * 30).to(dtype)
    kernel = ConvResNetLimitKernel((2, 4))
    with torch.no_grad():
        found, expected = kernel(x, diag=diag), kernel(x.float(), diag=diag)
    if not diag:
        found, expected = found.to_dense(), expected.to_dense()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_the_widest_dtype_wins():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    kernel = ConvResNetLimitKernel((2, 4))
    with torch.no_grad():
        assert kernel(x).to_dense().dtype == torch.float32
        assert kernel(x, x.double()).to_dense().dtype == torch.float64
        assert kernel.double()(x).to_dense().dtype == torch.float64
        with pytest.raises(ValueError, match="images must be real"):
            kernel(x.to(torch.complex64)).to_dense()
