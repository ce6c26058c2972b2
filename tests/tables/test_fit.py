import json
import os

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, r2_score

pd = pytest.importorskip("pandas")

from resnet_gp.tables import fit
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.tasks import Classification, Regression, choose_task


def houses(n=40, seed=0):
    """Texts, as they are read: numbers with and without missing values, categories, a target."""
    rng = np.random.default_rng(seed)
    size, age = rng.normal(size=n), rng.normal(size=n)
    city = rng.choice(["Oslo", "Rome"], n)
    frame = pd.DataFrame({"size": size, "age": age, "city": city, "unit": 1})
    frame["price"] = size + (city == "Rome") + 0.1 * rng.normal(size=n)
    frame.loc[[1, 5], "age"] = np.nan
    return frame.astype(object).map(lambda value: value if value != value else str(value))


class Echo:
    """A regressor whose mean is the sum of the features."""

    def fit(self, X, y):
        self.X_train_ = X.to_numpy()
        return self

    def predict(self, X, return_std):
        return X.to_numpy().sum(1), np.ones(len(X))

    def save(self, path):
        path.write_text("echo")


@pytest.fixture
def echo(monkeypatch):
    monkeypatch.setattr(Regression, "estimator", lambda self, seed: Echo())


def test_the_plan_says_what_it_took_for_what():
    plan = fit.make_plan(houses(), "price")
    assert plan.kinds == {"size": "number", "age": "number", "city": "category", "unit": "number"}
    assert fit.describe(plan) == [
        "regression of 'price': 40 rows, 3 columns, 5 features",
        "categories: 'city'",
        f"column 'age': 2 missing, for which the median {plan.columns.parts[1].median:g} is taken; "
        "one more feature marks them",
        "constant, not used: 'unit'",
    ]


def test_every_row_is_predicted_once_and_in_order(echo):
    frame, names = houses(), []
    result = fit.run(fit.make_plan(frame, "price", folds=4), names.append)
    assert names == ["fold 1", "fold 2", "fold 3", "fold 4", "all rows"]
    assert result.out_of_fold.rows.tolist() == list(range(40))
    known = frame["age"].notna().to_numpy()
    expected = frame["size"].astype(float) + frame["age"].astype(float) + 1  # one city
    assert result.out_of_fold.predictions[known, 0] == pytest.approx(expected[known].to_numpy())


def test_folds_learn_nothing_from_the_rows_that_they_predict(echo):
    before = houses()
    plan = fit.make_plan(before, "price", folds=4)
    mates = next(test for _, test in plan.task.splits(plan.truth, 4, 0) if 1 in test)
    changed = before["age"][mates].astype(float).idxmin()  # to be more than the median
    after = before.copy()
    after.loc[changed, ["age", "city"]] = ["1e6", "Nice"]
    one, two = (
        fit.run(fit.make_plan(frame, "price", folds=4)).out_of_fold.predictions
        for frame in (before, after)
    )
    others = [row for row in mates if row != changed]
    assert 1 in others  # whose age is missing
    assert (one[others] == two[others]).all()


def test_the_trivial_predictor_knows_the_training_rows_only(echo):
    plan = fit.make_plan(houses(), "price", folds=4)
    result = fit.run(plan)
    for train, test in plan.task.splits(plan.truth, 4, 0):
        y = plan.truth[train]
        assert result.out_of_fold.trivial[test] == pytest.approx(
            np.tile([y.mean(), y.std(ddof=1)], (len(test), 1))
        )


def test_of_many_rows_some_folds_are_enough(echo, monkeypatch):
    monkeypatch.setattr(fit, "_ENOUGH_ROWS", 15)
    plan = fit.make_plan(houses(), "price", folds=5)
    names = []
    result = fit.run(plan, names.append)
    assert names == ["fold 1", "fold 2", "all rows"]
    assert len(result.out_of_fold.rows) == 16
    content = fit.report(plan, result)["cross_validation"]
    assert (content["folds"], content["folds_fitted"], content["rows"]) == (5, 2, 16)


def test_a_column_that_counts_the_rows_is_pointed_at():
    frame = houses().assign(number=[str(i) for i in range(7, 47)])
    lines = fit.describe(fit.make_plan(frame, "price"))
    assert "column 'number' rises by 1 from row to row: --drop it if it only counts them" in lines
    assert sum("rises by 1" in line for line in lines) == 1


def test_the_seed_draws_the_folds(echo):
    rows = [
        next(plan.task.splits(plan.truth, 5, plan.seed))[1].tolist()
        for plan in (fit.make_plan(houses(), "price", seed=seed) for seed in (0, 0, 1))
    ]
    assert rows[0] == rows[1] != rows[2]


