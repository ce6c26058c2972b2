"""Reports work for any results; these have nothing to do with networks."""

import json
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest

from resnet_gp.report.checks import Check
from resnet_gp.report.page import write_report
from resnet_gp.report.result import ExperimentResult


@dataclass(frozen=True)
class Dice(ExperimentResult):
    rolls: np.ndarray

    name = "dice"
    title = "A <fair> die"
    theorem = "Theorem 6"
    summary = "Means of rolls."

    def draw(self, axes):
        axes[0].hist(self.rolls)


def result(mean=3.5):
    rolls = np.array([1.0, 6.0, math.nan])
    checks = [Check(f"mean {k}", mean, 0.1, 3.5, group="means") for k in range(4)]
    checks += [
        Check("spread", 1.7, 0.1, 2.0, "at most"),
        Check("law", 0.02, None, 0.0, p_value=0.4),
        Check("a seven", 3.0, 0.2, 7.0, "differs"),
    ]
    return Dice(tuple(checks), rolls)


@pytest.fixture
def written(tmp_path):
    verdicts = write_report(tmp_path, [result()], title="Dice & rolls", facts={"seed": 3})
    return tmp_path, verdicts


def test_numbers(written):
    folder, verdicts = written
    content = json.loads((folder / "results.json").read_text())
    assert content["passed"] is True
    assert content["seed"] == 3
    assert content["experiments"]["dice"] == {"rolls": [1.0, 6.0, None]}
    assert len(content["checks"]) == len(verdicts) == 7
    keys = {"name", "estimate", "standard_error", "prediction", "z", "passed", "kind", "theorem"}
    assert all(keys <= set(check) for check in content["checks"])
    assert content["checks"][6]["z"] == pytest.approx(-20)


def test_page_is_self_contained_and_starts_with_the_verdicts(written):
    folder, _ = written
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "Dice &amp; rolls" in page
    assert "A &lt;fair&gt; die" in page
    assert "$" not in page
    first = page.index("<table>")
    assert page.index("Every prediction holds.") < first < page.index("<h2>")
    table = page[first : page.index("</table>")]
    assert table.count("<tr>") == 1 + 4  # the means in one row
    assert "worst of 4" in table
    for text in ("Theorem 6", "≤ 2", "≠ 7", "p 0.4", "3.00 ± 0.20", "-20.0"):
        assert text in table


def test_figures(written):
    folder, _ = written
    assert (folder / "figures" / "dice.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "figures" / "dice.svg").read_text()


def test_a_prediction_that_fails_turns_it_red(tmp_path):
    verdicts = write_report(tmp_path, [result(5.0), result()], title="Dice", facts={})
    assert [verdict.passed for verdict in verdicts] == [False] * 4 + [True] * 10
    page = (tmp_path / "report.html").read_text()
    assert "4 of 14 checks failed." in page
    assert 'class="banner fail"' in page
    assert json.loads((tmp_path / "results.json").read_text())["passed"] is False


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_a_number_without_a_known_error_fails_and_is_reported(error, tmp_path):
    broken = Dice((Check("mean", 3.4, error, 3.5),), np.zeros(2))
    [verdict] = write_report(tmp_path, [broken], title="Dice", facts={})
    assert not verdict.passed
    assert ">3.4</td>" in (tmp_path / "report.html").read_text()
