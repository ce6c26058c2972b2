import pyro
import pytest
import torch
from bayes.models import conjugate, data

from resnet_gp import ResNetLimitKernel
from resnet_gp.bayes import SparseGP, run_svi
from resnet_gp.bayes.hyperparameters import current_hyperparameters
from resnet_gp.flow.domain import DomainError
from resnet_gp.models import SparseRegression

Y = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)


def test_a_normal_posterior_is_found():
    draws = run_svi(conjugate, Y, num_steps=600, learning_rate=0.05, num_draws=1000, verbose=False)
    mu = draws.values["mu"]
    assert mu.shape == (1, 1000)
    assert float(mu.mean()) == pytest.approx(4.5 / 4, abs=0.15)
    assert float(mu.std()) == pytest.approx(0.5, rel=0.2)
    assert len(draws.losses) == 600


def test_a_guide_of_the_users_and_the_param_store_stays():
    pyro.clear_param_store()
    pyro.param("mine", torch.ones(1))

    def guide(y):
        loc = pyro.param("loc", y.new_zeros(()))
        pyro.sample("mu", pyro.distributions.Normal(loc, 0.5))

    draws = run_svi(conjugate, Y, guide=guide, num_steps=300, num_draws=50, verbose=False)
    assert draws.values["mu"].shape == (1, 50)
    assert float(draws.values["mu"].mean()) == pytest.approx(4.5 / 4, abs=0.35)
    assert set(pyro.get_param_store()) == {"mine"}
    pyro.clear_param_store()


def test_sparse_regression_learns():
    x, y = data(200, 1)
    model = SparseGP(x, y, ResNetLimitKernel(input_bias=True), num_inducing=15, batch_size=64)
    draws = run_svi(model, num_steps=250, learning_rate=0.05, num_draws=40, verbose=False)
    new, truth = data(50, 1, seed=1)
    mixture = model.predict(new, draws)
    assert mixture.means.shape == (40, 50)
    assert float((mixture.mean - truth).square().mean().sqrt()) < 0.4  # the noise is 0.2
    assert float(draws.values["likelihood.noise_covar.noise"].mean()) < 0.3
    with pytest.raises(RuntimeError, match="for classification; use predict"):
        model.predict_proba(new, draws)


def test_with_the_posterior_of_u_the_bound_is_the_collapsed_one():
    """Titsias 2009: the best law of u gives it, here at the hyperparameters of the start."""
    x, y = data(30, 1)
    model = SparseGP(x, y, ResNetLimitKernel(input_bias=True), num_inducing=6, batch_size=30)
    module = model.module
    hyperparameters = current_hyperparameters("", module)
    points = model.inducing_points
    collapsed = SparseRegression(x, y, module["kernel"].base_kernel, points)
    factor = torch.linalg.cholesky(module["kernel"](points).to_dense() + 1e-6 * torch.eye(6))
    cross = module["kernel"](points, x).to_dense()
    white = torch.linalg.solve_triangular(factor, cross, upper=False)
    noise = module["likelihood"].noise
    precision = torch.eye(6).double() + white @ white.mT / noise
    mean = torch.linalg.solve(precision, white @ y / noise).detach()
    law = torch.distributions.MultivariateNormal(mean, precision_matrix=precision.detach())
    values = []
    for _ in range(200):
        u = law.sample()
        fixed = pyro.poutine.condition(model, hyperparameters | {"u": u[:, None]})
        with torch.no_grad():
            trace = pyro.poutine.trace(fixed).get_trace()
            trace.compute_log_prob()
        prior = sum(float(trace.nodes[name]["log_prob_sum"]) for name in hyperparameters)
        values.append(float(trace.log_prob_sum()) - prior - float(law.log_prob(u)))
    found = torch.tensor(values)
    bound = float(collapsed.log_marginal_likelihood().detach())
    assert abs(float(found.mean()) - bound) < 4 * float(found.std()) / 200**0.5 + 1e-3


def test_sparse_classification():
    x, y = data(150, 1)
    labels = (y > 0).long() + (y > 0.7).long()
    model = SparseGP(x, labels, ResNetLimitKernel(input_bias=True), 12, "softmax", batch_size=64)
    draws = run_svi(model, num_steps=200, learning_rate=0.05, num_draws=20, verbose=False)
    found = model.predict_proba(x, draws)
    torch.testing.assert_close(found.sum(1), torch.ones(150).double())
    assert (found.argmax(1) == labels).float().mean() > 0.7
    with pytest.raises(RuntimeError, match="use predict_proba"):
        model.predict(x, draws)


def test_an_interruption_keeps_what_was_learned(monkeypatch):
    calls = iter(range(10**9))

    def stopping(y):
        if next(calls) == 60:
            raise KeyboardInterrupt
        conjugate(y)

    draws = run_svi(stopping, Y, num_steps=500, num_draws=30, verbose=False)
    assert draws.interrupted
    assert 0 < len(draws.losses) < 60


def test_steps_outside_the_domain_are_made_again():
    calls = iter(range(10**9))

    def sometimes(y):
        if next(calls) % 3 == 2:
            raise DomainError("horizon")
        conjugate(y)

    draws = run_svi(sometimes, Y, num_steps=30, num_draws=5, verbose=False)
    assert 10 < len(draws.losses) < 30

    def never(y):
        if next(calls) > 10**4:
            raise DomainError("horizon")
        conjugate(y)

    calls = iter([*range(40), *[10**5] * 10**4])
    with pytest.raises(DomainError, match="horizon"):
        run_svi(never, Y, num_steps=200, num_draws=5, verbose=False)


@pytest.mark.parametrize(
    ("name", "value"), [("num_steps", 0), ("num_draws", -1), ("learning_rate", 0.0)]
)
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        run_svi(conjugate, Y, **{name: value})
    x, y = data(5)
    with pytest.raises(ValueError, match='likelihood must be "gaussian" or "softmax"'):
        SparseGP(x, y, ResNetLimitKernel(), likelihood="student")
