import numpy as np
import pyro
import pytest
import torch
from bayes.models import conjugate, spread_around
from scipy import stats

from resnet_gp.bayes import run_svi
from resnet_gp.flow.domain import DomainError

Y = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)


MEAN, DEVIATION = 4.5 / 4, 0.5  # of the posterior of ``conjugate``
LOG_EVIDENCE = stats.multivariate_normal(cov=np.eye(3) + 1).logpdf(Y)


def assert_posterior(draws):
    """If the mean is missed by a deviations and the deviation by a share b, s^2 = a^2 + 2 b^2."""
    mu, spread = draws.values["mu"], spread_around(LOG_EVIDENCE, draws.losses)
    assert abs(float(mu.mean()) - MEAN) < (4 / mu.numel() ** 0.5 + spread) * DEVIATION
    ratio = float(mu.std()) / DEVIATION
    assert abs(ratio - 1) < 4 / (2 * mu.numel()) ** 0.5 + spread / 2**0.5


def test_a_normal_posterior_is_found():
    draws = run_svi(conjugate, Y, num_steps=600, learning_rate=0.05, num_draws=1000, verbose=False)
    assert draws.values["mu"].shape == (1, 1000)
    assert len(draws.losses) == 600
    assert_posterior(draws)


def test_a_guide_of_the_users_and_the_param_store_stays():
    pyro.clear_param_store()
    pyro.param("mine", torch.ones(1))

    def guide(y):
        loc = pyro.param("loc", y.new_zeros(()))
        pyro.sample("mu", pyro.distributions.Normal(loc, DEVIATION))

    draws = run_svi(
        conjugate, Y, guide=guide, num_steps=400, learning_rate=0.05, num_draws=400, verbose=False
    )
    assert set(draws.values) == {"mu"}
    assert draws.values["mu"].shape == (1, 400)
    assert_posterior(draws)
    assert set(pyro.get_param_store()) == {"mine"}
    pyro.clear_param_store()


def test_subsampled_rows_of_a_guide_are_no_site():
    def rows(y):
        mu = pyro.sample("mu", pyro.distributions.Normal(y.new_zeros(()), 1.0))
        return mu, pyro.plate("rows", len(y), subsample_size=2)

    def model(y):
        mu, plate = rows(y)
        with plate as chosen:
            pyro.sample("y", pyro.distributions.Normal(mu, 1.0), obs=y[chosen])

    def guide(y):
        with rows(y)[1]:
            pass

    draws = run_svi(model, Y, guide=guide, num_steps=2, num_draws=3, verbose=False)
    assert set(draws.values) == {"mu"}


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


def test_twenty_failures_in_a_row_end_it(monkeypatch):
    steps = []

    def failing(_, *__):
        steps.append(1)
        raise DomainError("not here")

    monkeypatch.setattr("resnet_gp.bayes.svi.SVI.step", failing)
    with pytest.raises(DomainError, match="not here"):
        run_svi(conjugate, Y, num_steps=100, verbose=False)
    assert len(steps) == 20
