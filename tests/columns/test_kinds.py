import datetime

import numpy as np
import pytest

from resnet_gp.columns.kinds import are_dates, are_too_many, choose_kind
from resnet_gp.columns.values import Column


def kind(values, nominal=False, dtype=object):
    return choose_kind(Column("x", np.array(values, dtype=dtype)), nominal)


def test_kinds_of_arrays():
    assert kind([1, 2.5, None, True]) == "number"
    assert kind([None, None]) == "number"
    assert kind([1, 2, 1], nominal=True) == "category"
    assert kind([1.0, 2.0], dtype=float) == "number"
    assert kind([1.0, 2.0], nominal=True, dtype=float) == "category"
    assert kind(["a", None, "b"]) == "category"
    assert kind(["1", "2"] * 2) == "category"


@pytest.mark.parametrize("dtype", ["int64", "float32", "Int64", "uint8", "boolean", "bool"])
def test_numbers_of_pandas_are_numbers(dtype):
    pandas = pytest.importorskip("pandas")
    column = Column("x", pandas.Series([1, 0, 1], dtype=dtype))
    assert column.is_plain
    assert choose_kind(column, False) == "number"


@pytest.mark.parametrize("values", [["a", "b", None], [1, 2, None], ["2024-01-03", "2024-01-04"]])
def test_the_dtype_of_pandas_declares_categories(values):
    pandas = pytest.importorskip("pandas")
    assert choose_kind(Column("x", pandas.Series(values, dtype="category")), False) == "category"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "a"], "'x' of X mixes numbers and texts"),
        (["2024-01-03", "2024-02-01", None], "'x' of X holds dates such as '2024-01-03'"),
        ([None, datetime.date(2024, 1, 3)], "holds dates or times such as '2024-01-03'"),
        ([np.timedelta64(3, "D")], "holds dates or times such as '3 days'"),
        ([b"a", "b"], "holds values of type bytes: convert it"),
        ([1j, 2], "holds values of type complex"),
        ([(1, 2)], "holds values of type tuple"),
        (["ann", "bob", "cat", "dan"], "4 different texts in 4 rows, such as 'ann', 'bob', too"),
        (["1", "2", "3", "4"], r"such as '1', '2' \(numbers: convert them by pandas.to_numeric\)"),
    ],
)
def test_columns_that_are_refused(values, message):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    with pytest.raises(ValueError, match=message):
        choose_kind(Column("x", array), False)


def test_times_of_pandas_are_refused():
    pandas = pytest.importorskip("pandas")
    days = pandas.date_range("2024-01-01", periods=3)
    for series in (pandas.Series(days), pandas.Series(days - days[0])):
        with pytest.raises(ValueError, match=r"holds dates or times.*skrub\.tabular_pipeline"):
            choose_kind(Column("x", series), False)


def test_declared_texts_may_all_differ():
    assert kind(["ann", "bob", "cat"], nominal=True) == "category"


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-03", "3.1.2024", "2024-01-03 12:30", "2024-01-03T12:30:00Z", "1/3/24", "03.01.24",
        "3 Jan 2024", "Jan 2024", "2024-01", "January 3rd, 2024", "Wed, 3 Jan. 2024 10:00:00 GMT",
        "3-Jan-2024", "2024/1/3",
    ],
)  # fmt: skip
def test_dates(text):
    assert are_dates([text])


@pytest.mark.parametrize(
    "text",
    [
        "20-29", "may", "B 2024 x", "a", "1.5", "1.2.3", "2-1-2", "Market Square 1021",
        "Marble Arch 2044", "Decks 2020", "2.10.1", "1-2-3 4", "May 1",
    ],
)  # fmt: skip
def test_texts_that_are_no_dates(text):
    assert not are_dates([text])


def test_of_two_rows_both_may_differ_and_of_more_half():
    assert not are_too_many(2, 2)
    assert not are_too_many(3, 6)
    assert are_too_many(4, 7)
