import warnings
from datetime import date

import numpy as np
import pytest

from resnet_gp import ResNetGPClassifier


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
