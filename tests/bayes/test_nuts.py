import math
import os
import signal

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from bayes.models import conjugate, failing_at, regression
from scipy.stats import kstest

from resnet_gp.bayes import run_nuts
from resnet_gp.bayes.chain import Iteration, Potential
from resnet_gp.bayes.diagnostics import effective_draws, problems
from resnet_gp.flow.domain import IMPOSSIBLE

# Sixty draws are few, and runs warn of it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:the draws of .* are worth", "ignore:chains disagree"
)

SEEDS = [int(seed) for seed in np.random.SeedSequence(0).generate_state(2)]
Y = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)
QUICK = {"num_chains": 2, "num_draws": 60, "num_warmup": 60, "verbose": False}


def test_draws_follow_the_posterior():
    draws = run_nuts(conjugate, Y, num_chains=2, num_draws=400, num_warmup=100, verbose=False)
    assert draws.values["mu"].shape == (2, 400)
    assert draws.values["mu"].dtype == torch.float64
    worth = effective_draws(draws)["mu"]
    thinned = draws.values["mu"].flatten()[:: max(1, math.ceil(800 / worth))]
    assert kstest((thinned.numpy() - 4.5 / 4) / 0.5, "norm").pvalue > 1e-3
    assert not problems(draws)


def test_the_seed_decides_and_the_global_generator_stays():
    before = torch.random.get_rng_state()
    one, two = (run_nuts(conjugate, Y, seed=3, **QUICK).values["mu"] for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(one, run_nuts(conjugate, Y, seed=4, **QUICK).values["mu"])
    assert not torch.equal(one[0], one[1])


def test_processes_draw_the_same():
    here = run_nuts(conjugate, Y, **QUICK)
    there = run_nuts(conjugate, Y, n_jobs=2, **QUICK)
    torch.testing.assert_close(here.values["mu"], there.values["mu"], rtol=0, atol=0)


def test_the_mode_of_a_gaussian_process_is_found():
    potential = Potential(regression(), ())
    mode = potential.mode()
    _, gradient = potential.value_and_gradient(mode)
    assert max(value.abs().max() for value in gradient.values()) < 1e-2
    assert all(value.dtype == torch.float64 for value in mode.values())
    centre = {name: potential.transforms[name].inv(v) for name, v in mode.items()}
    back = potential.unconstrained(centre)
    assert all(torch.allclose(back[name], mode[name]) for name in mode)


def test_starts_of_the_wrong_shape_or_outside_the_support_are_refused():
    potential = Potential(regression(), ())
    with pytest.raises(ValueError, match=r"outputscale must be of shape \(\)"):
        potential.unconstrained({"covar_module.outputscale": torch.ones(2)})
    with pytest.raises(ValueError, match="within its support"):
        potential.unconstrained({"covar_module.outputscale": torch.tensor(-1.0)})
    with pytest.raises(
        ValueError, match=r"start has a value of outputscale; the sites are .*noise"
    ):
        potential.unconstrained({"outputscale": torch.ones(())})
    with pytest.raises(ValueError, match='start must be "map", "prior" or values'):
        run_nuts(conjugate, Y, start="mode", **QUICK)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_chains", 0), ("num_draws", 1.5), ("num_warmup", -1), ("n_jobs", 0),
     ("target_acceptance", 1.0), ("target_acceptance", "a"), ("seed", -1)],
)  # fmt: skip
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        run_nuts(conjugate, Y, **(QUICK | {name: value}))


def test_a_chain_that_fails_keeps_the_others():
    with pytest.warns(UserWarning, match=r"1 of 2 chains failed and were left out.*no more"):
        draws = run_nuts(failing_at(400), Y, **QUICK)
    assert draws.num_chains == 1
    assert len(draws.failures) == 1
    assert draws.num_draws == 60


def test_a_process_that_is_killed_keeps_the_others():
    with pytest.warns(UserWarning, match="1 of 2 chains failed.*exit code -9"):
        draws = run_nuts(kill_one_of(os.getpid()), Y, n_jobs=2, **QUICK)
    assert draws.num_chains == 1


def kill_one_of(parent):
    """A model that kills its process in the first of two chains."""
    calls = iter(range(10**9))

    def model(y):
        if os.getpid() != parent and next(calls) > 100 and torch.initial_seed() == SEEDS[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        conjugate(y)

    return model


def test_no_chain_left_is_an_error():
    def never(y):
        raise ArithmeticError("no density")

    with pytest.raises(ArithmeticError, match="no density"):
        run_nuts(never, Y, **QUICK)


@pytest.mark.filterwarnings("ignore:.* trajectories diverged")
@pytest.mark.parametrize("error", IMPOSSIBLE)
def test_impossible_points_have_no_probability(error):
    """The posterior of ``conjugate`` has its mean at 1.125, on the other side of this wall."""

    def walled(y):
        mu = pyro.sample("mu", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
        if mu > 1:
            raise error("not here")
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    draws = run_nuts(walled, Y, **QUICK, start="prior").values["mu"]
    assert 0.5 < draws.max() <= 1


def test_an_interruption_keeps_the_draws_so_far(monkeypatch):
    from resnet_gp.bayes import nuts

    add, left = nuts._Record.add, [150]

    def counted(record, chain, event):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        add(record, chain, event)

    monkeypatch.setattr(nuts._Record, "add", counted)
    with pytest.warns(UserWarning, match="interrupted: 1 chains of 60 draws"):
        draws = run_nuts(conjugate, Y, **QUICK)
    assert draws.interrupted
    left[0] = 10
    with pytest.raises(KeyboardInterrupt):  # in the warm-up
        run_nuts(conjugate, Y, **QUICK)


def test_ctrl_c_after_a_failed_chain_is_no_failure_of_all(monkeypatch):
    from resnet_gp.bayes import nuts

    record = nuts._Record(2)
    record.add(0, Iteration({"a": torch.tensor(0.0)}))
    record.add(0, "gone")
    assert not record.whole()

    def interrupted(number, work, tell):
        if number == 1:
            raise KeyboardInterrupt
        tell(0, Iteration({"a": torch.tensor(0.0)}))
        tell(0, "gone")

    monkeypatch.setattr(nuts, "_run_here", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_nuts(conjugate, Y, **QUICK)


def test_chains_of_unequal_length_are_cut_where_most_draws_remain():
    from resnet_gp.bayes.nuts import _Record

    record = _Record(3)
    for chain, length in enumerate((10, 8, 3)):
        for i in range(length):
            record.add(chain, Iteration({"a": torch.tensor(float(i))}))
    draws = record.draws(1.0)
    assert (draws.num_chains, draws.num_draws) == (2, 8)


def test_a_start_without_density_is_refused():
    def walled():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.factor("wall", torch.where(mu < 5, 0.0, -torch.inf))

    with pytest.raises(ValueError, match="no finite density at its start"):
        run_nuts(walled, start={"mu": torch.tensor(9.0)}, **QUICK)
    with pytest.raises(ValueError, match=r"within its support, got -1\.0"):
        run_nuts(positive, start={"scale": torch.tensor(-1.0)}, **QUICK)


def positive():
    pyro.sample("scale", dist.Gamma(2.0, 2.0))
