"""The values of one column: numbers, texts, codes, and values that could be read in two ways."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.tables.reading import TableError, row_numbers

Array = NDArray[np.float64]

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")
_TRUTH = {"true": "1", "false": "0"}
_LARGEST = 2**53  # floats distinguish all integers below
_DECIMAL_COMMA = re.compile(r"[-+]?(\d*|\d{1,3}(\.\d{3})+),\d+")
_THOUSANDS_COMMA = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")


def numbers(column: Any) -> Array | None:
    """The values of a column, NaN where one is missing; None if one is not a number."""
    values = numbers_or_nan(column)
    return None if (np.isnan(values) & column.notna().to_numpy()).any() else values


def numbers_or_nan(column: Any) -> Array:
    """The values of a column, NaN where one is missing or not a number."""
    import pandas as pd

    return np.asarray(pd.to_numeric(texts_of(column), errors="coerce").to_numpy(dtype=np.float64))


def truth_as_numbers(column: Any) -> Any:
    """The same with "1" and "0" where all known values are "True" or "False", however capitalised.

    pandas reads such columns as booleans, which are features as numbers are.
    """
    texts = texts_of(column)
    if not texts.notna().any():  # of which pandas makes numbers
        return column
    texts = texts.str.lower()
    return texts.map(_TRUTH) if texts.dropna().isin(_TRUTH).all() else column


def numbers_or_refuse(column: Any) -> Array:
    """Like ``numbers``, but raise a TableError for texts and infinite numbers."""
    values = numbers(column)
    if values is None:
        row, text = first_text(column)
        raise TableError(f"column {str(column.name)!r} holds {text!r} in row {row}, not a number")
    infinite = np.isinf(values)
    if infinite.any():
        raise TableError(f"column {str(column.name)!r} is infinite in {row_numbers(infinite)}")
    return values


def texts_of(column: Any) -> Any:
    """The values of a column as texts; missing values stay missing."""
    return column.astype(object).map(str, na_action="ignore")


def first_text(column: Any) -> tuple[int, str]:
    """Row (counted from 1) and text of the first value that is not a number."""
    stray = np.isnan(numbers_or_nan(column)) & column.notna().to_numpy()
    row = int(np.flatnonzero(stray)[0])
    return row + 1, str(column.iloc[row])


def is_mostly_numbers(column: Any) -> bool:
    """Whether more than half of the known values are numbers."""
    return bool(np.isfinite(numbers_or_nan(column.dropna())).mean() > 0.5)


def is_plain_integer(text: str) -> bool:
    """Whether a text is an integer below 2^53, written without leading zeros or a plus sign."""
    return _INTEGER.fullmatch(text) is not None and abs(int(text)) < _LARGEST


def integer_code(text: str) -> str:
    """Return "7" for "7" and "7.0", and every text that is not a plain integer unchanged."""
    plain = text.removesuffix(".0")
    return plain if is_plain_integer(plain) else text


def refuse_commas(column: Any, option: str | None = None) -> None:
    """Raise a TableError if two values or more have decimal commas or commas between thousands."""
    different = texts_of(column.dropna()).unique()
    decimal = {text for text in different if _DECIMAL_COMMA.fullmatch(text)}
    thousands = {text for text in different if _THOUSANDS_COMMA.fullmatch(text)}
    found = [text for text in different if text in decimal | thousands]
    if len(found) < 2:
        return
    text = next((one for one in found if one in decimal ^ thousands), found[0])
    if text not in thousands:
        what = f"decimal commas, as in {text!r}: write points"
    elif text not in decimal:
        what = f"commas between thousands, as in {text!r}: leave them out"
    else:
        what = (
            f"commas, as in {text!r}: write {text.replace(',', '.')!r} if they are decimal commas, "
            f"{text.replace(',', '')!r} if they separate thousands"
        )
    raise TableError(f"column {str(column.name)!r} holds {what}", option)
