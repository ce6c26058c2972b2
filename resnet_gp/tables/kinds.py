"""Which columns of a table of texts hold numbers, and which hold categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resnet_gp.columns.kinds import Kind, are_dates, are_too_many
from resnet_gp.columns.wording import shortened
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.values import (
    first_text,
    is_mostly_numbers,
    numbers,
    numbers_or_refuse,
    refuse_commas,
    texts_of,
    truth_as_numbers,
)


def choose_kinds(frame: Any, categorical: Sequence[str] = ()) -> dict[str, Kind]:
    """Decide for each column but the target whether it holds numbers or categories.

    Columns named in ``categorical`` hold categories even if they look like numbers; "True" and
    "False" are numbers.

    Raises:
        TableError: a column is neither: dates, numbers with commas, or texts of which more than
            half are different.
    """
    kinds: dict[str, Kind] = {}
    for name in frame.columns:
        column = frame[name]
        truth = truth_as_numbers(column)
        if str(name).startswith("Unnamed: ") and column.notna().any():
            raise TableError(
                f"column {frame.columns.get_loc(name) + 1} has no name: name it in the header, or "
                f"--drop {str(name)!r} if it counts the rows"
            )
        if name not in categorical and numbers(truth) is not None:
            kinds[name] = "number"
            numbers_or_refuse(truth)
        else:
            _check_categories(column, declared=name in categorical)
            kinds[name] = "category"
    return kinds


def _check_categories(column: Any, declared: bool) -> None:
    values = texts_of(column.dropna())
    if not len(values):
        return
    name, different = str(column.name), values.unique()
    if not declared and are_dates(different):
        raise TableError(
            f"column {name!r} holds dates such as {different[0]!r}: write them as numbers (a year, "
            f"days since some day), or --drop {name!r}, or --categorical {name!r} if they are none"
        )
    if not declared:
        refuse_commas(column)
    if not are_too_many(len(different), len(values)):
        return
    if not declared and is_mostly_numbers(column):
        row, text = first_text(column)
        raise TableError(
            f"column {name!r} holds numbers, but {text!r} in row {row}: leave fields empty where a "
            f"value is missing, or --drop {name!r}"
        )
    raise TableError(
        f"column {name!r} holds {len(different)} different values in {len(values)} rows, such as "
        f"{shortened(list(different)[:2])}: too many for categories; --drop {name!r}"
    )
