import numpy as np
import pyro
import pytest
import torch
from bayes.models import data, spread_around

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import Draws, SparseGPClassification, SparseGPRegression, run_svi
from resnet_gp.bayes.hyperparameters import current_hyperparameters
from resnet_gp.models import SparseRegression


def sparse_regression(n, num_inducing, batch_size):
    x, y = data(n, 3)
    kernel = ResNetLimitKernel(input_bias=True)
    model = SparseGPRegression(x, y, kernel, num_inducing, batch_size)
    module = model.module
    collapsed = SparseRegression(x, y, module["kernel"].base_kernel, model.inducing_points)
    return model, collapsed


def posterior_of_u(model):
    """The normal law of u that gives the collapsed bound, at the current hyperparameters."""
    kernel, points = model.module["kernel"], model.inducing_points
    identity = torch.eye(len(points)).double()
    factor = torch.linalg.cholesky(kernel(points).to_dense() + 1e-6 * identity)
    white = torch.linalg.solve_triangular(
        factor, kernel(points, model.train_x).to_dense(), upper=False
    )
    noise = model.module["likelihood"].noise
    precision = (identity + white @ white.mT / noise).detach()
    mean = torch.linalg.solve(precision, (white @ model.train_y / noise).detach())
    return torch.distributions.MultivariateNormal(mean, precision_matrix=precision)


def test_with_the_posterior_of_u_the_bound_is_the_collapsed_one():
    """Titsias 2009: the best law of u gives it, here at the hyperparameters of the start."""
    model, collapsed = sparse_regression(30, 6, batch_size=10)
    hyperparameters = current_hyperparameters("", model.module)
    law, values = posterior_of_u(model), []
    for _ in range(400):
        u = law.sample()
        fixed = pyro.poutine.condition(model, hyperparameters | {"u": u[:, None]})
        with torch.no_grad():
            trace = pyro.poutine.trace(fixed).get_trace()
            trace.compute_log_prob()
        prior = sum(float(trace.nodes[name]["log_prob_sum"]) for name in hyperparameters)
        values.append(float(trace.log_prob_sum()) - prior - float(law.log_prob(u)))
    found = torch.tensor(values)
    bound = float(collapsed.log_marginal_likelihood().detach())
    assert abs(float(found.mean()) - bound) < 4 * float(found.std()) / 400**0.5 + 1e-3


def test_predictions_average_over_u():
    """Over the posterior of u they are those of the collapsed model."""
    model, collapsed = sparse_regression(30, 6, batch_size=30)
    u = posterior_of_u(model).sample((1, 200))[..., None]
    hyperparameters = current_hyperparameters("", model.module)
    values = {name: v.expand(1, 200, *v.shape) for name, v in hyperparameters.items()}
    draws = Draws(values | {"u": u}, torch.zeros(1, 200, dtype=torch.bool))
    new = data(5, 3, seed=1)[0]
    mean, variance = collapsed.posterior().mean_and_variance(new)
    f = model.predict(new, draws, at_most=None, observation_noise=False)
    assert f.means.shape == (200, 5)
    mean, variance = mean.detach().numpy(), variance.detach().numpy()
    assert (np.abs(f.mean - mean) < 4 * f.means.std(0, ddof=1) / 200**0.5 + 1e-4).all()
    spread = f.means.var(0, ddof=1)
    assert (np.abs(f.variance - variance) < 4 * spread * (2 / 200) ** 0.5 + 1e-4).all()
    y = model.predict(new, draws, at_most=None)
    noise = model.module["likelihood"].noise.item()
    np.testing.assert_allclose(y.variance, f.variance + noise)


def test_sparse_regression_learns():
    """With fixed hyperparameters the normal guide can reach the collapsed bound, and does."""
    model, collapsed = sparse_regression(60, 5, batch_size=60)
    model.module.requires_grad_(False)
    for owner in model.module.modules():
        getattr(owner, "_priors", {}).clear()
    draws = run_svi(model, num_steps=600, learning_rate=0.05, num_draws=40, verbose=False)
    assert set(draws.values) == {"u"}
    spread_around(float(collapsed.log_marginal_likelihood().detach()), draws.losses)


def test_sparse_classification():
    """Its probabilities beat the shares of the classes, by the likelihood of each label."""
    x, y = data(150, 1)
    labels = (y > 0).long() + (y > 0.7).long()
    model = SparseGPClassification(x, labels, ResNetLimitKernel(input_bias=True), 12, 64)
    draws = run_svi(model, num_steps=200, learning_rate=0.05, num_draws=20, verbose=False)
    found = model.predict_proba(x, draws)
    torch.testing.assert_close(found.sum(1), torch.ones(150).double())
    shares = labels.bincount() / 150
    gain = found[torch.arange(150), labels].log() - shares[labels].log()
    assert gain.mean() > 4 * gain.std() / 150**0.5


def test_shapes_of_sparse_models_are_checked():
    x, y = data(5)
    with pytest.raises(ValueError, match="train_x must be n x d and train_y"):
        SparseGPRegression(x, y[1:], ResNetLimitKernel())
    with pytest.raises(ValueError, match="a model to each output"):
        SparseGPRegression(x, y[:, None], ResNetLimitKernel())
    with pytest.raises(ValueError, match="x must be k x "):
        SparseGPRegression(x, y, ResNetLimitKernel()).predict(x[0], Draws({}, y[None]))
    with pytest.raises(ValueError, match="labels must be integers from 0 to 1"):
        SparseGPClassification(x, torch.arange(5), ResNetLimitKernel(), num_classes=2)
