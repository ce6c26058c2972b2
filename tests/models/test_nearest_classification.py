import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from scipy.optimize import approx_fprime

from resnet_gp.fitting.optimiser import get_raw, value_and_gradient
from resnet_gp.kernels import ResNetLimitKernel, ResNetSumKernel, ResNetTangentKernel
from resnet_gp.models.calibration import Link, class_scores, linked
from resnet_gp.models.leave_one_out import leave_one_out
from resnet_gp.models.nearest_classification import NearestClassification
from resnet_gp.models.neighbourhoods import Rows, predicted_means

OURS = {"input_bias": True, "variance": "no_growth", "ard_num_dims": 2}
KERNELS = {
    "limit": lambda: ResNetLimitKernel(contrast=True, **OURS),
    "tangent": lambda: ResNetTangentKernel(**OURS),
    "sum": lambda: ResNetSumKernel(contrast=True, **OURS),
    "rbf": lambda: RBFKernel(ard_num_dims=2),  # without compiled loops
}


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]().double()


def problem(n=30, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    labels = torch.arange(n) % classes
    targets = 2 * torch.nn.functional.one_hot(labels).double() - 1
    targets = targets[:, 1:] if classes == 2 else targets
    return x, labels, targets, targets.mean(0)


def model_of(kernel, classes=3):
    x, labels, targets, offset = problem(classes=classes)
    model = NearestClassification(x, targets - offset, offset, kernel, 5)
    model.likelihood.noise = 0.3
    return model, labels


@pytest.mark.parametrize("classes", [2, 3])
def test_given_all_others_it_is_the_closed_form_of_exact_regression(kernel, classes):
    model, labels = model_of(kernel, classes)  # of fewer rows than 32
    with torch.no_grad():
        covariance = model.covar_module(model.train_x).to_dense()
        means = leave_one_out(covariance, model.train_y, 0.3).mean + model.offset
        logits = linked(class_scores(means), *model.link)
        likelihood = torch.log_softmax(logits, 1)[torch.arange(30), labels].sum()
        torch.testing.assert_close(model.log_marginal_likelihood(), likelihood)


@pytest.mark.parametrize("classes", [2, 3])
def test_its_gradient_is_that_of_differences(kernel, classes, monkeypatch):
    monkeypatch.setattr(NearestClassification, "training_neighbors", 6)
    model, _ = model_of(kernel, classes)
    model.look_up()
    objective, at = model.log_marginal_likelihood, get_raw(model)
    _, gradient = value_and_gradient(objective, model, at)
    assert len(gradient) == len(at)
    differences = approx_fprime(at, lambda raw: value_and_gradient(objective, model, raw)[0], 1e-6)
    np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-4)
    assert not model.covar_module.raw_outputscale.requires_grad


def test_means_do_not_depend_on_a_common_scale(kernel):
    x, _, targets, _ = problem()
    members = torch.from_numpy(
        np.random.default_rng(0).permuted([np.arange(30)] * 8, axis=1)[:, :7]
    )
    means = []
    for scale in (1.0, 5.0):
        rows = Rows(x, targets, torch.full_like(x[:, 0], 0.2 * scale))
        means.append(predicted_means(scaled(kernel, scale), rows, members))
    torch.testing.assert_close(means[0], means[1])
    assert means[0].shape == (8, 3)


def scaled(kernel, outputscale):
    whole = ScaleKernel(kernel).double()
    whole.outputscale = outputscale
    return whole


def test_a_covariance_without_a_factor_is_an_error(kernel):
    x, _, targets, _ = problem()
    rows = Rows(x * torch.nan, targets, torch.ones_like(x[:, 0]))
    with pytest.raises(torch.linalg.LinAlgError, match="cannot be factorised"):
        predicted_means(scaled(kernel, 1.0), rows, torch.arange(30).reshape(5, 6))


def test_the_link_keeps_its_bounds(kernel):
    model, _ = model_of(kernel)
    model.link = Link(2.0, 0.3)
    assert [value.item() for value in model.link] == pytest.approx([2.0, 0.3])
    with torch.no_grad():
        model.raw_sharpness.fill_(50.0)
        model.raw_floor.fill_(-50.0)
    assert [value.item() for value in model.link] == pytest.approx([np.exp(8), np.exp(-8)])
