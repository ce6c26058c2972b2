import pytest

pd = pytest.importorskip("pandas")

from resnet_gp.tables.kinds import choose_kinds
from resnet_gp.tables.reading import TableError


def table(**columns):
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def test_numbers_and_texts():
    frame = table(x=["1", "-2.5e3", None], c=["a", "b", None], empty=[None] * 3)
    assert choose_kinds(frame) == {"x": "number", "c": "category", "empty": "number"}
    assert choose_kinds(frame, ["x"])["x"] == "category"


def test_truth_values_are_numbers_and_other_words_are_not():
    frame = table(b=["True", "FALSE", None], mixed=["True", "yes", None], d=["true", "false", None])
    assert choose_kinds(frame, ["d"]) == {"b": "number", "mixed": "category", "d": "category"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-01-03", "2024-02-01", "2024-01-03", None], "'x' holds dates such as '2024-01-03'"),
        (["3.1.2024", "4.1.2024", "3.1.2024"], "holds dates such as"),
        (["3 Jan 2024", "4 Mar 2024"], "holds dates such as .*--drop 'x'"),
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
    ],
)
def test_columns_that_are_refused(values, message):
    with pytest.raises(TableError, match=message):
        choose_kinds(table(x=values))


@pytest.mark.parametrize(
    "values", [["20-29", "30-39"] * 3, ["may", "june"] * 3, ["B 2024 x", "C"] * 3, ["a", "b"]]
)
def test_texts_that_are_no_dates(values):
    assert choose_kinds(table(x=values)) == {"x": "category"}


def test_declared_categories_may_look_like_dates():
    assert choose_kinds(table(x=["2024-01-03", "2024-02-01"] * 2), ["x"]) == {"x": "category"}


def test_a_column_without_a_name_is_refused():
    frame = table(**{"Unnamed: 0": [None, None], "x": ["1", "2"]})
    assert choose_kinds(frame)["x"] == "number"
    with pytest.raises(TableError, match=r"column 1 has no name: .*--drop 'Unnamed: 0'"):
        choose_kinds(table(**{"Unnamed: 0": ["1", "2"], "x": ["1", "2"]}))
