import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_gp.columns import CategoryColumn, Columns, NumberColumn
from resnet_gp.columns.values import Column, columns_of

finite = st.floats(-1e100, 1e100)
numeric = st.lists(st.none() | finite, min_size=8, max_size=8)
nominal = st.lists(st.none() | st.text(max_size=4), min_size=8, max_size=8)


def table(**columns):
    return [Column(name, np.array(values, dtype=object)) for name, values in columns.items()]


def learn(*nominal_columns, **columns):
    return Columns.learn(table(**columns), nominal_columns)


def encoded(columns, **values):
    features, notes = columns.encode(table(**values))
    return features.tolist(), notes


@settings(deadline=None, max_examples=30)
@given(st.lists(numeric | nominal, min_size=1, max_size=4), st.data())
def test_the_same_after_json(values, data):
    named = {f"c{i}": column for i, column in enumerate(values)}
    texts = [i for i, one in enumerate(values) if any(isinstance(value, str) for value in one)]
    chosen = data.draw(st.sets(st.integers(0, len(values) - 1)))
    before = learn(*texts, *chosen, **named)
    after = Columns.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert after.feature_names == before.feature_names
    features, notes = after.encode(table(**named))
    assert notes == []
    np.testing.assert_array_equal(features, before.encode(table(**named))[0])
    assert np.isfinite(features).all()
    assert features.shape == (8, len(after.feature_names))
    assert len(set(after.feature_names)) == len(after.origins) == len(after.groups)
    for slice_ in after.indicators:
        assert (features[:, slice_].sum(1) == 1).all()
        assert len(set(after.groups[slice_])) == len(set(after.origins[slice_])) == 1
    shared = sum(one.stop - one.start - 1 for one in after.indicators)
    assert sorted(set(after.groups)) == list(range(features.shape[1] - shared))


@settings(deadline=None, max_examples=30)
@given(numeric, nominal, st.permutations(range(8)))
def test_rows_are_encoded_one_by_one(x, colour, order):
    columns = learn(1, x=x, colour=colour, y=range(8))
    features, _ = columns.encode(table(x=x, colour=colour, y=range(8)))
    moved = {"x": [x[i] for i in order], "colour": [colour[i] for i in order], "y": list(order)}
    np.testing.assert_array_equal(columns.encode(table(**moved))[0], features[list(order)])


def test_numbers_are_features_as_they_are():
    columns = learn(x=[1, 2.5, -300, True], one=[1, 1, 1, 1])
    assert columns.is_identity
    assert encoded(columns, x=[1, 2.5, None, False], one=[1, 1, 1, 2]) == (
        [[1, 1], [2.5, 1], [1, 1], [0, 2]],
        ["column 'x': 1 missing, though none were in training; the median 1 is taken"],
    )


def test_missing_numbers_take_the_median_and_are_marked():
    columns = learn(x=[1, None, 3, 8])
    assert columns.parts == (NumberColumn("x", 3.0, True, True),)
    assert columns.feature_names == ["x", "x is missing"]
    assert columns.groups == (0, 1)
    assert not columns.is_identity
    expected = [[1, 0], [3, 1], [3, 0], [8, 0]]
    assert encoded(columns, x=[1, np.nan, 3, 8]) == (expected, [])


def test_the_median_of_huge_numbers_does_not_overflow():
    assert learn(x=[1e308, 1.5e308]).parts[0].median == pytest.approx(1.25e308)


def test_texts_are_indicators_and_missing_ones_a_category():
    values = ["red", "blue", None, "red", "blue", None]
    columns = learn(colour=values)
    assert columns.feature_names == ["colour=blue", "colour=red", "colour is missing"]
    assert columns.nominal == [0]
    features, _ = encoded(columns, colour=values)
    assert features[:3] == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_new_categories_have_no_indicator_and_a_note():
    columns = learn(colour=["red", "blue", "red", "blue"])
    assert encoded(columns, colour=["green", "red", "green", None]) == (
        [[0, 0], [0, 1], [0, 0], [0, 0]],
        [
            f"column 'colour': {what} and counts as none of the categories"
            for what in (
                "'green' was not in training (2 rows)", "missing was not in training (1 row)",
            )
        ],
    )  # fmt: skip


