import warnings

import numpy as np
import pytest

from resnet_gp import ResNetGPClassifier
from resnet_gp.estimators.encode import columns_of_few_values, object_table


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
        ([1, 2, 3, None], ["1", "2", "3", None], "column 1 .* holds texts, and held numbers"),
        (["1", "2", "3", None], [1, 2, 3, None], "column 1 .* holds numbers, and held texts"),
    ],
)
def test_codes_that_change_between_numbers_and_texts_are_warned_of(before, after, message):
    model, X = fit(before * 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X)
    X[:, 1] = after * 10
    with pytest.warns(UserWarning, match=message):
        model.predict(X)


def test_numbers_that_differ_by_rounding_are_no_categories():
    step = np.spacing(0.3)
    X = np.column_stack([0.3 + step * (np.arange(12) % 3), np.arange(12) % 3])
    assert columns_of_few_values(X) == [1]


def test_tables_have_two_dimensions():
    with pytest.raises(ValueError, match=r"X must be n x d, got shape \(2,\)"):
        object_table(["a", "b"])
