import numpy as np
import pytest
from sklearn.metrics import log_loss, r2_score

from resnet_gp.predictive import Law
from resnet_gp.tables.tasks import Classification, Regression


def test_scores_of_regression():
    rng = np.random.default_rng(0)
    truth, predictions = rng.normal(size=50), Law.normal(rng.uniform(0.5, 1, 50), 0.7)
    scores = Regression(0.5).scores(truth, predictions)
    table = Regression(0.5).table(predictions)
    assert scores["r2"] == pytest.approx(r2_score(truth, predictions.mean))
    inside = (table["lower_50"] <= truth) & (truth <= table["upper_50"])
    assert scores["coverage"] == inside.mean()
    assert scores["width"] == pytest.approx((table["upper_50"] - table["lower_50"]).mean())
    assert Regression().scores(truth[:1], predictions[:1])["r2"] is None


def test_scores_of_classification():
    task = Classification(np.array(["a", "b", "c"]))
    rng = np.random.default_rng(0)
    truth, predictions = rng.choice(task.classes, 50), rng.dirichlet(np.ones(3), 50)
    scores = task.scores(truth, predictions)
    assert scores["log_loss"] == pytest.approx(log_loss(truth, predictions, labels=task.classes))
    assert scores["accuracy"] == np.mean(task.classes[predictions.argmax(1)] == truth)
    assert 0 < scores["calibration_error"] < 1


def test_classes_of_two_rows_are_in_every_training_set():
    task = Classification(np.array([0, 1]))
    truth = np.array([0] * 20 + [1] * 2)
    for train, _ in task.splits(truth, 5, 0):
        assert set(truth[train]) == {0, 1}


def test_a_baseline_of_equal_targets_has_no_density():
    task = Regression()
    scores = task.scores(np.array([0.0, 3.0]), task.trivial(np.zeros(5), 2))
    assert scores["nlpd"] is None
    assert scores["rmse"] == pytest.approx(1.5 * 2**0.5)


def test_levels_keep_their_digits_in_names():
    law = Law.normal(np.zeros(2), 1.0)
    task = Regression(1 - 1e-9)
    assert set(task.table(law)) == {"mean", "std", "lower_99.9999999", "upper_99.9999999"}
    assert task.headings()["coverage"] == "in 99.9999999 % interval"
