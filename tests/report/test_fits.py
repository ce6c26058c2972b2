import numpy as np
import pytest

from resnet_gp.report.fits import (
    corrected_power_law,
    curve_fit,
    extrapolate,
    jackknife,
    linear_fit,
    mean_and_error,
    power_law,
)

N = np.array([8.0, 16, 32, 64, 128])


def test_jackknife_of_the_mean_is_its_standard_error():
    rows = np.random.default_rng(0).normal(size=(30, 2))
    estimate, error = jackknife(rows, lambda row: row)
    np.testing.assert_allclose(estimate, rows.mean(0))
    np.testing.assert_allclose(error, rows.std(0, ddof=1) / np.sqrt(30))
    np.testing.assert_allclose(mean_and_error(rows), (estimate, error))


def test_jackknife_of_a_ratio_covers():
    rng = np.random.default_rng(1)
    z = []
    for _ in range(200):
        rows = rng.normal([2.0, 1.0], [0.5, 0.2], size=(50, 2))
        estimate, error = jackknife(rows, lambda row: row[:1] / row[1:])
        z.append(float((estimate - 2)[0] / error[0]))
    assert np.square(z).sum() == pytest.approx(200, abs=4 * np.sqrt(2 * 200))


def test_linear_fit_and_its_errors():
    design = np.vander(N, 2, increasing=True)
    rng = np.random.default_rng(2)
    fits = [
        linear_fit(design, design @ [3.0, 0.1] + rng.normal(size=5), np.ones(5)) for _ in range(400)
    ]
    found = np.array([fit.parameters for fit in fits])
    z = (found.mean(0) - [3.0, 0.1]) / (fits[0].standard_errors / 20)
    assert np.abs(z).max() < 4
    np.testing.assert_allclose(found.std(0), fits[0].standard_errors, rtol=4 / np.sqrt(800))
    assert np.mean([fit.chi2 for fit in fits]) == pytest.approx(3, abs=4 * np.sqrt(6 / 400))


def test_exact_data_give_exact_parameters():
    error = 0.01 * np.ones(5)
    assert power_law(N, 3 * N**-1.5, error).parameters == pytest.approx([np.log(3), -1.5])
    values = 3 / N * (1 + 2 / N)
    assert corrected_power_law(N, values, error).parameters == pytest.approx([3, -1, 2], rel=1e-5)
    assert extrapolate(1 / N, 2 + 3 / N + 4 / N**2, error, 2)[0] == pytest.approx(2)
    fit = curve_fit(lambda p: p[0] * np.exp(-N / p[1]), (1.0, 10.0), 2 * np.exp(-N / 30), error)
    assert fit.parameters == pytest.approx([2, 30])


def test_curve_fit_has_the_errors_of_the_linear_fit():
    design, values, errors = np.vander(N, 2), 1 + N, N**0.5
    linear = linear_fit(design, values, errors)
    curved = curve_fit(lambda p: design @ p, (0.5, 0.5), values, errors)
    np.testing.assert_allclose(curved.covariance, linear.covariance, rtol=1e-6)
    assert linear.estimate(1) == (linear.parameters[1], linear.covariance[1, 1] ** 0.5)
