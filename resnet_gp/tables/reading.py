"""CSV files as data frames, and what is wrong with those that cannot be taken."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

_ENCODING = "utf-8-sig"  # UTF-8, with or without a byte order mark
_SHOWN = 5


class TableError(ValueError):
    """A table, or an option about it, that cannot be taken.

    Attributes:
        option: the name of the option that is wrong; None for the table itself.
    """

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


def read_table(path: Path, separator: str = ",") -> Any:
    """The table of a CSV file, as texts: a data frame of objects, NaN where a field is missing.

    The file is UTF-8 and has a header. What pandas takes for missing is missing: empty fields, NA,
    NaN, null and the like.

    Args:
        path: the file.
        separator: one character, or "tab".

    Raises:
        TableError: there is no such file, it is not a table of at least one row, or two columns
            have one name.
    """
    import pandas as pd

    _check_file(path)
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
            first = pd.read_csv(path, header=None, nrows=1, **arguments)
            header = first.iloc[0].dropna().tolist()
            frame = pd.read_csv(path, **arguments)
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty") from None
    except UnicodeDecodeError:
        raise TableError(f"{path} is not a text file in UTF-8") from None
    except pd.errors.ParserWarning:
        hint = separator_hint(header)
        raise TableError(f"{path} has rows with more fields than its header{hint}") from None
    except pd.errors.ParserError as error:
        hint = separator_hint(header)
        raise TableError(f"{path} is not a CSV file: {_one_line(error)}{hint}") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None
    _check_names(path, header)
    if frame.empty:
        raise TableError(f"{path} has a header but no rows")
    return frame.astype(object)


def separator_of(text: str) -> str:
    """The character that ``--separator`` names."""
    character = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(character) != 1 or character in '"\n\r':
        raise TableError(f'must be one character or "tab", got {text!r}', "--separator")
    return character


def separator_hint(header: list[Any]) -> str:
    """What may separate the columns of a table that was read as one, as the end of a sentence."""
    found = [character for character in ";\t|," if len(header) == 1 and character in header[0]]
    return f'; try --separator "{found[0]}"'.replace("\t", "tab") if found else ""


def check_column(frame: Any, name: str, option: str) -> None:
    """Raises:
    TableError: there is no column of that name.
    """
    if name in frame.columns:
        return
    raise TableError(f"there is no column {name!r}{suggest(name, frame.columns)}", option)


def suggest(name: str, columns: Iterable[Any]) -> str:
    """Names like this one, or the first ones, as the end of a sentence."""
    known = [str(column) for column in columns]
    folded = {column.casefold().strip(): column for column in known}
    close = [folded[match] for match in get_close_matches(name.casefold().strip(), folded)]
    if close:
        return f"; did you mean {quoted(close, ' or ')}?"
    return f"; there are {shortened(known)}"


def quoted(names: Iterable[Any], joint: str = ", ") -> str:
    return joint.join(repr(str(name)) for name in names)


def shortened(names: list[Any]) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - _SHOWN
    return quoted(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def row_numbers(mask: Any) -> str:
    """The first few rows of a mask, counted from 1 below the header."""
    numbers = [str(i + 1) for i, marked in enumerate(mask) if marked]
    rest = len(numbers) - _SHOWN
    text = ", ".join(numbers[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
    return f"{'row' if len(numbers) == 1 else 'rows'} {text}"


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise TableError(f"{path} is a folder")
    try:
        with path.open("rb") as file:
            start = file.read(8192)
    except FileNotFoundError:
        raise TableError(f"there is no file {path}") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None
    if b"\0" in start:
        raise TableError(f"{path} is not a text file in UTF-8")


def _check_names(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path} has several columns of one name: {shortened(twice)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
