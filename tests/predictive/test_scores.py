import numpy as np
import pytest
from scipy.stats import norm

from resnet_gp.predictive import Law
from resnet_gp.predictive.scores import scores_of


def test_scores_against_their_definitions():
    rng = np.random.default_rng(0)
    truth, mean, std = rng.normal(size=500), rng.normal(size=500), rng.uniform(0.5, 2, 500)
    law = Law.normal(mean, std)
    found = scores_of(law, truth)
    assert found.rmse == pytest.approx(np.sqrt(np.mean((truth - mean) ** 2)))
    assert found.nlpd == pytest.approx(-norm(mean, std).logpdf(truth).mean())
    low, high = norm(mean, std).interval(0.9)
    assert found.coverage == np.mean((low <= truth) & (truth <= high))
    assert found.crps == pytest.approx(law.crps(truth).mean())
    low, high = norm(mean, std).interval(0.5)
    assert scores_of(law, truth, 0.5).coverage == np.mean((low <= truth) & (truth <= high))


def test_the_true_law_has_the_best_scores():
    rng = np.random.default_rng(1)
    truth = rng.standard_t(5, size=20_000)
    right = scores_of(Law.student(np.zeros(20_000), 1.0, 5.0), truth)
    wrong = scores_of(Law.normal(np.zeros(20_000), (5 / 3) ** 0.5), truth)
    assert right.nlpd < wrong.nlpd
    assert right.crps < wrong.crps
    assert abs(right.coverage - 0.9) < 4 * (0.09 / 20_000) ** 0.5
    assert right.rmse == wrong.rmse


def test_several_outputs_count_alike():
    rng = np.random.default_rng(2)
    truth, law = rng.normal(size=(7, 2)), Law.normal(np.zeros((7, 2)), [1.0, 2.0])
    parts = [scores_of(law[:, k], truth[:, k]) for k in range(2)]
    assert scores_of(law, truth).nlpd == pytest.approx(np.mean([part.nlpd for part in parts]))
    with pytest.raises(ValueError, match="do not match predictions of shape"):
        scores_of(law, truth[:, 0])
