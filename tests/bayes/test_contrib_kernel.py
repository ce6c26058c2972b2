import pyro.contrib.gp as gp
import pytest
import torch
from bayes.models import data
from gpytorch.kernels import ScaleKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import ContribKernel


@pytest.fixture
def kernel():
    return ContribKernel(ScaleKernel(ResNetLimitKernel(input_bias=True).double()).double(), 2)


def test_matrices_are_those_of_the_kernel(kernel):
    x, z = data(4)[0], data(3, seed=1)[0]
    torch.testing.assert_close(kernel(x), kernel.kernel(x).to_dense())
    torch.testing.assert_close(kernel(x, z), kernel.kernel(x, z).to_dense())
    torch.testing.assert_close(kernel(x, diag=True), kernel(x).diagonal())
    one = ContribKernel(ResNetLimitKernel(input_bias=True).double(), 1, active_dims=[1])
    torch.testing.assert_close(one(x), one.kernel(x[:, 1:]).to_dense())


@pytest.mark.parametrize("sparse", [False, True])
def test_models_of_pyro_learn_with_it(kernel, sparse):
    x, y = data(30)
    noise = torch.tensor(0.1, dtype=torch.float64)
    if sparse:
        model = gp.models.SparseGPRegression(x, y, kernel, Xu=x[:10].clone(), noise=noise)
    else:
        model = gp.models.GPRegression(x, y, kernel, noise=noise)
    losses = gp.util.train(model, torch.optim.Adam(model.parameters(), lr=0.05), num_steps=40)
    assert losses[-1] < losses[0]
    assert kernel.kernel.base_kernel.raw_weight_variance.grad is not None
    mean, variance = model(data(5, seed=1)[0], noiseless=False)
    assert mean.shape == variance.shape == (5,)
    assert (variance > 0).all()
