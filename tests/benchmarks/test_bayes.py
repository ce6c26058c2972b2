"""The benchmarks of full Bayes have quick modes, and what they find is plausible."""

import numpy as np
import pytest
from scripts import load


def test_simulation_based_calibration_tests_every_hyperparameter(capsys):
    found = load("benchmarks", "simulation_based_calibration").main(["--quick"])
    assert {"noise", "outputscale", "lengthscale 1", "weight_variance", "log likelihood"} < set(
        found
    )
    assert "ranks of 2 simulations" in capsys.readouterr().out


def test_ranks_that_are_not_uniform_are_found():
    benchmark = load("benchmarks", "simulation_based_calibration")
    cells = benchmark.Cells(None, ["seed"])
    rng = np.random.default_rng(0)
    cells.add(
        {"seed": i, "good": rng.integers(32), "bad": rng.binomial(31, 0.5)} for i in range(99)
    )
    found = benchmark.tests(cells, 31, 16)
    assert found["good"] > 0.01 > 1e-6 > found["bad"]
    assert found["all"] == pytest.approx(2 * found["bad"])


def test_full_bayes(capsys):
    cells = load("benchmarks", "full_bayes").main(["--quick"])
    assert len(cells.all) == 8
    assert cells.values("rmse").max() < 0.8  # the targets' deviation is 1.0
    assert cells.values("coverage").mean() > 0.7
    assert "nuts less map" in capsys.readouterr().out


def test_sampling_time():
    found = load("benchmarks", "sampling_time").main(["--quick"])
    assert [one["n"] for one in found["gradients a second"]] == [60]
    assert found["chains"]["divergences"] == 0


def test_finite_posterior(capsys):
    found = load("benchmarks", "finite_posterior").main(["--quick"])
    assert found["p"] > 1e-3  # chains and importance sampling agree
    assert "slope of the error" in capsys.readouterr().out


def test_slope_of_errors_like_one_over_n():
    benchmark = load("benchmarks", "finite_posterior")
    widths = [4, 8, 16, 32]
    errors = np.full((4, 6), 1e-3)
    noise = errors * np.random.default_rng(0).normal(size=(4, 6))
    gaps = np.arange(1, 7) / np.array(widths)[:, None] + noise
    value, error = benchmark.slope(widths, gaps, errors)
    assert abs(value + 1) < 4 * error < 0.1


def test_the_gaussian_process_is_that_of_the_limit_in_width():
    benchmark = load("benchmarks", "finite_posterior")
    wide = benchmark.importance(256, 20_000)
    gaps = np.array(wide["estimates"]) - benchmark.gaussian_process()
    assert (np.abs(gaps) < 4 * np.array(wide["errors"]) + 0.01).all()
