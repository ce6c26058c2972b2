"""Reports: one HTML page, figures and ``results.json`` for a list of results."""

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
from typing import Any

import numpy as np

from resnet_gp.report.checks import LEVEL, Check, Verdict, judge
from resnet_gp.report.result import ExperimentResult

_RESOLUTION = 130


def write_report(
    folder: Path,
    results: Sequence[ExperimentResult],
    *,
    title: str,
    facts: dict[str, Any],
    level: float = LEVEL,
) -> list[Verdict]:
    """Write ``report.html``, ``results.json`` and ``figures/*.png`` and ``.svg``.

    Args:
        folder: created if it does not exist.
        results: their checks are judged as one family, at ``level``.
        title: heading of the page.
        facts: settings of the run (seed, device, versions, ...), for the page and the JSON file.

    Returns:
        The verdicts, in the order of the results' checks.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    verdicts = judge([check for result in results for check in result.checks], level)
    left = iter(verdicts)
    judged = [(result, list(itertools.islice(left, len(result.checks)))) for result in results]
    sections = [
        _section(result, own, _save_figure(result, folder / "figures")) for result, own in judged
    ]
    rows = [row for result, own in judged for row in _summary(result, own)]
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
        "checks": [_check_row(result, verdict) for result, own in judged for verdict in own],
        "experiments": {result.name: _numbers(result) for result in results},
    }
    text = json.dumps(_jsonable(content), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", "utf-8")
    return verdicts


def _verdict_text(count: int, failed: int, level: float) -> str:
    head = "Every prediction holds." if not failed else f"{failed} of {count} checks failed."
    return (
        f"<strong>{head}</strong> {count} checks, judged together by Holm's method at level "
        f"{level:g}: if every prediction is true, the probability that any check of = or ≤ fails "
        f"is at most {level:.0%}; a check of ≠ passes only if the data rule equality out."
    )


def _save_figure(result: ExperimentResult, folder: Path) -> str:
    """Save the figure as SVG and PNG; returns the PNG as a data URL."""
    figure = result.plot()
    figure.savefig(folder / f"{result.name}.svg")
    figure.set_layout_engine("none")  # keep the layout of the first drawing
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_RESOLUTION)
    (folder / f"{result.name}.png").write_bytes(picture.getvalue())
    return f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"


def _summary(result: ExperimentResult, verdicts: Sequence[Verdict]) -> list[str]:
    """Rows of the verdict table: the least likely check of each group."""
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


def _section(result: ExperimentResult, verdicts: Sequence[Verdict], picture: str) -> str:
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
    z = "" if check.z is None else f"{check.z:+.1f}"
    if check.p_value is not None:
        z = f"p {check.p_value:.2g}"
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
    if not check.standard_error or not math.isfinite(check.standard_error):
        return _number(check.estimate)
    digits = max(0, 1 - math.floor(math.log10(check.standard_error)))
    return f"{check.estimate:.{digits}f} ± {check.standard_error:.{digits}f}"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("e-0", "e-")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _check_row(result: ExperimentResult, verdict: Verdict) -> dict[str, Any]:
    names = ("name", "kind", "estimate", "standard_error", "prediction", "z", "p")
    return {
        "experiment": result.name,
        "theorem": result.theorem,
        **{name: getattr(verdict.check, name) for name in names},
        "adjusted_p": verdict.adjusted_p,
        "passed": verdict.passed,
    }


def _numbers(result: ExperimentResult) -> dict[str, Any]:
    """The fields of a result except its checks, which the JSON file lists separately."""
    names = (field.name for field in dataclasses.fields(result) if field.name != "checks")
    return {name: getattr(result, name) for name in names}


def _jsonable(value: Any) -> Any:
    """Convert to lists, dicts and numbers; NaN and infinity become None."""
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
