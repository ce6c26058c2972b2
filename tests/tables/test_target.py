import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from resnet_gp.tables.reading import TableError
from resnet_gp.tables.target import choose_task, known_truth
from resnet_gp.tables.tasks import Classification


@pytest.mark.parametrize(
    ("values", "wanted", "name", "truth"),
    [
        (["1", "2.5"] * 2, "auto", "regression", [1.0, 2.5] * 2),
        (["1", "2"] * 2, "classification", "classification", [1, 2] * 2),
        (["1", "2.5"] * 2, "classification", "classification", ["1", "2.5"] * 2),
        (["b", "a"] * 2, "auto", "classification", ["b", "a"] * 2),
        ([True, False] * 2, "auto", "classification", ["True", "False"] * 2),
    ],
)
def test_tasks(values, wanted, name, truth):
    task, found = choose_task(pd.Series(values, name="y"), wanted)
    assert task.name == name
    assert found.tolist() == truth


@pytest.mark.parametrize(
    "written",
    [
        ["00501", "01067"],
        ["01", "1"],
        ["1.0", "2.0"],
        ["1", "2.5"],
        ["90071992547409931", "90071992547409932"],
    ],
)
def test_labels_come_back_as_they_were_written(written):
    task, truth = choose_task(pd.Series(written * 2, name="y"), "classification")
    assert task.classes.tolist() == written
    assert truth.tolist() == written * 2


def test_labels_of_new_rows_are_compared_as_they_are_written():
    task, _ = choose_task(pd.Series(["1", "2"] * 2, name="y"), "classification")
    truth, known = known_truth(task, pd.Series(["2", "1.0", "01", None, "x"]))
    assert known.tolist() == [True, True, False, False, False]
    assert truth[known].tolist() == [2, 1]
    task, _ = choose_task(pd.Series(["01", "1"] * 2, name="y"), "classification")
    truth, known = known_truth(task, pd.Series(["1", "01", "1.0", "001", None]))
    assert known.tolist() == [True, True, True, False, False]
    assert truth[known].tolist() == ["1", "01", "1"]


@pytest.mark.parametrize(
    ("values", "wanted", "message"),
    [
        (
            ["1", "2", "3", "?", "3", "2", "?", "1"],
            "auto",
            "holds numbers, but '?' in row 4: leave",
        ),
        (["1.5", "2.5", "n/k", "3.5"], "auto", "numbers, but 'n/k' in row 3: .* --task classific"),
        (["1.5", "2.5", "n/k", "3.5"], "regression", "holds 'n/k' in row 3: regression needs"),
        (["2,137", "3,001", "1,200"], "auto", "write '2.137' if they .*, '2137' if they separate"),
        (["0.3", "0.30000000000000004"] * 2, "auto", "is 0.3 in all rows"),
        (["2020-01-01", "2020-02-01"] * 2, "auto", "dates such as '2020-01-01': .* --task class"),
    ],
)
def test_targets_that_are_refused(values, wanted, message):
    with pytest.raises(TableError, match=message.replace("?", r"\?")) as caught:
        choose_task(pd.Series(values, name="y"), wanted)
    assert caught.value.option == "--target"


def test_numbers_and_a_text_may_be_classes():
    task, _ = choose_task(pd.Series(["1", "2", "?"] * 2, name="y"), "classification")
    assert task.classes.tolist() == ["1", "2", "?"]


def test_labels_of_new_rows_are_known_by_their_value():
    task = Classification(np.array(["0.0", "1.0", "x"]))
    truth, known = known_truth(task, pd.Series(["1", "0.0", "x", "2"]))
    assert truth[known].tolist() == ["1.0", "0.0", "x"]
    assert known.tolist() == [True, True, True, False]


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_targets_in_units_that_no_square_can_hold_are_refused(unit):
    column = pd.Series([str(k * unit) for k in range(1, 9)], name="y", dtype=object)
    with pytest.raises(TableError, match="use other units"):
        choose_task(column, "auto")
