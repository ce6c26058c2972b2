import math

import pyro
import pytest
import torch
from bayes.models import data
from gpytorch.kernels import RBFKernel
from scipy import integrate, stats

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import Draws, GPClassification, run_nuts
from resnet_gp.bayes.chain import Potential
from resnet_gp.bayes.gp_classification import mean_probabilities


def kernel():
    return ResNetLimitKernel(input_bias=True)


def one_draw(model, seed=0):
    pyro.set_rng_seed(seed)
    trace = pyro.poutine.trace(model).get_trace()
    names = [n for n, s in trace.nodes.items() if s["type"] == "sample" and not s["is_observed"]]
    values = {name: trace.nodes[name]["value"][None, None].detach() for name in names}
    return Draws(values, torch.zeros(1, 1, dtype=torch.bool))


def test_nuts_separates_two_classes():
    x, y = data(16)
    model = GPClassification(x, (y > 0).long(), kernel())
    with pytest.warns(UserWarning, match="worth|disagree"):
        draws = run_nuts(
            model, num_chains=2, num_draws=15, num_warmup=25, max_tree_depth=3, verbose=False
        )
    assert draws.values["z"].shape == (2, 15, 16, 1)
    found = model.predict_proba(x, draws)
    torch.testing.assert_close(found.sum(1), torch.ones(16).double())
    assert ((found[:, 1] > 0.5) == (y > 0)).float().mean() > 0.8


def test_latent_values_are_those_of_the_process_given_z():
    x, _ = data(6)
    model = GPClassification(x, torch.tensor([0, 1, 2, 0, 1, 2]), kernel())
    draws = one_draw(model)
    values = {name: value[0, 0] for name, value in draws.values.items()}
    mean, variance = model._latent(x, values)  # at the training inputs: L z, and no variance
    covariance = model.module(x).to_dense()
    assert mean.shape == (6, 3)
    assert (variance < 1e-4 * covariance.diagonal()).all()
    new = torch.cat([x, data(3, seed=2)[0]])
    assert (model._latent(new, values)[1][6:] > 1e-3).all()
    probabilities = model.predict_proba(new, draws)
    assert probabilities.shape == (9, 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_inputs_of_single_precision(classes):
    x, _ = data(6)
    model = GPClassification(x.float(), torch.arange(6) % classes, kernel())
    value, gradient = Potential(model, ()).value_and_gradient(Potential(model, ()).start)
    assert math.isfinite(value)
    assert {one.dtype for one in gradient.values()} == {torch.float32}
    assert model.predict_proba(x.float(), one_draw(model)).dtype == torch.float32


def test_probabilities_average_over_the_latent_law():
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.tensor([[0.7]]).double(), torch.tensor([2.0]).double()
    found = mean_probabilities(mean, variance, 100_000, generator)[0, 1]
    law = stats.norm(0.7, 2**0.5)
    exact = integrate.quad(lambda f: law.pdf(f) / (1 + 2.718281828459045**-f), -20, 20)[0]
    assert float(found) == pytest.approx(exact, abs=4 * 0.3 / 100_000**0.5)


def test_bad_labels_are_named():
    x, _ = data(4)
    with pytest.raises(ValueError, match=r"shapes \(4, 2\) and \(3,\)"):
        GPClassification(x, torch.zeros(3, dtype=torch.long), kernel())
    with pytest.raises(ValueError, match="integers from 0 to 1"):
        GPClassification(x, torch.tensor([0, 1, 2, 0]), kernel(), num_classes=2)
    with pytest.raises(ValueError, match="integers"):
        GPClassification(x, torch.zeros(4), kernel())


def test_bad_arguments_are_named():
    x, labels = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    for wrong, message in ((2.5, "num_classes must be an integer"), (1, "of at least 2, got 1")):
        with pytest.raises(ValueError, match=message):
            GPClassification(x, labels, RBFKernel(), num_classes=wrong)
    for wrong in (x.long(), x * torch.nan):
        with pytest.raises(ValueError, match="train_x must hold finite floating-point numbers"):
            GPClassification(wrong, labels, RBFKernel())
    with pytest.raises(ValueError, match=r"x must be k x 2, got shape \(6, 1\)"):
        GPClassification(x, labels, RBFKernel()).predict_proba(x[:, :1], Draws({}, labels[None]))
    with pytest.raises(ValueError, match="labels must not be empty"):
        GPClassification(x[:0], labels[:0], RBFKernel())
