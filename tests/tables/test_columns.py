import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pd = pytest.importorskip("pandas")

from resnet_gp.tables.columns import CategoryColumn, Columns, NumberColumn
from resnet_gp.tables.kinds import choose_kinds
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.values import numbers

finite = st.floats(-1e100, 1e100)
numeric = st.lists(st.none() | finite, min_size=8, max_size=8)
nominal = st.lists(st.none() | st.text(max_size=4), min_size=8, max_size=8)


def table(**columns):
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def learn(frame, categorical=()):
    return Columns.learn(frame, choose_kinds(frame, categorical))


@settings(deadline=None, max_examples=30)
@given(st.lists(numeric | nominal, min_size=1, max_size=4), st.data())
def test_the_same_after_json(columns, data):
    frame = pd.DataFrame(
        {f"c{i}": pd.Series(values, dtype=object) for i, values in enumerate(columns)}
    )
    kinds = {
        name: "category" if numbers(frame[name]) is None else data.draw(kind_of_numbers)
        for name in frame.columns
    }
    try:
        before = Columns.learn(frame, kinds)
    except TableError:
        assert all(
            frame[name].nunique(dropna=False) == 1 or frame[name].isna().all() for name in frame
        )
        return
    after = Columns.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert after.feature_names == before.feature_names
    features, notes = after.encode(frame)
    assert notes == []
    assert features.equals(before.encode(frame)[0])
    assert list(features.columns) == after.feature_names
    assert len(set(after.feature_names)) == len(after.origins) == features.shape[1]
    assert np.isfinite(features.to_numpy()).all()
    assert (features.nunique() > 1).all()


kind_of_numbers = st.sampled_from(["number", "category"])


@settings(deadline=None, max_examples=30)
@given(numeric, nominal, st.permutations(range(8)))
def test_rows_are_encoded_one_by_one(x, colour, order):
    frame = table(x=x, colour=colour, y=range(8))
    kinds = {"x": "number", "colour": "category", "y": "number"}
    columns = Columns.learn(frame, kinds)
    expected = columns.encode(frame)[0].iloc[list(order)].reset_index(drop=True)
    assert columns.encode(frame.iloc[list(order)])[0].equals(expected)


def test_numbers_are_features_as_they_are():
    frame = table(x=["1", "2.5", "-3e2"])
    features, _ = learn(frame).encode(frame)
    assert features["x"].tolist() == [1.0, 2.5, -300.0]


def test_missing_numbers_take_the_median_and_are_marked():
    frame = table(x=["1", None, "3", "8"])
    columns = learn(frame)
    assert columns.parts == (NumberColumn("x", 3.0, True, True),)
    features, notes = columns.encode(frame)
    assert features["x"].tolist() == [1, 3, 3, 8]
    assert features["x is missing"].tolist() == [0, 1, 0, 0]
    assert notes == []


def test_the_median_of_huge_numbers_does_not_overflow():
    assert learn(table(x=["1e308", "1.5e308"])).parts[0].median == pytest.approx(1.25e308)


def test_numbers_missing_at_prediction_only_take_the_median_with_a_note():
    columns = learn(table(x=["1", "3", "8"]))
    features, notes = columns.encode(table(x=[None, "5", None]))
    assert features.to_numpy().tolist() == [[3], [5], [3]]
    assert notes == ["column 'x': 2 missing, though none were in training; the median 3 is taken"]


def test_texts_are_indicators_and_missing_ones_a_category():
    frame = table(colour=["red", "blue", None, "red", "blue", None])
    features, _ = learn(frame).encode(frame)
    assert list(features.columns) == ["colour=blue", "colour=red", "colour is missing"]
    assert features.to_numpy()[:3].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_new_categories_have_no_indicator_and_a_note():
    columns = learn(table(colour=["red", "blue", "red", "blue"]))
    features, notes = columns.encode(table(colour=["green", "red", "green", None]))
    assert features.to_numpy().tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert notes == [
        f"column 'colour': {what} and counts as none of the categories"
        for what in ("'green' was not in training (2 rows)", "missing was not in training (1 row)")
    ]


def test_integer_codes_may_be_written_as_floats():
    columns = learn(table(code=["1", "2", "1", "2"]), ["code"])
    assert columns.parts == (CategoryColumn("code", ("1", "2"), True),)
    features, notes = columns.encode(table(code=["1.0", "2", "02", "x"]))
    assert features.to_numpy().tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert "'02' was not in training" in notes[0]
    assert "'x' was not in training" in notes[1]


@pytest.mark.parametrize(
    "codes",
    [
        ["90071992547409931", "90071992547409932", "90071992547409933"],
        ["9007199254740992.0", "9007199254740993.0"],
        ["01067", "1067", "1067.00"],
        ["5E3", "5000"],
        ["1_0", "10"],
        ["+7", "7", " 7"],
        ["0.1", "0.10"],
    ],
)
def test_codes_that_are_written_differently_are_different(codes):
    assert learn(table(code=codes * 2), ["code"]).parts[0].categories == tuple(sorted(codes))


def test_texts_stay_as_they_are_written():
    columns = learn(table(code=["01", "b", "01", "b"]))
    assert columns.feature_names == ["code=01", "code=b"]


