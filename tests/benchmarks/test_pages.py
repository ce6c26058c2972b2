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


def test_figures_have_the_ranks_of_the_summary(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "IMAGES", tmp_path)
    values, models = pages.figures()["classification_ranks.png"]["accuracy"]
    summary = pages.read("classification")["summary"]
    expected = [summary[model]["rank"] for model in models]
    np.testing.assert_allclose(pages.mean_ranks(values), expected, atol=0.02)
    pages.draw()
    assert {path.name for path in tmp_path.iterdir()} == set(pages.figures())
