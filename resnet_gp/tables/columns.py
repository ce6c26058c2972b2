"""Encoders from columns to features, learnt from one table and applied to others.

A numeric column is one feature. Where the training table has missing values, they take the median,
and a second feature marks them. Any other column holds categories: each has an indicator, 0 or 1,
and a missing value is a category. Columns that do not vary are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.fitting.standardise import is_constant
from resnet_gp.tables.kinds import Kind
from resnet_gp.tables.reading import TableError, quoted, suggest
from resnet_gp.tables.values import integer_code, numbers, numbers_or_refuse, texts_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers.

    Attributes:
        name: name of the column.
        median: median of the known values.
        varies: whether the known values vary by more than rounding errors.
        missing: whether some values were missing.
    """

    name: str
    median: float
    varies: bool
    missing: bool

    @classmethod
    def learn(cls, column: Any) -> NumberColumn | None:
        """Learn from training values; None if nothing varies."""
        values = numbers_or_refuse(column)
        known = values[~np.isnan(values)]
        if not len(known):
            return None
        varies, missing = not is_constant(known.min(), known.max()), len(known) < len(values)
        if not (varies or missing):
            return None
        median = 2 * float(np.median(known / 2))  # the middle ones may overflow
        return cls(str(column.name), median, varies, missing)

    @property
    def features(self) -> list[str]:
        value = [self.name] if self.varies else []
        return value + ([_missing(self.name)] if self.missing else [])

    def encode(self, column: Any) -> tuple[Array, list[str]]:
        """Return ``n x features`` values, and notes for the user."""
        values = numbers_or_refuse(column)
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
        name: name of the column.
        categories: sorted texts, with None at the end if values were missing.
        codes: whether all were numbers; "1" and "1.0" are then the same category.
    """

    name: str
    categories: tuple[str | None, ...]
    codes: bool

    @classmethod
    def learn(cls, column: Any) -> CategoryColumn | None:
        """Learn from training values; None if there is one category only."""
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
        """Return ``n x features`` indicators, and notes for the user.

        For an unknown category all indicators are 0.
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
            f"{'row' if count == 1 else 'rows'}) and counts as none of the categories"
            for value, count in strange.items()
        ]


_KINDS: dict[str, type[NumberColumn] | type[CategoryColumn]] = {
    "number": NumberColumn,
    "category": CategoryColumn,
}


class Columns:
    """Encoder of a whole table.

    Attributes:
        parts: one encoder for each column that is used.
        unused: names of the columns that did not vary.
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
        """Learn the encoding of a data frame.

        Args:
            frame: the training rows, with a column for each entry of ``kinds``.
            kinds: as ``choose_kinds`` returns them.

        Raises:
            TableError: no column varies, or a numeric column holds a text or an infinite number.
        """
        learnt = {name: _KINDS[kind].learn(frame[name]) for name, kind in kinds.items()}
        parts = [part for part in learnt.values() if part is not None]
        if not parts:
            raise TableError("no column but the target varies: there is nothing to learn from")
        return cls(parts, [name for name, part in learnt.items() if part is None])

    def encode(self, frame: Any) -> tuple[Any, list[str]]:
        """Turn a table into features.

        Args:
            frame: a data frame with at least the columns of ``names``, in any order.

        Returns:
            A data frame of ``n x len(feature_names)`` floats, and notes for the user about missing
            values and categories that did not occur in training.

        Raises:
            TableError: a column is not there, or a numeric column holds a text or an infinite
                number.
        """
        import pandas as pd

        self._check_presence(frame)
        encoded = [part.encode(frame[part.name]) for part in self.parts]
        values = np.concatenate([values for values, _ in encoded], axis=1)
        notes = [note for _, notes in encoded for note in notes]
        return pd.DataFrame(values, columns=self.feature_names), notes

    def to_json(self) -> dict[str, Any]:
        """Return a description made of dictionaries, lists, texts and numbers."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        return {
            "columns": [{"kind": kinds[type(part)], **asdict(part)} for part in self.parts],
            "unused": list(self.unused),
        }

    @classmethod
    def from_json(cls, content: Any) -> Columns:
        """Restore from the result of ``to_json``.

        Raises:
            ValueError: ``content`` is something else.
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


def _missing(name: str) -> str:
    return f"{name} is missing"


def _unique(names: list[str]) -> list[str]:
    """Append a number to every name that is already taken."""
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


def _category_texts(column: Any, codes: bool) -> list[str | None]:
    known = zip(texts_of(column), column.notna().to_numpy(), strict=True)
    texts = [text if there else None for text, there in known]
    return [text and integer_code(text) for text in texts] if codes else texts


def _part(entry: dict[str, Any]) -> NumberColumn | CategoryColumn:
    fields = {name: value for name, value in entry.items() if name != "kind"}
    if entry["kind"] == "category":
        fields["categories"] = tuple(fields["categories"])
    return _KINDS[entry["kind"]](**fields)