def test_warnings_of_the_fit_are_reported_and_interruptions_passed_on(monkeypatch):
    class Warner(Echo):
        def fit(self, X, y):
            import warnings

            warnings.warn("did not\nconverge", ConvergenceWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            return super().fit(X, y)

    monkeypatch.setattr(Regression, "estimator", lambda self, seed: Warner())
    plan = fit.make_plan(houses(), "price")
    assert fit.run(plan).warnings == ["did not converge"]
    monkeypatch.setattr(Warner, "fit_interrupted_", True, raising=False)
    with pytest.raises(KeyboardInterrupt):
        fit.run(plan)


def test_a_fit_that_fails_is_an_error_of_the_table(monkeypatch):
    class Failing(Echo):
        def fit(self, X, y):
            raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(Regression, "estimator", lambda self, seed: Failing())
    with pytest.raises(TableError, match="the model cannot be fitted: singular"):
        fit.run(fit.make_plan(houses(), "price"))


@pytest.mark.parametrize(
    ("change", "arguments", "message", "option"),
    [
        (lambda f: f[["price"]], {}, "one column only, 'price'", "--separator"),
        (
            lambda f: f[["price"]].rename(columns={"price": "price;size"}),
            {},
            "'price;size'; try --separator \";\"",
            "--separator",
        ),
        (lambda f: f, {"target": "Price"}, "no column 'Price'; did you mean 'price'", "--target"),
        (lambda f: f, {"drop": ["sise"]}, "no column 'sise'; did you mean 'size'", "--drop"),
        (lambda f: f, {"categorical": ["x"]}, "no column 'x'; there are 'size', ", "--categorical"),
        (lambda f: f, {"drop": ["price"]}, "'price' is the target", "--drop"),
        (lambda f: f[["price", "size"]], {"drop": ["size"]}, "no column is left", "--drop"),
        (lambda f: f[:4], {}, "there are 4 rows: at least 5 are needed", None),
        (lambda f: f[:6], {"folds": 7}, "7 is more than the 6 rows", "--folds"),
        (
            lambda f: f.assign(price=[f"{i},5" for i in range(40)]),
            {},
            "'price' holds decimal commas, as in '0,5'",
            "--target",
        ),
        (lambda f: f.assign(price="3"), {}, "'price' is 3 in all rows", "--target"),
        (lambda f: f.assign(price="a"), {}, "'price' is 'a' in all rows", "--target"),
        (lambda f: f.assign(size="1")[["size", "price"]], {}, "no column but the target", None),
        (
            lambda f: f.assign(price=[*"ab" * 19, "c", "a"]),
            {},
            "'price': 1 of 3 class has one row only, two are needed: 'c'",
            "--target",
        ),
        (
            lambda f: f.assign(price=[*"ab" * 20]),
            {"folds": 21},
            "21 is more than the 20 rows of the largest class",
            "--folds",
        ),
        (
            lambda f: f.assign(price=[*"ab" * 20]),
            {"task": "regression"},
            "'price' holds 'a': regression needs numbers",
            "--target",
        ),
        (
            lambda f: f.assign(price=[None, *map(str, range(37)), None, "1"]),
            {},
            "'price' is missing in 2 of 40 rows: rows 1, 39; leave such rows out",
            "--target",
        ),
        (
            lambda f: f.assign(price=["inf", *map(str, range(39))]),
            {},
            "'price' is infinite in row 1",
            "--target",
        ),
    ],
)
def test_plans_that_cannot_be_made(change, arguments, message, option):
    with pytest.raises(TableError) as caught:
        fit.make_plan(change(houses()), **({"target": "price"} | arguments))
    assert message in str(caught.value)
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("values", "wanted", "name", "truth"),
    [
        (["1", "2.5"] * 2, "auto", "regression", [1.0, 2.5] * 2),
        (["1", "2"] * 2, "classification", "classification", [1, 2] * 2),
        (["1", "2.5"] * 2, "classification", "classification", ["1", "2.5"] * 2),
        (["b", "a"] * 2, "auto", "classification", ["b", "a"] * 2),
        ([True, False] * 2, "auto", "classification", ["True", "False"] * 2),
    ],
)
def test_tasks(values, wanted, name, truth):
    task, found = choose_task(pd.Series(values, name="y"), wanted)
    assert task.name == name
    assert found.tolist() == truth


def test_scores_of_regression():
    rng = np.random.default_rng(0)
    truth, predictions = rng.normal(size=50), rng.uniform(0.5, 1, (50, 2))
    scores = Regression(0.5).scores(truth, predictions)
    table = Regression(0.5).table(predictions)
    assert scores["r2"] == pytest.approx(r2_score(truth, predictions[:, 0]))
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


@pytest.mark.parametrize("failing", ["_draw", "_write_out_of_fold"])
def test_what_was_there_stays_if_writing_fails(tmp_path, echo, monkeypatch, failing):
    plan = fit.make_plan(houses(), "price")
    for name in (*fit.FILES, "notes.txt"):
        (tmp_path / name).write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(fit, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        fit.write(tmp_path, plan, fit.run(plan))
    assert {path.name for path in tmp_path.iterdir()} == {*fit.FILES, "notes.txt"}
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


def test_other_files_of_the_folder_stay(tmp_path, echo):
    (tmp_path / "notes.txt").write_text("mine")
    plan = fit.make_plan(houses(), "price")
    fit.write(tmp_path, plan, fit.run(plan))
    assert {path.name for path in tmp_path.iterdir()} == {*fit.FILES, "notes.txt"}
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == 40


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    data = tmp_path / "data.csv"
    with pytest.raises(TableError, match="file is not a folder"):
        fit.check_folder(tmp_path / "file" / "deep", data, False)
    (tmp_path / "report.json").touch()
    with pytest.raises(TableError, match=r"has 'report.json' already: --overwrite replaces"):
        fit.check_folder(tmp_path, data, False)
    fit.check_folder(tmp_path, data, True)
    with pytest.raises(TableError, match="would be written over"):
        fit.check_folder(tmp_path, tmp_path / "report.json", True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(TableError, match="cannot be written to") as caught:
        fit.check_folder(tmp_path / "new", data, False)
    assert caught.value.option == "--out"
    assert not (tmp_path / "new").exists()
