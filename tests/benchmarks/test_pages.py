import pytest
from scripts import load

pages = load("benchmarks", "pages")


def test_pages_are_up_to_date_with_the_results():
    assert pages.main(["--check"]) == []


def test_only_what_is_between_marks_is_replaced(monkeypatch):
    monkeypatch.setitem(pages.TABLES, "new", lambda: "| a |\n")
    text = "before\n<!-- table: new -->\nold\n<!-- end -->\nafter\n"
    assert pages.filled(text) == text.replace("old\n", "| a |\n")


def test_a_mark_that_names_no_table():
    with pytest.raises(KeyError, match="nothing"):
        pages.filled("<!-- table: nothing -->\n<!-- end -->\n")


def test_every_figure_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "IMAGES", tmp_path)
    pages.draw()
    assert {path.name for path in tmp_path.iterdir()} == {
        "regression_ranks.png", "regression_peer_ranks.png", "classification_ranks.png",
        "classification_peer_ranks.png",
    }  # fmt: skip
