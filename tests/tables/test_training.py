import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

pd = pytest.importorskip("pandas")

from tables.houses import Echo, houses

from resnet_gp import ResNetGPRegressor
from resnet_gp.tables import plan as planning
from resnet_gp.tables.fit_report import conclude, report
from resnet_gp.tables.plan import describe, make_plan
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.tasks import Regression
from resnet_gp.tables.training import train


def test_every_row_is_predicted_once_and_in_order(echo):
    frame, names = houses(), []
    result = train(make_plan(frame, "price", folds=4), names.append)
    assert names == ["fold 1", "fold 2", "fold 3", "fold 4", "all rows"]
    assert result.out_of_fold.rows.tolist() == list(range(40))
    known = frame["age"].notna().to_numpy()
    expected = frame["size"].astype(float) + frame["age"].astype(float) + 1  # one city
    assert result.out_of_fold.predictions.mean[known] == pytest.approx(expected[known].to_numpy())


def test_folds_learn_nothing_from_the_rows_that_they_predict(echo):
    before = houses()
    plan = make_plan(before, "price", folds=4)
    mates = next(test for _, test in plan.task.splits(plan.truth, 4, 0) if 1 in test)
    changed = before["age"][mates].astype(float).idxmin()  # to be more than the median
    after = before.copy()
    after.loc[changed, ["age", "city"]] = ["1e6", "Nice"]
    one, two = (
        train(make_plan(frame, "price", folds=4)).out_of_fold.predictions.mean
        for frame in (before, after)
    )
    others = [row for row in mates if row != changed]
    assert 1 in others  # whose age is missing
    assert (one[others] == two[others]).all()


def test_the_trivial_predictor_knows_the_training_rows_only(echo):
    plan = make_plan(houses(), "price", folds=4)
    result = train(plan)
    for seen, test in plan.task.splits(plan.truth, 4, 0):
        y = plan.truth[seen]
        assert result.out_of_fold.trivial.mean[test] == pytest.approx(np.full(len(test), y.mean()))
        deviation = y.std(ddof=1)
        assert result.out_of_fold.trivial.std[test] == pytest.approx(np.full(len(test), deviation))


def test_of_many_rows_some_folds_are_enough(echo, monkeypatch):
    monkeypatch.setattr(planning, "_ENOUGH_ROWS", 15)
    plan = make_plan(houses(), "price", folds=5)
    names = []
    result = train(plan, names.append)
    assert names == ["fold 1", "fold 2", "all rows"]
    assert len(result.out_of_fold.rows) == 16
    content = report(plan, result)["cross_validation"]
    assert (content["folds"], content["folds_fitted"], content["rows"]) == (5, 2, 16)


def test_warnings_of_the_fit_are_reported_and_interruptions_passed_on(monkeypatch):
    class Warner(Echo):
        def fit(self, X, y):
            import warnings

            warnings.warn("did not\nconverge", ConvergenceWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            return super().fit(X, y)

    monkeypatch.setattr(Regression, "estimator", lambda self, seed: Warner())
    plan = make_plan(houses(), "price")
    assert train(plan).warnings == ["did not converge"]
    monkeypatch.setattr(Warner, "fit_interrupted_", True, raising=False)
    with pytest.raises(KeyboardInterrupt):
        train(plan)


def test_a_fit_that_fails_is_an_error_of_the_table(monkeypatch):
    class Failing(Echo):
        def fit(self, X, y):
            raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(Regression, "estimator", lambda self, seed: Failing())
    with pytest.raises(TableError, match="the model cannot be fitted in fold 1: singular"):
        train(make_plan(houses(), "price"))


def test_many_rows_are_left_out_one_by_one_after_a_single_fit(monkeypatch):
    monkeypatch.setattr(planning, "_ROWS_OF_FOLDS", 60)
    monkeypatch.setattr(planning, "_ENOUGH_ROWS", 50)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=120), "b": rng.normal(size=120)})
    frame["y"] = np.sin(2 * frame["a"]) + 0.1 * rng.normal(size=120)
    monkeypatch.setattr(
        Regression,
        "estimator",
        lambda task, seed: ResNetGPRegressor(inference="nearest", n_components=1, max_iter=5),
    )
    plan, names = make_plan(frame, "y"), []
    assert "left out one by one" in describe(plan)[-1]
    assert plan.steps == 1
    result = train(plan, names.append)
    assert names == ["all rows"]
    rows = result.out_of_fold.rows
    assert len(rows) == 50
    assert (np.diff(rows) > 0).all()
    expected = result.saved.model.loo_predict_law(rows)
    np.testing.assert_array_equal(result.out_of_fold.predictions.mean, expected.mean)
    assert result.scores["resnet-gp"]["rmse"] < 0.3 < result.scores["trivial"]["rmse"]
    assert "leaving out one by one" in conclude(plan, result)[0]
