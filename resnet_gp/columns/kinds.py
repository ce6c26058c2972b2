"""Which columns of a table hold numbers, and which hold categories."""

from __future__ import annotations

import re
from datetime import date, time, timedelta
from typing import Any, Literal

import numpy as np

from resnet_gp.columns.values import Column, Objects, kind_of, kinds_of
from resnet_gp.columns.wording import first_of

Kind = Literal["number", "category"]

# With a larger share of different values, texts are names or prose rather than categories.
_MOST_DISTINCT = 0.5
_MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?"
    r"|oct(ober)?|nov(ember)?|dec(ember)?)\.?"
)
_DAY, _WEEKDAY = r"\d{1,2}(st|nd|rd|th)?\.?", r"((mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_DATE = re.compile(
    rf"(\d{{4}}([-/.])\d{{1,2}}\2\d{{1,2}}|\d{{1,2}}([-/.])\d{{1,2}}\3\d{{4}}"
    rf"|\d{{1,2}}/\d{{1,2}}/\d{{2}}|\d{{2}}([-.])\d{{2}}\4\d{{2}}|\d{{4}}[-/]\d{{2}}"
    rf"|{_WEEKDAY}({_DAY}[ -]+)?{_MONTH}[ -]+({_DAY},?[ -]+)?\d{{4}})([T ,].*)?",
    re.IGNORECASE,
)
_SKRUB = "skrub.tabular_pipeline(model)"


def choose_kind(column: Column, nominal: bool) -> Kind:
    """Decide whether a column holds numbers or categories.

    Numbers are categories if the column is declared ``nominal`` or of pandas' category dtype, and
    texts always are.

    Raises:
        ValueError: the column is neither: dates, prose, a mixture, or values of other types.
    """
    declared = nominal or column.has_categories
    if column.has_numbers:
        return "category" if declared else "number"
    values = column.objects()
    kinds = kinds_of(values)
    if not kinds <= {"texts", "numbers"}:
        raise ValueError(f"column {column.name!r} of X {_strange(values)}")
    if len(kinds) > 1:
        raise ValueError(
            f"column {column.name!r} of X mixes numbers and texts: convert it, by "
            "pandas.to_numeric or astype(str)"
        )
    if kinds == {"texts"} and not declared:
        _check_texts(column.name, [text for text in values if text is not None])
    return "category" if declared or kinds == {"texts"} else "number"


def are_dates(texts: Any) -> bool:
    """Whether all texts look like dates."""
    return all(_DATE.fullmatch(text) for text in texts)


def are_too_many(distinct: int, values: int) -> bool:
    """Whether so many different texts, among so many, are no categories."""
    return distinct > max(2, _MOST_DISTINCT * values)


def _check_texts(name: str, texts: list[str]) -> None:
    different = list(dict.fromkeys(texts))
    if are_dates(different):
        raise ValueError(
            f"column {name!r} of X holds dates such as {different[0]!r}: write them as numbers (a "
            f"year, days since some day), or take {_SKRUB}; if they are categories, name the "
            "column in categorical_features"
        )
    if not are_too_many(len(different), len(texts)):
        return
    shown = first_of([repr(text) for text in different[:2]])
    numbers = " (numbers: convert them by pandas.to_numeric)" if _is_number(different[0]) else ""
    raise ValueError(
        f"column {name!r} of X holds {len(different)} different texts in {len(texts)} rows, such "
        f"as {shown}{numbers}, too many for categories: drop it, name it in categorical_features, "
        f"or take {_SKRUB}, which encodes prose"
    )


def _strange(values: Objects) -> str:
    known = ("texts", "numbers")
    value = next(one for one in values if one is not None and kind_of(type(one)) not in known)
    if isinstance(value, date | time | timedelta | np.datetime64 | np.timedelta64):
        return (
            f"holds dates or times such as {str(value)!r}: write them as numbers (a year, days "
            f"since some day), or take {_SKRUB}"
        )
    return f"holds values of type {type(value).__name__}: convert it to numbers or texts"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
