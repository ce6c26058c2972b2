"""How the texts of a table are read: which columns hold numbers, and which categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from resnet_gp.columns.wording import quoted, suggest
from resnet_gp.fitting.standardise import is_constant
from resnet_gp.tables.kinds import Kind
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.values import (
    integer_code,
    numbers,
    numbers_or_refuse,
    texts_of,
    truth_as_numbers,
)


@dataclass(frozen=True)
class ColumnType:
    """What a column holds.

    Attributes:
        codes: whether all its categories were numbers; "1" and "1.0" are then the same category.
    """

    name: str
    kind: Kind
    codes: bool = False

    def read(self, column: Any) -> Any:
        """A series of floats, or of texts with pandas' dtype of categories."""
        import pandas as pd

        if self.kind == "number":
            return pd.Series(numbers_or_refuse(truth_as_numbers(column)), column.index)
        texts = texts_of(column)
        if self.codes:
            texts = texts.map(integer_code, na_action="ignore")
        return texts.astype("category")


@dataclass(frozen=True)
class Schema:
    """The columns that a model uses."""

    columns: tuple[ColumnType, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @classmethod
    def learn(cls, frame: Any, kinds: Mapping[str, Kind]) -> tuple[Schema, list[str]]:
        """Learn from a table of texts with a column for each entry of ``kinds``.

        Returns:
            The schema of the columns that vary, and the names of the others.

        Raises:
            TableError: no column varies, or a numeric column holds a text or an infinite number.
        """
        used, unused = [], []
        for name, kind in kinds.items():
            column = frame[name]
            codes = kind == "category" and numbers(column) is not None
            one = ColumnType(name, kind, codes)
            if _varies(one.read(column)):
                used.append(one)
            else:
                unused.append(name)
        if not used:
            raise TableError("no column but the target varies: there is nothing to learn from")
        return cls(tuple(used)), unused

    def read(self, frame: Any) -> Any:
        """A data frame of numbers and categories, from a table with columns in any order.

        Raises:
            TableError: a column is missing, or a numeric one holds a text or an infinite number.
        """
        import pandas as pd

        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            hint = suggest(missing[0], frame.columns)
            word = "column" if len(missing) == 1 else "columns"
            raise TableError(f"the model needs the {word} {quoted(missing)}{hint}")
        return pd.DataFrame(
            {column.name: column.read(frame[column.name]) for column in self.columns}
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return a description made of lists, dictionaries, texts and truth values."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, content: Any) -> Schema:
        """Restore from the result of ``to_json``.

        Raises:
            TypeError: ``content`` is something else.
        """
        return cls(tuple(ColumnType(**entry) for entry in content))


def _varies(column: Any) -> bool:
    """Whether values differ by more than rounding errors, or only some are missing."""
    known = column.dropna()
    if not len(known) or len(known) < len(column):
        return bool(len(known))
    if column.dtype.kind == "f":
        return not bool(is_constant(known.min(), known.max()))
    return bool(known.nunique() > 1)
