"""How the columns of a table become features: learnt from one table, applied to others.

A numeric column is one feature. Where the table that was learnt from has missing values, they take
the median, and a second feature marks them. Every other column holds categories: one indicator
each, 0 or 1, a missing value being a category of its own. Features that do not vary are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resnet_gp.tables.reading import TableError, quoted, row_numbers, shortened, suggest

Array = NDArray[np.float64]
Kind = Literal["number", "category"]

# The share of different values from which texts are names or prose rather than categories.
_MOST_DISTINCT = 0.5
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(
    rf"\d{{1,4}}([-/.])\d{{1,2}}\1\d{{1,4}}([T ].*)?|\d{{4}}-\d{{2}}"
    rf"|(?=.*\d)(.*\b)?({_MONTHS})[a-z]*\b.*\d{{4}}.*",
    re.IGNORECASE,
)
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers.

    Attributes:
        name: of the column.
        median: of the values that were not missing.
        varies: whether they differed.
        missing: whether some were missing.
    """

    name: str
    median: float
    varies: bool
    missing: bool

    @classmethod
    def learn(cls, column: Any) -> NumberColumn | None:
        """None if there is nothing to learn from the column."""
        values = _numbers_or_refuse(column)
        known = values[~np.isnan(values)]
        if not len(known):
            return None
        varies, missing = bool((known != known[0]).any()), len(known) < len(values)
        if not (varies or missing):
            return None
        median = 2 * float(np.median(known / 2))  # whose two middle values may not be added
        return cls(str(column.name), median, varies, missing)

    @property
    def features(self) -> list[str]:
        value = [self.name] if self.varies else []
        return value + ([_missing(self.name)] if self.missing else [])

    def encode(self, column: Any) -> tuple[Array, list[str]]:
        """``n x features`` values, and what the user should know of them."""
        values = _numbers_or_refuse(column)
        absent = np.isnan(values)
        notes = []
        if absent.any() and not self.missing:
            notes.append(
                f"column {self.name!r}: {absent.sum()} missing, though none were in training; "
                f"the median {self.median:g} is taken"
            )
        parts = [np.where(absent, self.median, values)] if self.varies else []
        parts += [absent.astype(np.float64)] if self.missing else []
        return np.stack(parts, axis=1), notes


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories.

    Attributes:
        name: of the column.
        categories: as texts, sorted; None, at the end, if values were missing.
        codes: whether all were numbers, so that "1" and "1.0" are the same.
    """

    name: str
    categories: tuple[str | None, ...]
    codes: bool

    @classmethod
    def learn(cls, column: Any) -> CategoryColumn | None:
        """None if there is nothing to learn from the column."""
        codes = numbers(column) is not None
        texts = _category_texts(column, codes)
        known = sorted({text for text in texts if text is not None})
        categories = (*known, *([None] if None in set(texts) else []))
        return cls(str(column.name), categories, codes) if len(categories) > 1 else None

    @property
    def features(self) -> list[str]:
        return [
            _missing(self.name) if category is None else f"{self.name}={category}"
            for category in self.categories
        ]

    def encode(self, column: Any) -> tuple[Array, list[str]]:
        """``n x features`` indicators, and what the user should know of them.

        A value that is none of the categories has no indicator.
        """
        texts = _category_texts(column, self.codes)
        places = {category: i for i, category in enumerate(self.categories)}
        values = np.zeros((len(texts), len(places)))
        strange: dict[str, int] = {}
        for row, text in enumerate(texts):
            if text in places:
                values[row, places[text]] = 1.0
            else:
                shown = "missing" if text is None else repr(text)
                strange[shown] = strange.get(shown, 0) + 1
        return values, self._notes(strange)

    def _notes(self, strange: dict[str, int]) -> list[str]:
        return [
            f"column {self.name!r}: {value} was not in training ({count} "
            f"{'row' if count == 1 else 'rows'}), none of the categories is taken"
            for value, count in strange.items()
        ]


_KINDS: dict[str, type[NumberColumn] | type[CategoryColumn]] = {
    "number": NumberColumn,
    "category": CategoryColumn,
}


class Columns:
    """The columns that a model was trained on, and what they become.

    Attributes:
        parts: one for each column that is used.
        unused: names of columns in which nothing varied.
    """

    def __init__(
        self, parts: Sequence[NumberColumn | CategoryColumn], unused: Sequence[str] = ()
    ) -> None:
        self.parts, self.unused = tuple(parts), tuple(unused)
        self.feature_names = _unique([name for part in self.parts for name in part.features])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Columns):
            return NotImplemented
        return (self.parts, self.unused) == (other.parts, other.unused)

    __hash__ = None  # type: ignore[assignment]

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    @property
    def origins(self) -> list[str]:
        """The column of each feature."""
        return [part.name for part in self.parts for _ in part.features]

    @classmethod
    def learn(cls, frame: Any, kinds: Mapping[str, Kind]) -> Columns:
        """From the rows of a data frame.

        Args:
            frame: with a column for each entry of ``kinds``.
            kinds: as ``choose_kinds`` returns them.

        Raises:
            TableError: no column varies, or one of numbers holds something else.
        """
        learnt = {name: _KINDS[kind].learn(frame[name]) for name, kind in kinds.items()}
        parts = [part for part in learnt.values() if part is not None]
        if not parts:
            raise TableError("no column but the target varies: there is nothing to learn from")
        return cls(parts, [name for name, part in learnt.items() if part is None])

    def encode(self, frame: Any) -> tuple[Any, list[str]]:
        """The features of a table.

        Args:
            frame: a data frame with at least the columns of ``names``, in any order.

        Returns:
            A data frame of ``n x len(feature_names)`` floats, and notes for the user: missing
            values and categories that were not there in training.

        Raises:
            TableError: a column is not there, or one of numbers holds something else.
        """
        import pandas as pd

        self._check_presence(frame)
        encoded = [part.encode(frame[part.name]) for part in self.parts]
        values = np.concatenate([values for values, _ in encoded], axis=1)
        notes = [note for _, notes in encoded for note in notes]
        return pd.DataFrame(values, columns=self.feature_names), notes

    def to_json(self) -> dict[str, Any]:
        """Numbers, texts, lists and dictionaries only."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        return {
            "columns": [{"kind": kinds[type(part)], **asdict(part)} for part in self.parts],
            "unused": list(self.unused),
        }

    @classmethod
    def from_json(cls, content: Any) -> Columns:
        """From what ``to_json`` returned.

        Raises:
            ValueError: it is something else.
        """
        try:
            parts = [_part(entry) for entry in content["columns"]]
            unused = [str(name) for name in content["unused"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"this does not describe columns: {error!r}") from error
        return cls(parts, unused)

    def _check_presence(self, frame: Any) -> None:
        missing = [name for name in self.names if name not in frame.columns]
        if not missing:
            return
        hint = suggest(missing[0], frame.columns)
        word = "column" if len(missing) == 1 else "columns"
        raise TableError(f"the model needs the {word} {quoted(missing)}{hint}")


def choose_kinds(frame: Any, categorical: Sequence[str] = ()) -> dict[str, Kind]:
    """Which columns hold numbers, and which categories.

    Args:
        frame: a data frame without the target.
        categorical: names of columns of categories, whatever they look like.

    Raises:
        TableError: a column is neither: dates, numbers with decimal commas, or texts of which
            more than half are different.
    """
    kinds: dict[str, Kind] = {}
    for name in frame.columns:
        column = frame[name]
        if str(name).startswith("Unnamed: ") and column.notna().any():
            raise TableError(
                f"column {frame.columns.get_loc(name) + 1} has no name: name it in the header, or "
                f"--drop {str(name)!r} if it counts the rows"
            )
        if name not in categorical and numbers(column) is not None:
            kinds[name] = "number"
            _numbers_or_refuse(column)
        else:
            _check_categories(column, declared=name in categorical)
            kinds[name] = "category"
    return kinds


def numbers(column: Any) -> Array | None:
    """The values of a column, NaN where one is missing; None if one is not a number."""
    import pandas as pd
    from pandas.api import types

    if types.is_bool_dtype(column.dtype) or types.is_datetime64_any_dtype(column.dtype):
        return None
    if types.is_numeric_dtype(column.dtype):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    values = pd.to_numeric(texts_of(column), errors="coerce").to_numpy(dtype=np.float64)
    return None if (np.isnan(values) & column.notna().to_numpy()).any() else values


def texts_of(column: Any) -> Any:
    """The values of a column as texts, missing ones as they are."""
    return column.astype(object).where(column.isna(), column.astype(object).map(str))


def refuse_decimal_commas(column: Any, option: str | None = None) -> None:
    """Raises:
    TableError: two different values or more are numbers with a decimal comma.
    """
    different = texts_of(column.dropna()).unique()
    found = [text for text in different if _DECIMAL_COMMA.fullmatch(text)]
    if len(found) > 1:
        name = str(column.name)
        raise TableError(
            f"column {name!r} holds decimal commas, as in {found[0]!r}: write points", option
        )


def _numbers_or_refuse(column: Any) -> Array:
    values = numbers(column)
    if values is None:
        row, text = first_text(column)
        raise TableError(f"column {str(column.name)!r} holds {text!r} in row {row}, not a number")
    infinite = np.isinf(values)
    if infinite.any():
        raise TableError(f"column {str(column.name)!r} is infinite in {row_numbers(infinite)}")
    return values


def first_text(column: Any) -> tuple[int, str]:
    """Where the first value is that is not a number, and what it says."""
    import pandas as pd

    values = pd.to_numeric(texts_of(column), errors="coerce").isna() & column.notna()
    row = int(np.flatnonzero(values.to_numpy())[0])
    return row + 1, str(column.iloc[row])


def _check_categories(column: Any, declared: bool) -> None:
    values = texts_of(column.dropna())
    if not len(values):
        return
    name, different = str(column.name), values.unique()
    if not declared and all(_DATE.fullmatch(text) for text in different):
        raise TableError(
            f"column {name!r} holds dates such as {different[0]!r}: write them as numbers (a year, "
            f"days since some day), or --drop {name!r}"
        )
    if not declared:
        refuse_decimal_commas(column)
    if len(different) <= max(2, _MOST_DISTINCT * len(values)):
        return
    if not declared and _mostly_numbers(values):
        row, text = first_text(column)
        raise TableError(
            f"column {name!r} holds numbers, but {text!r} in row {row}: leave fields empty where a "
            f"value is missing, or --drop {name!r}"
        )
    raise TableError(
        f"column {name!r} holds {len(different)} different values in {len(values)} rows, such as "
        f"{shortened(list(different)[:2])}: too many for categories; --drop {name!r}"
    )


def _mostly_numbers(values: Any) -> bool:
    import pandas as pd

    return bool(pd.to_numeric(values, errors="coerce").notna().mean() > 0.5)


def _category_texts(column: Any, codes: bool) -> list[str | None]:
    absent = column.isna().to_numpy()
    texts = [None if gone else text for text, gone in zip(texts_of(column), absent, strict=True)]
    return [None if text is None else _code(text) for text in texts] if codes else texts


def _code(text: str) -> str:
    """One text for each number; other texts as they are."""
    try:
        value = float(text)
    except ValueError:
        return text
    return str(int(value)) if value.is_integer() else repr(value)


def _missing(name: str) -> str:
    return f"{name} is missing"


def _unique(names: list[str]) -> list[str]:
    """The same names, numbered where one comes again."""
    taken: set[str] = set()
    result = []
    for name in names:
        free, count = name, 1
        while free in taken:
            count += 1
            free = f"{name} ({count})"
        taken.add(free)
        result.append(free)
    return result


def _part(entry: dict[str, Any]) -> NumberColumn | CategoryColumn:
    fields = {name: value for name, value in entry.items() if name != "kind"}
    if entry["kind"] == "category":
        fields["categories"] = tuple(fields["categories"])
    return _KINDS[entry["kind"]](**fields)
