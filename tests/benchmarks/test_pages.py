import numpy as np
import pytest
from scripts import load

pages = load("benchmarks", "pages")


def test_pages_are_up_to_date_with_the_results():
    assert pages.main(["--check"]) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.36417, "0.364"),
        (-1.5973, "\N{MINUS SIGN}1.6"),
        (41157.2, "41,157"),
        (1.93e-5, "1.93e\N{MINUS SIGN}05"),
    ],
)
def test_numbers(value, expected):
    assert pages.number(value) == expected


def test_differences_have_the_digits_of_their_errors():
    assert pages.difference(np.array([-0.2, -0.1, -0.15])) == "\N{MINUS SIGN}0.150 ± 0.029"
    assert pages.difference(np.array([0.5])) == "+0.5"
    assert pages.difference(np.array([0.0, 0.0])) == "+0.00 ± 0.00"


def test_only_what_is_between_marks_is_replaced(monkeypatch):
    monkeypatch.setitem(pages.TABLES, "new", lambda: "| a |\n")
    text = "before\n<!-- table: new -->\nold\n<!-- end -->\nafter\n"
    assert pages.filled(text) == text.replace("old\n", "| a |\n")


def test_a_mark_that_names_no_table():
    with pytest.raises(KeyError, match="nothing"):
        pages.filled("<!-- table: nothing -->\n<!-- end -->\n")


def test_only_splits_that_all_models_have_done_are_compared(monkeypatch, tmp_path):
    cells = pages.Cells(None, ())
    cells.add(
        [
            {"data": "one", "split": split, "model": model, "rows": 9, "rmse": float(split)}
            for model, splits in (("a", (0, 1, 2)), ("b", (1, 2, 3)))
            for split in splits
        ]
        + [{"data": "two", "split": 0, "model": "a", "rows": 5, "rmse": 0.0}]
    )
    monkeypatch.setattr(pages, "results", lambda name: cells)
    splits = pages.Splits(["a", "b"])
    assert splits.names == ["one"]
    np.testing.assert_array_equal(splits.values("one", "b", "rmse"), [1, 2])
    np.testing.assert_array_equal(splits.means("rmse"), [[1.5, 1.5]])


def cells_of(values: dict[tuple[str, str], list[float]]) -> pages.Cells:
    cells = pages.Cells(None, ())
    for (name, model), each in values.items():
        for split, value in enumerate(each):
            scores = {"rmse": value, "crps": value / 2, "coverage": 0.9, "seconds": 1.0}
            if model != "quantile_forest":
                scores["nlpd"] = value - 1
            cells.add([{"data": name, "split": split, "model": model, "rows": 9, **scores}])
    return cells


def test_peers_are_compared_where_they_have_run(monkeypatch):
    found = {
        ("one", "resnet"): [1.0, 2.0], ("one", "xrfm"): [0.5, 1.6], ("one", "forest"): [3.0, 4.0],
        ("two", "resnet"): [1.0, 1.0], ("two", "xrfm"): [2.0, 0.0],
    }  # fmt: skip
    monkeypatch.setattr(pages, "results", lambda name: cells_of(found))
    lines = pages.peers().splitlines()
    assert lines[2].startswith("| one | 9 | 2 | 1.5 | 1.05 xRFM | 2 of 3 | 0.5 | 0.05 xRFM |")
    assert lines[3].startswith("| two | 9 | 2 | 1 | 1 xRFM | 1 of 2 |")
    lost = pages.losses().splitlines()[2:]
    assert [line[:13] for line in lost] == ["| one | RMSE ", "| one | NLPD ", "| one | CRPS "]
    assert "xRFM (+0.450 ± 0.050)" in lost[0]  # two: level in the mean


def test_ranks_of_peers(monkeypatch):
    models = list(pages.RIVALS)
    rng = np.random.default_rng(0)
    found = {
        (f"set {i}", model): [k + 1.0 + 0.01 * rng.random()]
        for i in range(8)
        for k, model in enumerate(models)
    }
    monkeypatch.setattr(pages, "results", lambda name: cells_of(found))
    lines = pages.peer_ranks(pages.RIVALS).splitlines()
    assert lines[2].startswith("| ours | 1.00 |  | 1.00 |  | 1.00 |")
    assert lines[3].split(" | ")[1:3] == ["2.00", "0.008"]  # Wilcoxon's least p for eight sets
    distance = pages.critical_distance(len(models), 8)
    assert f"| critical distance | {distance:.2f} |" in lines[-1]


def test_published_figures_are_beside_ours(monkeypatch):
    found = {("yacht", "resnet"): [0.2, 0.4]}
    monkeypatch.setattr(pages, "results", lambda name: cells_of(found))
    lines = pages.standard().splitlines()[2:]
    assert len(lines) == 2  # a density and a CRPS
    assert "TabPFN" in lines[0]
    assert "| 2 | \N{MINUS SIGN}0.7 | \N{MINUS SIGN}0.73 | 1.18 | 1.55 |" in lines[0]
    assert "splits of its own | 2 | 0.15 | 0.24 |" in lines[1]


def test_figures_have_the_ranks_of_the_tables(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "IMAGES", tmp_path)
    values, models = pages.figures()["classification_ranks.png"]["accuracy"]
    table = pages.classified(pages.classifying.standard, pages.OWN_CLASSIFIERS)
    summary = pages.classifying.summarised(table)
    expected = [summary[model]["accuracy_rank"] for model in models]
    np.testing.assert_allclose(pages.mean_ranks(values), expected, atol=1e-6)
    pages.draw()
    assert {path.name for path in tmp_path.iterdir()} == set(pages.figures())
