"""Encoders from columns to features, learnt from one table and applied to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
    """A column of numbers: missing ones take the median, and a second feature marks them.

    Attributes:
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
    """A column of categories: each, and a missing value, has an indicator, 0 or 1.

    Attributes:
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
        strange: Counter[str] = Counter()
        for row, text in enumerate(texts):
            if text in places:
                values[row, places[text]] = 1.0
            else:
                strange["missing" if text is None else repr(text)] += 1
        notes = [
            f"column {self.name!r}: {value} was not in training ({count} "
            f"{'row' if count == 1 else 'rows'}) and counts as none of the categories"
            for value, count in strange.items()
        ]
        return values, notes


_KINDS: dict[str, type[NumberColumn] | type[CategoryColumn]] = {
    "number": NumberColumn,
    "category": CategoryColumn,
}


@dataclass(frozen=True)
class Columns:
    """Encoder of a whole table.

    Attributes:
        parts: one encoder for each column that is used.
        unused: names of the columns that did not vary.
    """

    parts: tuple[NumberColumn | CategoryColumn, ...]
    unused: tuple[str, ...] = ()

    @property
    def feature_names(self) -> list[str]:
        return _unique([name for part in self.parts for name in part.features])

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    @property
    def origins(self) -> list[str]:
        """The column of each feature."""
        return [part.name for part in self.parts for _ in part.features]

    @classmethod
    def learn(cls, frame: Any, kinds: Mapping[str, Kind]) -> Columns:
        """Learn the encoding of a data frame with a column for each entry of ``kinds``.

        Raises:
            TableError: no column varies, or a numeric column holds a text or an infinite number.
        """
        learnt = {name: _KINDS[kind].learn(frame[name]) for name, kind in kinds.items()}
        parts = tuple(part for part in learnt.values() if part is not None)
        if not parts:
            raise TableError("no column but the target varies: there is nothing to learn from")
        return cls(parts, tuple(name for name, part in learnt.items() if part is None))

    def encode(self, frame: Any) -> tuple[Any, list[str]]:
        """Turn a table, whose columns may be in any order, into features.

        Returns:
            A data frame of ``n x len(feature_names)`` floats, and notes for the user about missing
            values and categories that did not occur in training.

        Raises:
            TableError: a column is missing, or a numeric one holds a text or an infinite number.
        """
        import pandas as pd

        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            hint = suggest(missing[0], frame.columns)
            word = "column" if len(missing) == 1 else "columns"
            raise TableError(f"the model needs the {word} {quoted(missing)}{hint}")
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
            parts = tuple(_part(entry) for entry in content["columns"])
            return cls(parts, tuple(str(name) for name in content["unused"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"this does not describe columns: {error!r}") from error


def _missing(name: str) -> str:
    return f"{name} is missing"


def _unique(names: list[str]) -> list[str]:
    """Append a number to every name that is already taken."""
    result: dict[str, None] = {}
    for name in names:
        free, count = name, 1
        while free in result:
            count += 1
            free = f"{name} ({count})"
        result[free] = None
    return list(result)


def _category_texts(column: Any, codes: bool) -> list[str | None]:
    texts = [text if isinstance(text, str) else None for text in texts_of(column)]
    return [text and integer_code(text) for text in texts] if codes else texts


def _part(entry: dict[str, Any]) -> NumberColumn | CategoryColumn:
    fields = {name: value for name, value in entry.items() if name != "kind"}
    if entry["kind"] == "category":
        fields["categories"] = tuple(fields["categories"])
    return _KINDS[entry["kind"]](**fields)
