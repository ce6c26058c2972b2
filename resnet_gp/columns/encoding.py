"""Encoders from columns to features, learnt from one table and applied to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_gp.columns.kinds import choose_kind
from resnet_gp.columns.values import Column, Objects, kind_of, kinds_of
from resnet_gp.fitting.standardise import is_constant

Array = NDArray[np.float64]
Category = str | int | float | bool | None
_CATEGORIES = ("texts", "numbers")  # kinds of values


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers: missing ones take the median, and a second feature marks them.

    Attributes:
        median: of the known values.
        has_value: whether the values are a feature: if some are missing, only where the others
            vary by more than rounding errors.
        missing: whether some values were missing, not all.
    """

    name: str
    median: float
    has_value: bool
    missing: bool

    @classmethod
    def learn(cls, column: Column) -> NumberColumn:
        """Learn from training values; ValueError if one is no number, or infinite."""
        values = column.numbers()
        known = values[~np.isnan(values)]
        if not len(known):
            return cls(column.name, 0.0, False, False)
        missing = len(known) < len(values)
        has_value = not missing or not bool(is_constant(known.min(), known.max()))
        median = 2 * float(np.median(known / 2))  # the middle ones may overflow
        return cls(column.name, median, has_value, missing)

    @property
    def is_plain(self) -> bool:
        """Whether the values are the only feature."""
        return self.has_value and not self.missing

    @property
    def features(self) -> list[str]:
        return [self.name] * self.has_value + [_missing(self.name)] * self.missing

    def encode(self, column: Column) -> tuple[Array, list[str]]:
        """Return ``n x features`` values, and notes for the user."""
        if not self.features:
            return np.empty((len(column.data), 0)), []
        values = column.numbers()
        absent = np.isnan(values)
        notes = []
        if self.is_plain and absent.any():
            notes.append(
                f"column {self.name!r}: {absent.sum()} missing, though none were in training; "
                f"the median {self.median:g} is taken"
            )
        parts = [np.where(absent, self.median, values)] * self.has_value
        parts += [absent.astype(np.float64)] * self.missing
        return np.reshape(parts, (-1, len(values))).T, notes


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories: each, and a missing value, has an indicator, 0 or 1.

    Attributes:
        categories: sorted texts or numbers, with None at the end if values were missing.
    """

    name: str
    categories: tuple[Category, ...]

    @classmethod
    def learn(cls, column: Column) -> CategoryColumn:
        """Learn from training values, texts or numbers."""
        different = set(map(_plain, column.objects()))
        known = sorted(different - {None})
        return cls(column.name, (*known, *([None] if None in different else [])))

    @property
    def features(self) -> list[str]:
        """Names; none if there is one category only."""
        if len(self.categories) < 2:
            return []
        return [
            _missing(self.name) if one is None else f"{self.name}={_written(one)}"
            for one in self.categories
        ]

    def encode(self, column: Column) -> tuple[Array, list[str]]:
        """Return ``n x features`` indicators, and notes for the user.

        For an unknown category all indicators are 0.
        """
        objects = column.objects()
        if len(self.categories) < 2:
            return np.zeros((len(objects), 0)), []
        places = {category: i for i, category in enumerate(self.categories)}
        types = set(map(type, objects))
        known = {one for one in types if one is type(None) or kind_of(one) in _CATEGORIES}
        found = np.array(
            [places.get(_plain(one), -1) if type(one) in known else -1 for one in objects],
            dtype=np.int64,
        )
        rows = np.flatnonzero(found >= 0)
        values = np.zeros((len(objects), len(places)))
        values[rows, found[rows]] = 1.0
        return values, self._notes(objects, found < 0)

    def _notes(self, objects: Objects, unknown: NDArray[np.bool_]) -> list[str]:
        known = kinds_of(np.array(self.categories, dtype=object))
        strange = kinds_of(objects) - known if known else set()
        if strange:
            here, before = " and ".join(sorted(strange)), " and ".join(sorted(known))
            return [
                f"column {self.name!r} holds {here}, and held only {before} in training: the "
                f"{here} are unknown categories; convert the column"
            ]
        counts = Counter(
            "missing" if one is None else repr(_plain(one)) for one in objects[unknown]
        )
        return [
            f"column {self.name!r}: {value} was not in training ({count} "
            f"{'row' if count == 1 else 'rows'}) and counts as none of the categories"
            for value, count in counts.items()
        ]


_KINDS: dict[str, type[NumberColumn] | type[CategoryColumn]] = {
    "number": NumberColumn,
    "category": CategoryColumn,
}


@dataclass(frozen=True)
class Columns:
    """How the columns of a table become features.

    Attributes:
        parts: one encoder for each column.
    """

    parts: tuple[NumberColumn | CategoryColumn, ...]

    @classmethod
    def learn(cls, table: Sequence[Column], nominal: Collection[int] = ()) -> Columns:
        """Learn the encoding of a table; ``nominal`` are indices of columns of categories.

        Raises:
            ValueError: a column holds neither numbers nor categories, or an infinite number.
        """
        kinds = [choose_kind(column, i in nominal) for i, column in enumerate(table)]
        learnt = (_KINDS[kind].learn(one) for kind, one in zip(kinds, table, strict=True))
        return cls(tuple(learnt))

    @property
    def feature_names(self) -> list[str]:
        """The name of each feature, such as "age", "age is missing" or "city=Oslo"."""
        return _unique([name for part in self.parts for name in part.features])

    @property
    def origins(self) -> list[str]:
        """The column of each feature."""
        return [part.name for part in self.parts for _ in part.features]

    @property
    def unused(self) -> list[str]:
        """Columns of one category only, or without any value: they become no feature."""
        return [part.name for part in self.parts if not part.features]

    @property
    def nominal(self) -> list[int]:
        """Indices of the columns of categories."""
        return [i for i, part in enumerate(self.parts) if isinstance(part, CategoryColumn)]

    @property
    def is_identity(self) -> bool:
        """Whether the features are the columns as they are."""
        return all(isinstance(one, NumberColumn) and one.is_plain for one in self.parts)

    @property
    def indicators(self) -> list[slice]:
        """The features of each column of categories that has any."""
        ends = np.cumsum([len(part.features) for part in self.parts]).tolist()
        return [
            slice(end - len(part.features), end)
            for end, part in zip(ends, self.parts, strict=True)
            if isinstance(part, CategoryColumn) and part.features
        ]

    @property
    def groups(self) -> tuple[int, ...]:
        """A number for each feature, which the indicators of one column share."""
        shared = np.zeros(len(self.origins), dtype=np.int64)
        for one in self.indicators:
            shared[one][1:] = 1
        return tuple((np.arange(len(shared)) - np.cumsum(shared)).tolist())

    def encode(self, table: Sequence[Column]) -> tuple[Array, list[str]]:
        """Turn a table with the same columns, in the same order, into features.

        Returns:
            ``n x len(feature_names)`` values, and notes for the user about missing values and
            categories that did not occur in training.

        Raises:
            ValueError: a column of numbers holds something else, or an infinite number.
        """
        encoded = [part.encode(one) for part, one in zip(self.parts, table, strict=True)]
        values = np.concatenate([values for values, _ in encoded], axis=1)
        return values, [note for _, notes in encoded for note in notes]

    def to_json(self) -> list[dict[str, Any]]:
        """Return a description made of dictionaries, lists, texts and numbers."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        return [{"kind": kinds[type(part)], **asdict(part)} for part in self.parts]

    @classmethod
    def from_json(cls, content: Any) -> Columns:
        """Restore from the result of ``to_json``.

        Raises:
            ValueError: ``content`` is something else.
        """
        try:
            return cls(tuple(_part(**entry) for entry in content))
        except (KeyError, TypeError) as error:
            raise ValueError(f"this does not describe columns: {error!r}") from error


def _missing(name: str) -> str:
    return f"{name} is missing"


def _plain(value: Any) -> Any:
    """A category, a text, a number or None, as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, str | int | float) else float(value)


def _written(category: Any) -> str:
    whole = isinstance(category, float) and category.is_integer()
    return str(int(category) if whole else category)


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


def _part(kind: str, **fields: Any) -> NumberColumn | CategoryColumn:
    if kind == "category":
        fields["categories"] = tuple(fields["categories"])
    return _KINDS[kind](**fields)