def test_values_of_another_kind_have_a_note_of_their_own():
    columns = learn(0, code=[1, 2, 1, 2])
    features, notes = encoded(columns, code=["1", "2", b"1", 1.0])
    assert features == [[0, 0], [0, 0], [0, 0], [1, 0]]
    assert notes == [
        "column 'code' holds bytes and texts, and held only numbers in training: the bytes and "
        "texts are unknown categories; convert the column"
    ]


def test_integers_of_any_size_are_different_categories():
    codes = [90071992547409931, 90071992547409932, 90071992547409933]
    columns = learn(0, code=codes * 2)
    assert columns.parts == (CategoryColumn("code", tuple(codes)),)
    assert encoded(columns, code=codes)[0] == np.eye(3).tolist()


def test_names_of_categories():
    columns = learn(0, x=[np.float64(1), 2.5, np.int8(3), None] * 2)
    assert columns.feature_names == ["x=1", "x=2.5", "x=3", "x is missing"]
    assert all(type(one) is not np.float64 for one in columns.parts[0].categories)


def test_columns_of_one_category_or_of_nothing_are_not_used():
    values = {"none": [None, None], "text": ["a", "a"], "x": [1, 2]}
    columns = learn(**values)
    assert columns.unused == ["none", "text"]
    assert columns.feature_names == ["x"]
    assert encoded(columns, none=[3, None], text=["b", None], x=[5, 6]) == ([[5], [6]], [])


def test_of_a_number_that_varies_by_missing_only_the_mark_is_left():
    assert learn(x=[7, None, 7]).feature_names == ["x is missing"]


def test_feature_names_differ_even_where_columns_are_named_so():
    columns = learn(**{"x": [1, None, 2], "x is missing": [1, 2, 3]})
    assert columns.feature_names == ["x", "x is missing", "x is missing (2)"]
    assert columns.origins == ["x", "x", "x is missing"]


def test_numbers_that_are_none():
    columns = learn(x=[1, 2])
    with pytest.raises(ValueError, match=r"'x' of X holds 'low' in row 1 \(counted from 0\)"):
        encoded(columns, x=[1, "low"])
    with pytest.raises(ValueError, match=r"'x' of X is infinite in row 1 \(counted from 0\)"):
        encoded(columns, x=[1, -np.inf])


@pytest.mark.parametrize(
    "content", [None, {"kind": "wheel"}, [{"kind": "wheel"}], [{"kind": "number"}], [{}]]
)
def test_json_of_something_else(content):
    with pytest.raises(ValueError, match="does not describe columns"):
        Columns.from_json(content)


def test_a_frame_is_encoded_as_its_objects():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, None, 3], "c": ["a", None, "b"], "k": [True, False, True]})
    columns = Columns.learn(columns_of(frame))
    assert columns.feature_names == ["x", "x is missing", "c=a", "c=b", "c is missing", "k"]
    expected = learn(x=[1, None, 3], c=["a", None, "b"], k=[1, 0, 1])
    assert columns == expected
    found, _ = columns.encode(columns_of(frame))
    np.testing.assert_array_equal(found, columns.encode(columns_of(frame.to_numpy(object)))[0])


def test_categories_of_decimals():
    values = np.array([Decimal("0.1") * k for k in range(4)], dtype=object)
    column = Column("k", values)
    indicators, notes = CategoryColumn.learn(column).encode(column)
    np.testing.assert_array_equal(indicators, np.eye(4))
    assert not notes


def test_categories_of_other_numbers():
    values = [Fraction(1, 3), np.longdouble("0.1"), Decimal("0.1"), 0.1, 2]
    columns = learn(0, x=values)
    assert columns.parts[0].categories == (0.1, 1 / 3, 2)
    assert encoded(columns, x=values)[0] == [[0, 1, 0], *[[1, 0, 0]] * 3, [0, 0, 1]]


def test_values_that_are_none_of_the_kinds_are_unknown_categories():
    features, notes = encoded(learn(x=["a", "b"]), x=[["a"], "b"])
    assert features == [[0, 0], [0, 1]]
    assert "holds values of other types" in notes[0]


def test_an_integer_that_no_float_can_hold():
    with pytest.raises(ValueError, match="column 'x' of X is infinite in row 1"):
        learn(x=[1, 10**400])


def test_a_column_without_a_value_takes_any_later():
    columns = learn(a=[1, 2, 3], q=[None, None, None])
    assert encoded(columns, a=[4, 5], q=["Gd", None]) == ([[4.0], [5.0]], [])
