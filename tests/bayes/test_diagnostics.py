import sys
import types

import numpy as np
import pytest
import torch
from bayes.models import few_draws, regression

from resnet_gp.bayes import Draws, compare, problems, summary, to_arviz
from resnet_gp.bayes.diagnostics import effective_draws, r_hat

arviz = pytest.importorskip("arviz")


def draws(chains=4, length=400, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(chains, length, 2, generator=generator, dtype=torch.float64)
    white[0] += shift
    return Draws({"a": white, "b": white[..., 0]}, torch.zeros(chains, length, dtype=torch.bool))


def test_conversion_keeps_values_and_divergences():
    made = draws()
    made.diverging[1, 3] = True
    data = to_arviz(made, torch.zeros(4, 400, 7))
    np.testing.assert_array_equal(data.posterior["a"].values, made.values["a"])
    assert int(data.sample_stats["diverging"].sum()) == 1
    assert data.log_likelihood["y"].shape == (4, 400, 7)


def test_conversion_speaks_to_arviz_1(monkeypatch):
    """Version 1 takes one dictionary of groups."""
    new = types.SimpleNamespace(__version__="1.2.0", from_dict=lambda groups, **_: groups)
    monkeypatch.setitem(sys.modules, "arviz", new)
    assert set(to_arviz(draws(), torch.zeros(4, 400, 7))) == {
        "posterior", "sample_stats", "log_likelihood"
    }  # fmt: skip


def test_without_arviz_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"resnet-gp\[bayes\]"):
        to_arviz(draws())


def test_statistics_agree_with_those_of_arviz():
    made = draws(shift=0.3)
    table = summary(made)
    assert r_hat(made)["b"] == pytest.approx(table.loc["b", "r_hat"], abs=0.02)
    assert effective_draws(draws())["b"] == pytest.approx(1600, rel=0.3)


def test_a_healthy_run_has_no_problems():
    assert problems(draws()) == []


def test_every_problem_is_named_with_what_to_do():
    made = draws(shift=1.0)
    made.diverging[0, :3] = True
    ill = Draws(made.values, made.diverging, {4: "gone"}, interrupted=True)
    text = "; ".join(problems(ill))
    for part in (
        "1 of 5 chains failed and were left out (chain 4: gone)", "interrupted",
        "3 trajectories diverged: raise target_acceptance", "chains disagree (r-hat",
    ):  # fmt: skip
        assert part in text


def walk(**others):
    """Four chains that are worth few draws, beside other sites."""
    steps = draws().values["b"].cumsum(1)
    return Draws({"walk": steps} | others, torch.zeros(4, 400, dtype=torch.bool))


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_constant_site_hides_no_problem(name):
    plain = problems(walk())
    assert "chains disagree" in plain[0]
    assert "the draws of walk are worth" in plain[1]
    constant = torch.full((4, 400, 3), 0.1, dtype=torch.float64)
    with_constant = walk(**{name: constant})
    assert problems(with_constant) == plain
    assert set(effective_draws(with_constant)) == set(r_hat(with_constant)) == {"walk"}
    partly = torch.cat([constant, walk().values["walk"][..., None]], -1)
    assert effective_draws(Draws({"a": partly}, walk().diverging)) == {
        "a": effective_draws(walk())["walk"]
    }


def test_draws_that_are_not_finite_are_a_problem():
    healthy = draws()
    healthy.values["c"] = torch.full((4, 400), torch.nan, dtype=torch.float64)
    [found] = problems(healthy)
    assert "draws of c are not finite" in found


def test_a_run_that_cannot_be_judged_says_so():
    [few] = problems(draws(length=3))
    assert "cannot be judged" in few
    one_chain = Draws({"a": torch.ones(1, 400)}, torch.zeros(1, 400, dtype=torch.bool))
    assert "no site varies" in problems(one_chain)[0]
    stuck = torch.arange(4.0)[:, None].expand(4, 400)
    assert "chains disagree (r-hat inf" in problems(Draws({"a": stuck}, walk().diverging))[0]


@pytest.mark.filterwarnings(
    "ignore:Estimated shape parameter",  # draws from the prior
    "ignore:The inplace keyword",  # ArviZ 0.23 with pandas 3.1
)
def test_psis_loo_prefers_the_model_that_predicts():
    model = regression()
    made = few_draws(model, 50)
    good = model.loo_log_likelihood(made)
    table = compare({"good": (made, good), "worse": (made, good - 1.0)})
    assert list(table.index) == ["good", "worse"]
    with pytest.raises(ValueError, match="at least two"):
        compare({"good": (made, good)})
    with pytest.raises(ValueError, match="same rows"):
        compare({"good": (made, good), "other": (made, good[..., 1:])})


def test_a_chain_that_never_moves_is_a_problem():
    values = torch.randn(4, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    healthy = Draws({"a": values}, torch.zeros(4, 500, dtype=torch.bool))
    assert problems(healthy) == []
    values[2] = values[2, 0]
    stuck = problems(Draws({"a": values, "b": torch.ones(4, 500)}, healthy.diverging))
    assert any("1 of 4 chains never moved" in one for one in stuck)


def test_draws_are_worth_no_fewer_than_none():
    alternating = torch.tensor([0.0, 1.0, 1.1, 0.1]).double().repeat(4, 1)
    made = Draws({"a": alternating}, torch.zeros(4, 4, dtype=torch.bool))
    assert effective_draws(made)["a"] >= 0


def test_tensors_hold_what_problems_need():
    made = draws(shift=1.0)
    ill = Draws(made.values, made.diverging, {4: "gone: \u00e9"}, interrupted=True)
    again = Draws.from_tensors(
        {name: value.to(torch.float64) for name, value in ill.tensors().items()}
    )
    assert problems(again) == problems(ill)
