"""Cells are saved as they come; a run that was stopped goes on where it was."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scripts import load

harness = load("benchmarks", "harness")
TODO = [("a", 0), ("a", 1), ("b", 0)]


def cells_in(path):
    return harness.Cells(path, ["name", "split"])


def cell(name, split):
    return {"name": name, "split": split, "value": 10 * split}


@pytest.mark.parametrize("file", ["cells.json", "cells.jsonl"])
def test_what_is_done_is_not_measured_again(tmp_path, file):
    path, measured = tmp_path / file, []

    def measure(name, split):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append((name, split))
        return cell(name, split)

    with pytest.raises(KeyboardInterrupt):
        harness.fill(cells_in(path), TODO, measure)
    assert cells_in(path).all == [cell("a", 0), cell("a", 1)]
    found = harness.fill(cells_in(path), TODO, cell)
    assert found.all == cells_in(path).all == [cell(*work) for work in TODO]
    harness.fill(found, TODO, lambda *_: pytest.fail("measured again"))


def test_cells_of_an_iterator_are_saved_one_by_one(tmp_path):
    path = tmp_path / "cells.json"

    def measure(name, split):
        yield cell(name, split)
        assert cells_in(path).all == [cell(name, split)]
        yield cell(name, split + 1)

    assert len(harness.fill(cells_in(path), TODO[:1], measure).all) == 2


def test_cells_of_a_list_are_saved_together(tmp_path):
    cells = cells_in(tmp_path / "cells.json")
    harness.fill(cells, TODO[:1], lambda *work: [cell(*work), cell(*work) | {"value": 1}])
    assert len(cells.where(name="a", split=0)) == 2


@pytest.mark.parametrize(("seconds", "count"), [(0, 0), (2.5, 3), (100, 6), (None, 6)])
def test_nothing_starts_when_time_is_up(monkeypatch, capsys, seconds, count):
    clock = SimpleNamespace(now=0.0)

    def monotonic():
        clock.now += 1e-6
        return clock.now

    monkeypatch.setattr(harness, "time", SimpleNamespace(monotonic=monotonic))

    def measure(name, split):
        for value in range(2):
            clock.now += 1
            yield cell(name, split) | {"value": value}

    cells = harness.fill(cells_in(None), TODO, measure, seconds)
    assert len(cells.all) == count
    assert ("seconds are over" in capsys.readouterr().out) == (count < 6)


def test_a_file_is_never_half(tmp_path):
    path = tmp_path / "cells.json"
    cells = cells_in(path)
    cells.add([cell("a", 0)])
    with pytest.raises(TypeError):
        cells.add([{"name": "b", "split": 0, "value": object()}])
    assert json.loads(path.read_text()) == [cell("a", 0)]
    assert list(tmp_path.iterdir()) == [path]


def test_values_leaves_out_cells_without_the_measure():
    cells = cells_in(None)
    cells.add([cell("a", 1), {"name": "a", "split": 2}, cell("b", 3)])
    np.testing.assert_array_equal(cells.values("value", name="a"), [10.0])


def test_ways_take_turns_and_the_first_is_not_timed():
    calls = []
    ways = {name: (lambda repeat, n=name: calls.append((n, repeat))) for name in "ab"}
    taken = harness.in_turns(ways, 2)
    assert calls == [(name, repeat) for repeat in range(3) for name in "ab"]
    assert {name: len(values) for name, values in taken.items()} == {"a": 2, "b": 2}


def test_last_line_of_a_script_and_its_threads(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\nprint('hello')\n"
        "print(json.dumps([sys.argv[1:], os.environ['OMP_NUM_THREADS']]))\n"
    )
    assert harness.in_own_process(str(script), "--n", 3, threads=5) == [["--n", "3"], "5"]


def test_data_is_asked_for_unless_quick(tmp_path, capsys):
    parser = harness.parser_of("Doc.", ".npz sets")
    assert harness.output(harness.parsed(parser, ["--quick"]), "name") is None
    options = harness.parsed(parser, ["--data", ".", "--out", str(tmp_path)])
    assert harness.output(options, "name") == tmp_path
    with pytest.raises(SystemExit):
        harness.parsed(parser, [])
    assert "--data or --quick is needed" in capsys.readouterr().err


def test_committed_cells_load():
    path = harness.RESULTS / "regression.json"
    cells = harness.Cells(path, ["data", "split", "model"])
    assert len(cells.keys()) == len(cells.all) > 0
