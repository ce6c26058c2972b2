"""Other inputs are taken where left-out rows are predicted better from them, beyond chance."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from resnet_gp.fitting import input_choice
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.input_choice import helpful_directions, is_better, ranks_help
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import find_modes_of
from resnet_gp.fitting.nearest import Here
from resnet_gp.fitting.ranks import RankingStandardiser
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.progress import progress_bar


def search():
    spec = KernelSpec("limit", "relu", None, False)
    return Search(spec, np.random.RandomState(0), progress_bar("", False))


def versions(y_of, n=70):
    """Training rows with a long-tailed feature, without and with its ranks."""
    rng = np.random.default_rng(0)
    x = rng.lognormal(sigma=2.0, size=(n, 1))
    y = y_of(x[:, 0]) + 0.05 * rng.normal(size=n)
    plain = Standardiser.of(x)
    ranked = RankingStandardiser.add_to(plain, x, [0])
    target = Standardiser.of(y)(y)
    return [Training(scaler(x), target) for scaler in (plain, ranked)]


def test_a_function_of_the_logarithm_needs_ranks():
    assert ranks_help(*versions(lambda x: np.sin(1.5 * np.log(x))), search())


@pytest.mark.parametrize("scores", [(2.0, 1.0), (1.0, 2.0)])
def test_many_rows_have_the_last_word_on_ranks(monkeypatch, scores):
    left, result = list(scores), SimpleNamespace(interrupted=False)
    monkeypatch.setattr(input_choice, "_MANY_ROWS", 60)
    monkeypatch.setattr(
        input_choice.Nearest,
        "learn_from",
        lambda *arguments: SimpleNamespace(score=left.pop(0), result=result),
    )
    plain, ranked = versions(lambda x: np.sin(1.5 * np.log(x)))
    assert ranks_help(plain, ranked, search()) is (scores[1] < scores[0])
    assert not left


def test_a_straight_line_does_not():
    assert not ranks_help(*versions(lambda x: x), search())


@pytest.mark.parametrize(("gain", "expected"), [(0.15, False), (0.3, True), (-0.3, False)])
def test_chance_is_two_standard_errors(gain, expected):
    """Differences of mean ``gain`` and deviation 1 over 100 rows: the standard error is .1."""
    z = np.random.default_rng(1).normal(size=100)
    z = (z - z.mean()) / z.std(ddof=1)
    assert is_better(z + gain, np.zeros(100)) is expected


def test_one_row_proves_nothing():
    assert not is_better(np.ones(1), np.zeros(1))


def ridges(n, d=4, outputs=1, seed=0):
    """A function of two oblique directions, in ``d`` inputs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    u, v = x[:, 0] + x[:, 1] - x[:, 2], x[:, 0] - x[:, 1]
    y = np.sin(2 * u) + 0.3 * v + 0.05 * rng.normal(size=n)
    y = np.stack([y, np.cos(2 * u)], axis=1)[:, :outputs] if outputs > 1 else y
    return Training(Standardiser.of(x)(x), Standardiser.of(y)(y))


@pytest.fixture
def few_rows(monkeypatch):
    """Directions are tried from 50 rows on."""
    monkeypatch.setattr(input_choice, "_TURNED_ABOVE", 49)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.usefixtures("few_rows")
def test_directions_of_ridges_are_found(outputs):
    directions = helpful_directions(Here(ridges(160, outputs=outputs)), search())
    first = directions[:, 0] / np.linalg.norm(directions[:, 0])
    assert abs(first @ [1, 1, -1, 0]) / 3**0.5 > 0.98


@pytest.mark.usefixtures("few_rows")
def test_directions_of_a_sum_over_features_do_not_help():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 3))
    y = np.sin(2 * x[:, 0]) + np.cos(x[:, 1]) + 0.1 * rng.normal(size=120)
    training = Training(Standardiser.of(x)(x), Standardiser.of(y)(y))
    assert helpful_directions(Here(training), search()) is None
    assert helpful_directions(Here(training), search(), True).shape == (3, 3)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("scores", [(2.0, 1.0), (1.0, 2.0)])
def test_many_rows_decide_among_fits_to_all(monkeypatch, scores):
    seen, left = [], list(scores)

    def learn(self, source, search):
        seen.append(len(source))
        result = SimpleNamespace(interrupted=False)
        return SimpleNamespace(score=left.pop(0), result=result)

    monkeypatch.setattr(input_choice, "_DIRECTED_ROWS", 60)
    monkeypatch.setattr(input_choice, "_MANY_ROWS", 120)
    monkeypatch.setattr(input_choice.Nearest, "learn_from", learn)
    found = helpful_directions(Here(ridges(150)), search())
    assert seen == [150, 150]
    assert (found is not None) is (scores[1] < scores[0])


@pytest.mark.usefixtures("few_rows")
def test_fits_to_many_rows_find_ridges(monkeypatch):
    monkeypatch.setattr(input_choice, "_DIRECTED_ROWS", 80)
    monkeypatch.setattr(input_choice, "_MANY_ROWS", 160)
    source = Here(ridges(200))
    directions = helpful_directions(source, search())
    assert directions is not None
    turned = source.turned(directions).sample(200)
    np.testing.assert_allclose(turned.x, source.sample(200).x @ torch.from_numpy(directions))


def test_constant_targets_have_no_directions():
    rows = Training(torch.randn(20, 2).double(), torch.zeros(20).double())
    assert helpful_directions(Here(rows), search(), True) is None


@pytest.mark.usefixtures("few_rows")
def test_rows_that_test_directions_did_not_learn_them(monkeypatch):
    seen = []

    def find(searches):
        seen.extend(rows.y for _, rows in searches)
        return find_modes_of(searches)

    monkeypatch.setattr(input_choice, "find_modes_of", find)
    monkeypatch.setattr(input_choice, "_crps_of_rows", lambda law, y: seen.append(y) or np.zeros(9))
    helpful_directions(Here(ridges(60)), search())
    learning, tested = set(seen[0].tolist()), set(seen[1].tolist())
    assert (len(learning), len(tested)) == (45, 15)
    assert learning.isdisjoint(tested)


def test_ctrl_c_ends_the_choice(monkeypatch):
    mode = SimpleNamespace(result=SimpleNamespace(interrupted=True))
    monkeypatch.setattr(input_choice, "find_modes_of", lambda searches: [mode, mode])
    rows = Training(torch.zeros(10, 1), torch.zeros(10))
    with pytest.raises(KeyboardInterrupt):
        ranks_help(rows, rows, search())
    with pytest.raises(KeyboardInterrupt):
        helpful_directions(Here(replace(rows, x=torch.zeros(10, 2))), search(), True)


def test_inputs_without_a_covariance_help_nothing(monkeypatch):
    """Some inputs may have none that can be factorised: that is no Ctrl-C."""

    def one_fails(searches):
        return find_modes_of(searches[:1])

    rows = ridges(60)
    monkeypatch.setattr(input_choice, "find_modes_of", one_fails)
    assert not ranks_help(rows, replace(rows, x=rows.x.repeat(1, 2)), search())
