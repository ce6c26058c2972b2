import warnings
from datetime import date

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from resnet_gp import ResNetGPClassifier, ResNetGPRegressor
from resnet_gp.columns import NumberColumn
from resnet_gp.estimators.tables import nominal_columns

QUICK = {"hyperparameters": "map", "n_components": 1, "max_iter": 60}


def fit(kinds):
    y = np.array([0, 1, 1, 0] * 10)
    X = np.empty((40, 2), dtype=object)
    X[:, 0], X[:, 1] = np.linspace(-1, 1, 40), kinds
    return ResNetGPClassifier("limit", categorical_features=[1]).fit(X, y), X


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_missing_categories_are_one_category_however_they_are_written(dtype, tmp_path):
    pandas = pytest.importorskip("pandas")
    kinds = ["a", "b", None, "a"] * 10
    expected, X = fit(kinds)
    frame = pandas.DataFrame(
        {"x": X[:, 0].astype(float), "kind": pandas.Series(kinds, dtype=dtype)}
    )
    frame["kind"] = frame["kind"].astype(object).where(frame["kind"].notna(), pandas.NA)
    model = ResNetGPClassifier("limit", categorical_features=["kind"]).fit(frame, [0, 1, 1, 0] * 10)
    found = [model.predict_proba(frame.fillna({"kind": gap})) for gap in (np.nan, pandas.NaT)]
    found.append(model.predict_proba(frame))
    model.save(tmp_path / "model")
    found.append(ResNetGPClassifier.load(tmp_path / "model").predict_proba(frame))
    for probabilities in found:
        np.testing.assert_allclose(probabilities, expected.predict_proba(X), rtol=1e-9)


def test_missing_numbers_are_refused():
    model, X = fit([1, 2, None, 4] * 10)
    X[3, 0] = None
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(X)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([1, 2, 3, None], ["1", "2", "3", None], "holds texts, and held only numbers in training"),
        (["1", "2", "3", None], [1, 2, 3, None], "holds numbers, and held only texts in training"),
        ([1, 2, 3, None], ["1", 2, 3, None], "holds texts, and held only numbers in training"),
        (["1", "2", "3", None], ["1", 2, "3", None], "holds numbers, and held only texts"),
        ([1, 2, 3, None], [b"1", b"2", b"3", None], "holds bytes, and held only numbers"),
        (["1", "2", "3", None], [b"1", "2", "3", None], "holds bytes, and held only texts"),
        ([1, 2, 3, None], [b"1", "2", 3, None], "holds bytes and texts, and held only numbers"),
        ([1, 2, 3, None], [date(2020, 1, 1), 2, 3, None], "holds values of other types, and held"),
    ],
)
def test_values_of_a_kind_that_training_had_none_of_are_warned_of(before, after, message):
    model, X = fit(before * 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X)
    X[:, 1] = after * 10
    with pytest.warns(UserWarning, match=f"column 'x1' {message}"):
        model.predict(X)


def test_new_categories_of_a_known_kind_are_counted():
    model, X = fit([1, 2, 3, 4] * 10)
    X[:, 1] = [True, np.float32(2), np.int8(9), np.int64(4)] * 10
    with pytest.warns(UserWarning, match=r"column 'x1': 9 was not in training \(10 rows\)"):
        model.predict(X)


def test_warnings_name_columns_of_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": np.linspace(-1, 1, 40), "kind": [1, 2, 3, 4] * 10})
    model = ResNetGPClassifier("limit", categorical_features=["kind"]).fit(frame, [0, 1, 1, 0] * 10)
    with pytest.warns(UserWarning, match="column 'kind' holds texts"):
        model.predict(frame.astype({"kind": str}))


