import pyro.contrib.gp as gp
import pytest
import torch
from bayes.models import data
from gpytorch.kernels import ScaleKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import ContribKernel
from resnet_gp.models import ExactRegression, SparseRegression


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
def test_models_of_pyro_learn_and_predict_with_it(kernel, sparse):
    """After some steps Pyro's posterior is ours at the hyperparameters that it has reached."""
    x, y = data(30)
    noise, new = torch.tensor(0.1, dtype=torch.float64), data(5, seed=1)[0]
    options = {"noise": noise, "jitter": 1e-9}
    if sparse:
        model = gp.models.SparseGPRegression(
            x, y, kernel, Xu=x[:10].clone(), approx="VFE", **options
        )
    else:
        model = gp.models.GPRegression(x, y, kernel, **options)
    before = kernel(x).detach()
    losses = gp.util.train(model, torch.optim.Adam(model.parameters(), lr=0.05), num_steps=40)
    assert losses[-1] < losses[0]
    assert not torch.allclose(kernel(x), before, rtol=0.1)
    with torch.no_grad():
        mean, variance = model(new, noiseless=False)
    base = kernel.kernel.base_kernel
    ours = SparseRegression(x, y, base, model.Xu) if sparse else ExactRegression(x, y, base)
    ours.covar_module.outputscale = kernel.kernel.outputscale.detach()
    ours.likelihood.noise = model.noise.detach()
    expected = ours.posterior().mean_and_variance(new)
    torch.testing.assert_close(mean, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance - model.noise, expected[1], rtol=1e-4, atol=1e-6)
    bound = ours.log_marginal_likelihood().item()
    assert -model_loss(model) == pytest.approx(bound, rel=1e-5)


def model_loss(model):
    """Pyro's loss at the current hyperparameters."""
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    return gp.util.train(model, still, num_steps=1)[0]
