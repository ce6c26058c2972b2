import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import friedmanchisquare
from scripts import load

ranks = load("benchmarks", "ranks")


def test_mean_ranks_share_ties():
    values = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.4], [1.0, 3.0, 2.0]])
    np.testing.assert_allclose(ranks.mean_ranks(values), np.array([4.5, 7.5, 6]) / 3)


def test_rounding_errors_break_no_ties():
    values = np.array([[0.1 + 0.2, 0.3, 0.4]])
    np.testing.assert_array_equal(ranks.mean_ranks(values), [1.5, 1.5, 3.0])


@pytest.mark.parametrize("decimals", [1, 8])
def test_friedman_is_that_of_scipy(decimals):
    values = (np.random.default_rng(0).normal(size=(9, 4)) + np.array([0, 0, 0.5, 1])).round(
        decimals
    )
    assert ranks.friedman(values) == pytest.approx(friedmanchisquare(*values.T).pvalue, rel=1e-9)


def test_models_that_are_the_same_do_not_differ():
    assert ranks.friedman(np.ones((5, 3))) == 1
    assert ranks.friedman(np.ones((5, 1))) == 1


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (4, 2.569), (10, 3.164)])
def test_critical_distance_is_that_of_demsars_table(k, q):
    expected = q * np.sqrt(k * (k + 1) / (6 * 14))
    assert ranks.critical_distance(k, 14) == pytest.approx(expected, rel=4e-4)


def test_bars_are_the_longest_ranges_of_models_that_do_not_differ():
    mean = np.array([3.5, 1.0, 2.0, 2.5])
    assert ranks.alike(mean, 1.6) == [(1.0, 2.5), (2.0, 3.5)]
    assert ranks.alike(mean, 0.9) == [(2.0, 2.5)]
    assert ranks.alike(mean, 0.4) == []


def test_figure_has_names_ranks_and_bars():
    axis = Figure().subplots()
    mean = np.array([3.143, 2.0, 2.893, 1.964])  # Demsar (2006), Table 6 and Figure 1
    ranks.critical_difference(mean, ["a", "b", "c", "d"], 14, axis)
    texts = {text.get_text().strip() for text in axis.texts}
    assert {"a 3.14", "b 2.00", "c 2.89", "d 1.96", "critical difference 1.25"} <= texts
    bars = [line for line in axis.lines if line.get_linewidth() == 4]
    ends = [tuple(np.round(bar.get_xdata() + np.array([0.03, -0.03]), 3)) for bar in bars]
    assert ends == [(1.964, 3.143)]