@pytest.fixture(scope="module")
def houses():
    """A frame of all kinds of columns, and prices."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    n = 120
    frame = pandas.DataFrame(
        {
            "size": rng.normal(size=n),
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "new": rng.random(n) < 0.5,
            "city": rng.choice(["Oslo", "Rome", "Nice"], n),
            "zone": pandas.Categorical(rng.integers(3, size=n)),
            "rooms": rng.integers(1, 5, size=n),
        }
    )
    price = frame["size"] + 2 * (frame["city"] == "Rome") + frame["new"]
    return frame, (price + 0.1 * rng.normal(size=n)).to_numpy()


@pytest.fixture(scope="module")
def fitted(houses):
    frame, price = houses
    return ResNetGPRegressor(**QUICK).fit(frame[:90], price[:90])


def test_a_frame_of_all_kinds_of_columns(houses, fitted):
    frame, price = houses
    assert fitted.columns_.feature_names == [
        "size", "age", "age is missing", "new", "city=Nice", "city=Oslo", "city=Rome",
        "zone=0", "zone=1", "zone=2", "rooms",
    ]  # fmt: skip
    assert fitted.feature_names_in_.tolist() == list(frame)
    assert fitted.n_features_in_ == 6
    assert fitted.X_train_.shape == (90, 11)
    assert fitted.lengthscale_.shape == (11,)
    error = fitted.predict(frame[90:]) - price[90:]
    assert np.sqrt(np.mean(error**2)) < 0.25  # noise .1, deviation 1.5
    assert np.abs(price[90:] - fitted.predict_law(frame[90:]).mean).max() < 1


def test_every_method_takes_a_frame(houses, fitted, tmp_path):
    frame, price = houses
    new = frame[90:95]
    law = fitted.predict_law(new)
    np.testing.assert_array_equal(fitted.predict(new), law.mean)
    np.testing.assert_array_equal(fitted.predict_quantiles(new, [0.3])[:, 0], law.quantile(0.3))
    density = fitted.predict_log_density(new, price[90:95])
    np.testing.assert_array_equal(density, law.log_density(price[90:95]))
    assert fitted.sample_y(new, 3).shape == (5, 3)
    assert fitted.loo_predict().shape == (90,)
    slope = fitted.predict_gradient(new)
    assert slope.shape == (5, 11)
    step = new.assign(size=new["size"] + 1e-5)
    found = (fitted.predict(step) - fitted.predict(new)) / 1e-5
    np.testing.assert_allclose(slope[:, 0], found, rtol=1e-3, atol=1e-4)
    fitted.save(tmp_path / "model")
    loaded = ResNetGPRegressor.load(tmp_path / "model")
    assert loaded.columns_ == fitted.columns_
    np.testing.assert_array_equal(loaded.predict(new), law.mean)
    loaded.add_observations(new, price[90:95])
    assert loaded.X_train_.shape == (95, 11)
    before, after = np.abs(law.mean - price[90:95]), np.abs(loaded.predict(new) - price[90:95])
    assert after.mean() < before.mean()


def test_numbers_alone_give_the_same_bits_as_an_array(houses):
    frame, price = houses
    some = frame[["size", "new", "rooms"]]
    model = ResNetGPRegressor(**QUICK).fit(some, price)
    plain = ResNetGPRegressor(**QUICK).fit(some.to_numpy(dtype=float), price)
    assert plain.columns_ is None
    assert model.columns_.is_identity
    np.testing.assert_array_equal(model.theta_, plain.theta_)
    np.testing.assert_array_equal(model.predict(some), plain.predict(some.to_numpy(dtype=float)))


def test_numbers_that_are_missing_for_the_first_time_take_the_median(houses):
    frame, price = houses
    some = frame[["size", "rooms"]]
    model = ResNetGPRegressor(**QUICK).fit(some, price)
    assert isinstance(model.columns_.parts[0], NumberColumn)
    new = some[:3].astype(float)
    new.iloc[1, 0] = np.nan
    median = f"the median {some['size'].median():g} is taken"
    with pytest.warns(UserWarning, match=f"column 'size': 1 missing, .*{median}") as caught:
        found = model.predict_quantiles(new)
    assert [one.filename for one in caught] == [__file__]
    expected = model.predict_quantiles(new.fillna({"size": some["size"].median()}))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_unknown_category_is_none_of_the_known_ones(houses, fitted):
    frame, _ = houses
    new = frame[:3].copy()
    new["city"] = ["Rome", "Bonn", None]
    with pytest.warns(UserWarning, match="was not in training") as caught:
        std = fitted.predict(new, return_std=True)[1]
    assert {str(one.message) for one in caught} == {
        f"column 'city': {what} was not in training (1 row) and counts as none of the categories"
        for what in ("'Bonn'", "missing")
    }
    assert std[1] > std[0]


def test_names_of_categories_do_not_matter(houses, fitted):
    frame, price = houses
    renamed = frame.assign(city=frame["city"].map({"Oslo": "z", "Rome": "y", "Nice": "x"}))
    model = ResNetGPRegressor(**QUICK).fit(renamed[:90], price[:90])
    np.testing.assert_allclose(model.predict(renamed[90:]), fitted.predict(frame[90:]), atol=1e-3)


def test_columns_keep_their_order(houses, fitted):
    frame, _ = houses
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[frame.columns[::-1]])
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.drop(columns="city"))


def test_declared_numbers_are_categories_besides_the_texts(houses):
    frame, price = houses
    model = ResNetGPRegressor(categorical_features=["rooms"], **QUICK).fit(frame, price)
    names = model.columns_.feature_names
    assert {"rooms=1", "rooms=4", "city=Oslo", "zone=0"} <= set(names)
    X = frame[["size", "city"]].to_numpy(dtype=object)
    array = ResNetGPRegressor(categorical_features=[1], **QUICK).fit(X, price)
    assert array.columns_.feature_names == ["x0", "x1=Nice", "x1=Oslo", "x1=Rome"]
    assert array.score(X, price) > 0.8
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN: in a pandas data frame"):
        array.predict(X)


def test_numbers_only_if_told_so(houses):
    frame, price = houses
    strict = ResNetGPRegressor(categorical_features=None, **QUICK)
    with pytest.raises(ValueError, match="could not convert string to float"):
        strict.fit(frame[["size", "city"]], price)
    with pytest.raises(ValueError, match="NaN: in a pandas data frame"):
        strict.fit(frame[["size", "age"]], price)
    assert strict.fit(frame[["size"]], price).columns_ is None


@pytest.mark.parametrize("kind", [ResNetGPRegressor, ResNetGPClassifier])
def test_tables_that_are_refused(houses, kind):
    frame, price = houses
    y = price > 1
    with pytest.raises(ValueError, match="NaN: in a pandas data frame"):
        kind().fit(frame[["size", "age"]].to_numpy(), y)
    with pytest.raises(ValueError, match="no column of X varies"):
        kind().fit(frame[["city"]].assign(city="Rome"), y)
    with pytest.raises(ValueError, match="column 'name' of X holds 120 different texts"):
        kind().fit(frame.assign(name=[f"house {i}" for i in range(120)]), y)
    with pytest.raises(ValueError, match="column 'size' of X is infinite in row 0"):
        kind().fit(frame.assign(size=np.inf), y)


def test_a_failed_fit_keeps_the_encoding(houses, fitted):
    frame, price = houses
    before = fitted.columns_
    with pytest.raises(ValueError, match="infinite"):
        fitted.fit(frame.assign(size=np.inf), price)
    assert fitted.columns_ is before


def test_folds_and_neighbours(houses):
    frame, price = houses
    model = ResNetGPRegressor(inference="nearest", n_neighbors=30, **QUICK)
    assert cross_val_score(model, frame, price, cv=3).min() > 0.8


def test_names_that_are_no_texts(houses):
    frame, price = houses
    some = frame[["size", "city"]].set_axis([3, 7], axis=1)
    model = ResNetGPRegressor(**QUICK).fit(some, price)
    assert model.columns_.feature_names == ["3", "7=Nice", "7=Oslo", "7=Rome"]
    assert model.score(some, price) > 0.8


def test_a_classifier_takes_frames(houses, tmp_path):
    frame, price = houses
    y = np.where(price > 1, "dear", "cheap")
    model = ResNetGPClassifier("limit").fit(frame[:90], y[:90])
    assert model.score(frame[90:], y[90:]) > 0.85
    assert model.X_train_.shape == (90, 11)
    assert len(model._inputs.blocks) == 2  # numbers of rooms may be categories
    assert len(model._inputs.blocks[1]) == 11 + 3
    model.save(tmp_path / "model")
    loaded = ResNetGPClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))


def test_categories_by_names_and_indices():
    names = np.array(["a", "b", "c"], object)
    assert nominal_columns(["c", 1], 3, names) == [2, 1]
    with pytest.raises(ValueError, match="no column 'd' in X"):
        nominal_columns(["d", 1], 3, names)
