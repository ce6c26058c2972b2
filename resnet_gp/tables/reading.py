"""Reading CSV files into data frames of texts, and errors about tables."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.columns.wording import first_of, shortened, suggest
from resnet_gp.fitting.standardise import FarInputError

_ENCODING = "utf-8-sig"  # UTF-8, with or without a byte order mark


class TableError(ValueError):
    """A table, or an option about it, is refused.

    Attributes:
        option: name of the wrong option; None if the table is at fault.
    """

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


def read_table(path: Path, separator: str = ",") -> Any:
    """Read a CSV file in UTF-8 with a header as a data frame of texts.

    Empty fields, NA, null and the like become NaN. Blanks around a field are not part of it. Blank
    lines are left out, but for those between the rows of a single column, whose values are missing.
    The file is read once, so that pipes work.

    Raises:
        TableError: there is no such file, it is not a table of at least one row, or two columns
            have one name.
    """
    import pandas as pd

    content = _content(path).strip(b"\r\n")
    arguments: dict[str, Any] = {
        "sep": separator_of(separator),
        "dtype": str,
        "encoding": _ENCODING,
        "skipinitialspace": True,
        "index_col": False,
        "compression": None,
    }
    header: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            first = pd.read_csv(
                io.BytesIO(content), header=None, nrows=1, keep_default_na=False, **arguments
            )
            header = [name for name in first.iloc[0].str.rstrip() if name]
            some = first.shape[1] > 1
            frame = pd.read_csv(io.BytesIO(content), skip_blank_lines=some, **arguments)
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty") from None
    except UnicodeDecodeError:
        raise TableError(f"{path} is not a text file in UTF-8: save it as one") from None
    except pd.errors.ParserWarning:
        hint = separator_hint(header)
        raise TableError(f"{path} has rows with more fields than its header{hint}") from None
    except pd.errors.ParserError as error:
        text = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
        raise TableError(f"{path} is not a CSV file: {text}{separator_hint(header)}") from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise TableError(f"{path} has several columns of one name: {shortened(twice)}")
    if frame.empty:
        raise TableError(f"{path} has a header but no rows")
    frame.columns = frame.columns.str.rstrip()
    return frame.apply(lambda column: column.str.rstrip()).astype(object)


def separator_of(text: str) -> str:
    """The character that ``--separator`` names."""
    character = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(character) != 1 or character in '"\n\r':
        raise TableError(f'must be one character or "tab", got {text!r}', "--separator")
    return character


def separator_hint(header: list[Any]) -> str:
    """Name a likely separator of a table that was read as one column: the end of a sentence."""
    found = [character for character in ";\t|," if len(header) == 1 and character in header[0]]
    return f'; try --separator "{found[0]}"'.replace("\t", "tab") if found else ""


def check_column(frame: Any, name: str, option: str) -> None:
    """Raise a TableError if there is no column of that name."""
    if name not in frame.columns:
        raise TableError(f"there is no column {name!r}{suggest(name, frame.columns)}", option)


def row_numbers(mask: Any) -> str:
    """List the first few rows of a mask, counted from 1 below the header."""
    numbers = [str(i + 1) for i, marked in enumerate(mask) if marked]
    return f"{'row' if len(numbers) == 1 else 'rows'} {first_of(numbers)}"


@contextmanager
def numbering_rows(rows: Sequence[int] | NDArray[np.int64]) -> Iterator[None]:
    """Turn errors about a row into errors about the table, where rows have these indices."""
    try:
        yield
    except FarInputError as error:
        _, _, column = error.place.partition(", ")  # after the argument
        where = f"{column}, row" if column else "row"
        raise TableError(f"{where} {rows[error.row] + 1} {error.reason}") from error


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise TableError(f"{path} is a folder")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TableError(f"there is no file {path}") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None
    if b"\0" in content[:8192]:
        raise TableError(f"{path} is not a text file in UTF-8: save it as one")
    return content
