"""Ranks become inputs where left-out rows are predicted better with them, beyond chance."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from resnet_gp.fitting import input_choice
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.input_choice import ranks_help
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.ranks import RankingStandardiser
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.progress import progress_bar


def search():
    return Search(
        KernelSpec("limit", "relu", None, False), True, False, None, None, 0, None,
        np.random.RandomState(0), progress_bar("", False),
    )  # fmt: skip


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


def test_a_straight_line_does_not():
    assert not ranks_help(*versions(lambda x: x), search())


@pytest.mark.parametrize(("gain", "expected"), [(0.15, False), (0.3, True)])
def test_chance_is_two_standard_errors(monkeypatch, gain, expected):
    """Differences of mean ``gain`` and deviation 1 over 100 rows: the standard error is .1."""
    z = np.random.default_rng(1).normal(size=100)
    z = (z - z.mean()) / z.std(ddof=1)
    scores = iter([z + gain, np.zeros(100)])
    mode = SimpleNamespace(result=SimpleNamespace(interrupted=False))
    monkeypatch.setattr(input_choice, "find_modes_of", lambda searches: [mode, mode])
    monkeypatch.setattr(input_choice, "_left_out_scores", lambda mode: next(scores))
    rows = Training(torch.zeros(100, 1), torch.zeros(100))
    assert ranks_help(rows, rows, search()) is expected


def test_ctrl_c_ends_the_choice(monkeypatch):
    mode = SimpleNamespace(result=SimpleNamespace(interrupted=True))
    monkeypatch.setattr(input_choice, "find_modes_of", lambda searches: [mode, mode])
    rows = Training(torch.zeros(10, 1), torch.zeros(10))
    with pytest.raises(KeyboardInterrupt):
        ranks_help(rows, rows, search())