@pytest.mark.parametrize(
    "values",
    [
        [True, False, True, None],
        pd.Series(["a", "b", "a", None], dtype="category"),
        pd.Series([True, False, None, True], dtype="boolean"),
    ],
)
def test_booleans_and_categories_of_pandas_are_categories(values):
    assert choose_kinds(pd.DataFrame({"x": values})) == {"x": "category"}


@pytest.mark.parametrize("dtype", ["int64", "float32", "Int64", "uint8"])
def test_numbers_of_pandas_are_numbers(dtype):
    frame = pd.DataFrame({"x": pd.Series([1, 2, 3], dtype=dtype)})
    assert choose_kinds(frame) == {"x": "number"}
    assert learn(frame).encode(frame)[0]["x"].tolist() == [1, 2, 3]


def test_columns_without_variation_are_not_used():
    frame = table(x=["1", "2"], one=["1", "1"], none=[None, None], text=["a", "a"])
    columns = learn(frame)
    assert columns.names == ["x"]
    assert columns.unused == ("one", "none", "text")
    columns.encode(frame[["x"]])


def test_columns_that_vary_by_rounding_are_not_used():
    frame = table(x=["1", "2"] * 2, y=["0.30000000000000004", "0.3"] * 2)
    assert learn(frame).unused == ("y",)


def test_of_a_number_that_varies_by_missing_only_the_mark_is_left():
    frame = table(x=["7", None, "7"])
    features, _ = learn(frame).encode(frame)
    assert list(features.columns) == ["x is missing"]


def test_feature_names_differ_even_where_columns_are_named_so():
    frame = table(**{"x": ["1", None, "2"], "x is missing": ["1", "2", "3"]})
    columns = learn(frame)
    assert columns.feature_names == ["x", "x is missing", "x is missing (2)"]
    assert columns.origins == ["x", "x", "x is missing"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-01-03", "2024-02-01", "2024-01-03", None], "'x' holds dates such as '2024-01-03'"),
        (["3.1.2024", "4.1.2024", "3.1.2024"], "holds dates such as"),
        (["2024-01-03 12:30", "2024-02-01 08:00"], "holds dates such as"),
        (["3 Jan 2024", "4 Mar 2024"], "holds dates such as"),
        (["Jan 2024", "Mar 2024"], "holds dates such as"),
        (["1,5", "2,5", "3"], "holds decimal commas, as in '1,5': write points"),
        (["2,137", "1,5", "3"], "holds decimal commas, as in '1,5': write points"),
        (["2,137", "0,212"], "holds decimal commas, as in '0,212': write points"),
        (["1.234,5", "2.137,5"], "holds decimal commas, as in '1.234,5': write points"),
        (["2,137", "1,234,567"], "commas between thousands, as in '1,234,567': leave them out"),
        (["2,137", "1,100.5"], "commas between thousands, as in '1,100.5': leave them out"),
        (
            ["2,137", "3,001"],
            "as in '2,137': write '2.137' if they are decimal commas, '2137' if they separate tho",
        ),
        (["1", "inf", "2"], "'x' is infinite in row 2"),
        (["ann", "bob", "cat", "dan"], r"4 different values in 4 rows.*--drop 'x'"),
        (["1", "2", "?", "4", "5"], r"holds numbers, but '\?' in row 3: leave fields empty"),
        (["a", "a", "a", "a"], "no column but the target varies"),
    ],
)
def test_columns_that_are_refused(values, message):
    with pytest.raises(TableError, match=message):
        learn(table(x=values))


@pytest.mark.parametrize(
    "values", [["20-29", "30-39"] * 3, ["may", "june"] * 3, ["B 2024 x", "C"] * 3, ["a", "b"]]
)
def test_texts_that_are_no_dates(values):
    assert choose_kinds(table(x=values)) == {"x": "category"}


def test_declared_categories_may_look_like_dates():
    frame = table(x=["2024-01-03", "2024-02-01"] * 2)
    assert learn(frame, ["x"]).names == ["x"]


def test_a_column_without_a_name_is_refused():
    assert learn(table(**{"Unnamed: 0": [None, None], "x": ["1", "2"]})).names == ["x"]
    with pytest.raises(TableError, match=r"column 1 has no name: .*--drop 'Unnamed: 0'"):
        choose_kinds(pd.DataFrame({"Unnamed: 0": [1, 2], "x": [1, 2]}))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(X=["1"], z=["1"]), "the model needs the columns 'x', 'c'; did you mean 'X'?"),
        (table(x=["1"]), "the model needs the column 'c'; there are 'x'"),
        (table(x=["1", "low"], c=["a", "a"]), "column 'x' holds 'low' in row 2, not a number"),
        (table(x=["1", "-inf"], c=["a", "a"]), "column 'x' is infinite in row 2"),
    ],
)
def test_tables_that_cannot_be_encoded(frame, message):
    columns = learn(table(x=["1", "2", "3", "4"], c=["a", "b", "a", "b"]))
    with pytest.raises(TableError) as caught:
        columns.encode(frame)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"columns": [{"kind": "wheel"}], "unused": []},
        {"columns": [{"kind": "number"}], "unused": []},
    ],
)
def test_json_of_something_else(content):
    with pytest.raises(ValueError, match="does not describe columns"):
        Columns.from_json(content)
