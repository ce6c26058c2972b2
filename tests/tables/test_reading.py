import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pandas")

from resnet_gp.fitting.standardise import FarInputError
from resnet_gp.tables.reading import (
    TableError,
    numbering_rows,
    read_table,
    row_numbers,
    separator_hint,
    separator_of,
)


def write(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_fields_are_texts_and_missing_ones_are_none(tmp_path):
    frame = read_table(write(tmp_path, 'a,b\n01, x\n1.0,\nNA,"y, z"\n'))
    assert frame["a"].tolist()[:2] == ["01", "1.0"]
    assert frame["b"].isna().tolist() == [False, True, False]
    assert frame["b"][0] == "x"
    assert frame["b"][2] == "y, z"
    assert frame["a"].isna().tolist() == [False, False, True]


def test_blanks_around_fields_are_not_part_of_them(tmp_path):
    frame = read_table(write(tmp_path, " a , b\n red ,1 \nred, 2\n"))
    assert frame.columns.tolist() == ["a", "b"]
    assert frame["a"].tolist() == ["red", "red"]
    assert frame["b"].tolist() == ["1", "2"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert list(read_table(write(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")).columns) == ["a", "b"]


@pytest.mark.parametrize(("separator", "character"), [("tab", "\t"), ("\\t", "\t"), (";", ";")])
def test_separators(tmp_path, separator, character):
    path = write(tmp_path, f"a{character}b\n1{character}2\n")
    assert list(read_table(path, separator).columns) == ["a", "b"]


@pytest.mark.parametrize("separator", ["", ", ", '"', "\n"])
def test_a_separator_is_one_character(separator):
    with pytest.raises(TableError, match='must be one character or "tab"') as caught:
        separator_of(separator)
    assert caught.value.option == "--separator"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.csv is empty"),
        ("\n\n", "data.csv is empty"),
        ("a,b\n", "has a header but no rows"),
        ("a,b,a\n1,2,3\n", "has several columns of one name: 'a'"),
        ("a,b,a \n1,2,3\n", "has several columns of one name: 'a'"),
        ("NA,b,NA\n1,2,3\n", "has several columns of one name: 'NA'"),
        ("a,b\n1,2,3\n1,2,3\n", "has rows with more fields than its header"),
        ("a;b\n1,5;2\n1;2\n", r'more fields than its header; try --separator ";"'),
        ("a;b\n1;2\n1,5;2\n", r'line 3, saw 2; try --separator ";"'),
        ("a,b\n1,2\n1,2,3\n", "is not a CSV file: Expected 2 fields in line 3, saw 3"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not a text file in UTF-8"),
        ("a,b\nü,1\n".encode("latin-1"), "is not a text file in UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "is not a text file in UTF-8"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, message):
    with pytest.raises(TableError, match=message) as caught:
        read_table(write(tmp_path, content))
    assert caught.value.option is None
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(TableError, match=r"there is no file .*none\.csv"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match="is a folder"):
        read_table(tmp_path)


def test_guessed_separators():
    assert separator_hint(["a;b"]) == '; try --separator ";"'
    assert separator_hint(["a\tb"]) == '; try --separator "tab"'
    assert separator_hint(["ab"]) == separator_hint(["a;b", "c"]) == ""


def test_rows_are_counted_from_one():
    assert row_numbers([True, False]) == "row 1"
    assert row_numbers([False] + 7 * [True]) == "rows 2, 3, 4, 5, 6 and 2 more"


def test_a_pipe_is_read_once():
    reading, writing = os.pipe()
    os.write(writing, b"a,b\n1,2\n")
    os.close(writing)
    try:
        assert read_table(Path(f"/dev/fd/{reading}")).to_numpy().tolist() == [["1", "2"]]
    finally:
        os.close(reading)


def test_rows_of_estimators_are_numbered_as_in_the_table():
    with pytest.raises(TableError, match=r"^row 8 holds -1\.798e"), numbering_rows([5, 7]):
        raise FarInputError(1, -np.finfo(float).max)


def test_a_blank_line_of_a_single_column_is_a_missing_value(tmp_path):
    one = read_table(write(tmp_path, "\na\n1\n\n2\n\n"))
    assert one["a"].isna().tolist() == [False, True, False]
    assert len(read_table(write(tmp_path, "a,b\n1,2\n\n3,4\n"))) == 2
