import numpy as np
import pytest
from scipy.stats import norm

from resnet_gp.predictive.scores import gaussian_scores


def test_scores_against_their_definitions():
    rng = np.random.default_rng(0)
    truth, mean, std = rng.normal(size=500), rng.normal(size=500), rng.uniform(0.5, 2, 500)
    rmse, nlpd, coverage = gaussian_scores(truth, mean, std)
    assert rmse == pytest.approx(np.sqrt(np.mean((truth - mean) ** 2)))
    assert nlpd == pytest.approx(-norm(mean, std).logpdf(truth).mean())
    low, high = norm(mean, std).interval(0.9)
    assert coverage == np.mean((low <= truth) & (truth <= high))
