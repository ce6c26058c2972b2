"""Importance sampling against laws whose integrals are known."""

import math

import numpy as np
import pytest
from scipy.stats import genpareto, multivariate_t

from resnet_gp.fitting.importance import Proposal, Weights, resample


def proposal(p=3):
    random = np.random.RandomState(1)
    root = random.normal(size=(p, p))
    curvature = root @ root.T + 2 * np.eye(p)
    return Proposal.of(np.arange(p) + 1.0, curvature, np.full(p, 0.5)), curvature


def test_the_density_of_draws_is_that_of_the_student_law():
    law, curvature = proposal()
    draws, density = law.draw(50, np.random.RandomState(0))
    expected = multivariate_t(law.centre, np.linalg.inv(curvature), df=30).logpdf(draws)
    np.testing.assert_allclose(density, expected, rtol=1e-10)


def test_the_sign_of_the_curvature_counts():
    law, curvature = proposal()
    draws, _ = law.draw(4000, np.random.RandomState(0))
    expected = np.linalg.inv(curvature) * 30 / 28
    np.testing.assert_allclose(np.cov(draws.T), expected, rtol=0.15, atol=0.03)


def test_where_data_say_nothing_the_width_is_that_of_the_prior():
    law = Proposal.of(np.zeros(2), np.diag([9.0, -4.0]), np.array([1.0, 0.25]))
    np.testing.assert_allclose(law.root @ law.root.T, np.diag([1 / 9, 4]), atol=1e-12)


@pytest.mark.parametrize("p", [1, 5])
def test_the_evidence_of_a_normal_density_is_its_integral(p):
    """Also Laplace's approximation, which is exact there."""
    law = Proposal.of(np.zeros(p), np.eye(p) * 4, np.ones(p))
    assert law.log_evidence(2.5) == pytest.approx(2.5 + p / 2 * math.log(2 * math.pi / 4))
    draws, density = law.draw(2000, np.random.RandomState(0))
    weights = Weights.smoothed(2.5 - 2 * (draws**2).sum(1) - density)
    assert weights.log_evidence == pytest.approx(law.log_evidence(2.5), abs=0.05)
    assert weights.pareto_k < 0.5
    assert weights.effective_draws > 1200


def test_a_skewed_density_has_the_integral_of_quadrature():
    def log_density(x):
        return x - np.exp(x)  # integrates to 1; mode 0, curvature 1

    draws, density = Proposal.of(np.zeros(1), np.eye(1), np.array([0.01])).draw(
        4000, np.random.RandomState(0)
    )
    weights = Weights.smoothed(log_density(draws[:, 0]) - density)
    assert weights.log_evidence == pytest.approx(0, abs=0.05)
    mean = (weights.normalised * draws[:, 0]).sum()
    assert mean == pytest.approx(-np.euler_gamma, abs=0.1)


def test_weights_sum_to_one_and_impossible_draws_have_none():
    ratios = np.random.RandomState(0).normal(size=100)
    ratios[[3, 50]] = [-np.inf, np.nan]
    weights = Weights.smoothed(ratios)
    assert weights.normalised.sum() == pytest.approx(1)
    assert weights.normalised[[3, 50]].tolist() == [0, 0]
    with pytest.raises(FloatingPointError, match="no draw"):
        Weights.smoothed(np.full(30, -np.inf))


@pytest.mark.parametrize("k", [0.2, 0.9])
def test_the_shape_of_the_tail_is_found(k):
    found = [
        Weights.smoothed(np.log1p(genpareto.rvs(k, size=2000, random_state=seed))).pareto_k
        for seed in range(20)
    ]
    z = (np.mean(found) - k) / (np.std(found) / math.sqrt(20))
    assert abs(z) < 5


def test_smoothing_keeps_the_order_and_the_largest_weight():
    ratios = np.random.RandomState(0).standard_t(2, size=400)
    smooth = Weights.smoothed(ratios).logarithms
    assert (np.argsort(smooth, kind="stable") == np.argsort(ratios)).mean() > 0.95
    assert smooth.max() <= ratios.max()
    size = math.ceil(min(400 / 5, 3 * math.sqrt(400)))
    body = np.argsort(ratios)[:-size]
    np.testing.assert_array_equal(smooth[body], ratios[body])


def test_all_weight_on_one_draw():
    ratios = np.zeros(200)
    ratios[7] = 500.0
    weights = Weights.smoothed(ratios)
    assert weights.normalised[7] == pytest.approx(1)
    assert weights.effective_draws == pytest.approx(1)
    assert set(resample(weights.normalised, 16, np.random.RandomState(0))) == {7}


def test_equal_weights_have_no_tail():
    weights = Weights.smoothed(np.zeros(200))
    assert weights.effective_draws == pytest.approx(200)


def test_resampling_takes_each_draw_about_as_often_as_its_weight_says():
    weights = np.random.RandomState(0).dirichlet(np.ones(30))
    counts = np.bincount(resample(weights, 1000, np.random.RandomState(1)), minlength=30)
    assert (np.abs(counts - 1000 * weights) < 1).all()


def test_a_prior_that_relates_hyperparameters_is_as_wide_as_its_covariance():
    covariance = np.array([[1.25, 1.0, 0.0], [1.0, 1.25, 0.0], [0.0, 0.0, 2.0]])
    prior = np.linalg.inv(covariance)
    for data in (np.zeros((3, 3)), np.diag([0.0, 3.0, 1.0]), np.outer([1, -1, 2], [1, -1, 2])):
        law = Proposal.of(np.zeros(3), prior + data, prior)
        np.testing.assert_allclose(law.root @ law.root.T, np.linalg.inv(prior + data), atol=1e-12)
    law = Proposal.of(np.zeros(3), -prior, prior)  # where the density is not concave
    np.testing.assert_allclose(law.root @ law.root.T, covariance)
    independent = Proposal.of(np.zeros(3), prior, np.array([1.0, 2.0, 3.0]))
    same = Proposal.of(np.zeros(3), prior, np.diag([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(same.root @ same.root.T, independent.root @ independent.root.T)
