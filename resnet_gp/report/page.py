"""One HTML page, figures and ``results.json`` of any list of results.

Knows nothing of networks: whoever has results with checks and a figure gets a report.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import itertools
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from resnet_gp.report.checks import LEVEL, Check, Verdict, judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RESOLUTION = 130


class Reportable(Protocol):
    """A dataclass with checks, words about them and a figure, such as ``Result``."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def theorem(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def checks(self) -> tuple[Check, ...]: ...

    def plot(self) -> Figure: ...


def write_report(
    folder: Path,
    results: Sequence[Reportable],
    *,
    title: str,
    facts: dict[str, Any],
    level: float = LEVEL,
) -> list[Verdict]:
    """Write ``report.html``, ``results.json`` and ``figures/*.png`` and ``.svg``.

    Args:
        folder: where; it is made if it is not there.
        results: all results; their checks are judged as one family.
        title: of the page.
        facts: about the run (seed, device, versions, ...), for the page and the numbers.
        level: of the family.

    Returns:
        The verdicts, in the order of the results' checks.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    verdicts = judge([check for result in results for check in result.checks], level)
    left = iter(verdicts)
    by_result = [list(itertools.islice(left, len(result.checks))) for result in results]
    sections = [
        _section(result, own, _save_figure(result, folder / "figures"))
        for result, own in zip(results, by_result, strict=True)
    ]
    rows = [
        row for result, own in zip(results, by_result, strict=True) for row in _summary(result, own)
    ]
    failed = sum(not verdict.passed for verdict in verdicts)
    page = Template(files(__package__).joinpath("report.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        verdict=_verdict_text(len(verdicts), failed, level),
        verdict_class="fail" if failed else "pass",
        rows="\n".join(rows),
        sections="\n".join(sections),
        facts="\n".join(
            f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(_plain(value))}</dd>"
            for key, value in facts.items()
        ),
    )
    (folder / "report.html").write_text(page, "utf-8")
    content = {
        "title": title,
        "passed": not failed,
        "level": level,
        **facts,
        "checks": [
            _check_row(result, v)
            for result, own in zip(results, by_result, strict=True)
            for v in own
        ],
        "experiments": {result.name: _numbers(result) for result in results},
    }
    text = json.dumps(_jsonable(content), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", "utf-8")
    return verdicts


def _verdict_text(count: int, failed: int, level: float) -> str:
    judged = (
        f"{count} checks, judged together by Holm's method at level {level:g}: if every prediction "
        f"is true, the chance that any of them fails is at most {level:.0%}."
    )
    head = "Every prediction holds." if not failed else f"{failed} of {count} checks failed."
    return f"<strong>{head}</strong> {judged}"


def _save_figure(result: Reportable, folder: Path) -> str:
    """The figure in both formats; its PNG as a data address."""
    figure = result.plot()
    figure.savefig(folder / f"{result.name}.svg")
    figure.set_layout_engine("none")  # once is enough
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_RESOLUTION)
    (folder / f"{result.name}.png").write_bytes(picture.getvalue())
    return f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"


def _summary(result: Reportable, verdicts: Sequence[Verdict]) -> list[str]:
    """A row of the verdict table for each group of checks: its least likely member."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.check.group or verdict.check.name, []).append(verdict)
    rows = []
    for name, members in groups.items():
        worst = min(members, key=lambda verdict: (verdict.passed, verdict.check.p))
        count = f" <small>worst of {len(members)}</small>" if len(members) > 1 else ""
        measured = f'<a href="#{result.name}">{html.escape(name)}</a>{count}'
        rows.append(_row(html.escape(result.theorem), measured, worst))
    return rows


def _section(result: Reportable, verdicts: Sequence[Verdict], picture: str) -> str:
    rows = "\n".join(_row(None, html.escape(v.check.name), v) for v in verdicts)
    return (
        f'<section id="{result.name}"><h2>{html.escape(result.title)}</h2>'
        f'<p class="theorem">{html.escape(result.theorem)}</p><p>{html.escape(result.summary)}</p>'
        f'<div class="wide"><img alt="{html.escape(result.title)}" src="{picture}"></div>'
        f"<details><summary>All {len(verdicts)} checks</summary>"
        '<div class="wide"><table><thead><tr><th>measured</th><th class="number">estimate</th>'
        '<th class="number">prediction</th><th class="number">z</th><th>verdict</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )


def _row(theorem: str | None, measured: str, verdict: Verdict) -> str:
    check = verdict.check
    word = "pass" if verdict.passed else "fail"
    relation = {"equals": "", "at most": "≤ ", "differs": "≠ "}[check.kind]
    prediction = "" if check.prediction is None else f"{relation}{_number(check.prediction)}"
    z = (
        ""
        if check.z is None
        else f"{check.z:+.1f}"
        if check.p_value is None
        else f"p {check.p_value:.2g}"
    )
    cells = [
        f'<td class="measured">{measured}</td>',
        f'<td class="number" data-label="estimate">{_with_error(check)}</td>',
        f'<td class="number" data-label="prediction">{prediction}</td>',
        f'<td class="number" data-label="z">{z}</td>',
        f'<td><span class="{word}">{word}</span></td>',
    ]
    if theorem is not None:
        cells.insert(0, f'<td class="theorem">{theorem}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _with_error(check: Check) -> str:
    if not check.standard_error:
        return _number(check.estimate)
    digits = max(0, 1 - math.floor(math.log10(check.standard_error)))
    return f"{check.estimate:.{digits}f} ± {check.standard_error:.{digits}f}"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("e-0", "e-")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _check_row(result: Reportable, verdict: Verdict) -> dict[str, Any]:
    check = verdict.check
    return {
        "experiment": result.name,
        "theorem": result.theorem,
        "name": check.name,
        "kind": check.kind,
        "estimate": check.estimate,
        "standard_error": check.standard_error,
        "prediction": check.prediction,
        "z": check.z,
        "p": check.p,
        "adjusted_p": verdict.adjusted_p,
        "passed": verdict.passed,
    }


def _numbers(result: Reportable) -> dict[str, Any]:
    """Every field of a result but its checks, which are listed for themselves."""
    fields = dataclasses.fields(result)  # type: ignore[arg-type]
    return {f.name: getattr(result, f.name) for f in fields if f.name != "checks"}


def _jsonable(value: Any) -> Any:
    """Plain lists and numbers; null for what JSON cannot say."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
