import numpy as np
import pytest
import torch
from scipy import stats

from resnet_gp.mean_ode.training import Networks, train
from resnet_gp.mean_ode.units import even_units, independent_units, merge_layers, skewed_units

D, M, L = 5, 16, 64


def test_both_have_the_law_of_the_start():
    for draw in (independent_units, even_units):
        U, V = draw(np.random.default_rng(0), D, M, L)
        assert U.shape == V.shape == (L, D, M)
        for entries in (U, V):
            assert stats.kstest(entries[:, :, : M // 2].ravel() / np.sqrt(D), "norm").pvalue > 1e-3


def test_even_units_are_more_even():
    """The mean over units of a smooth function varies less from one scrambling to the next."""
    variances = []
    for draw in (independent_units, even_units):
        means = [
            np.mean(np.tanh(draw(np.random.default_rng(seed), D, M, L)[0][:, 0]) ** 2)
            for seed in range(10)
        ]
        variances.append(np.var(means))
    assert stats.f.sf(variances[0] / variances[1], 9, 9) < 0.01


def test_skewed_units_have_the_moments_of_the_start_and_no_symmetry():
    U, V = skewed_units(np.random.default_rng(0), D, M, L)
    assert U.shape == V.shape == (L, D, M)
    count = U.size / 4  # four units share each draw
    for entries, third in (((U - np.sqrt(D)), 0.0), (V, -2 / np.sqrt(3) * np.sqrt(8 / np.pi))):
        entries = entries / np.sqrt(D)
        for power, moment in ((1, 0.0), (2, 1.0), (3, third)):
            values = entries**power
            assert abs(values.mean() - moment) < 4 * values.std() / np.sqrt(count)


@pytest.mark.parametrize("draw", [even_units, skewed_units])
def test_blocks_of_even_units_add_nothing_at_the_start(draw):
    U, V = draw(np.random.default_rng(0), D, M, L)
    h = np.random.default_rng(1).standard_normal((3, D))
    assert np.abs(np.tanh(h @ U) @ V.swapaxes(1, 2)).max() < 1e-4


def test_merged_layers_are_a_sum_of_blocks():
    """Merging all layers puts all units into one layer."""
    rng = np.random.default_rng(0)
    U, V = (torch.tensor(a)[:, None] for a in independent_units(rng, D, M, 4))
    X, Y = (torch.tensor(rng.standard_normal((1, 3, D)), dtype=torch.float32) for _ in range(2))
    one = Networks(merge_layers(U, 4), merge_layers(V, 4), X, Y, torch.ones(1))
    blocks = torch.tanh(X[0] @ U[:, 0] / D) @ V[:, 0].mT
    torch.testing.assert_close(train(one, 0).output[0], X[0] + blocks.sum(0) / (4 * M))
