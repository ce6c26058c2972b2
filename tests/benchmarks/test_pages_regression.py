import numpy as np
from scripts import load

pages_regression = load("benchmarks", "pages_regression")
Cells = load("benchmarks", "harness").Cells
critical_distance = load("benchmarks", "ranks").critical_distance


def test_only_splits_that_all_models_have_done_are_compared(monkeypatch, tmp_path):
    cells = Cells(None, ())
    cells.add(
        [
            {"data": "one", "split": split, "model": model, "rows": 9, "rmse": float(split)}
            for model, splits in (("a", (0, 1, 2)), ("b", (1, 2, 3)))
            for split in splits
        ]
        + [{"data": "two", "split": 0, "model": "a", "rows": 5, "rmse": 0.0}]
    )
    monkeypatch.setattr(pages_regression, "results", lambda name: cells)
    splits = pages_regression.Splits(["a", "b"])
    assert splits.names == ["one"]
    np.testing.assert_array_equal(splits.values("one", "b", "rmse"), [1, 2])
    np.testing.assert_array_equal(splits.means("rmse"), [[1.5, 1.5]])


def cells_of(values: dict[tuple[str, str], list[float]]) -> Cells:
    cells = Cells(None, ())
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
    monkeypatch.setattr(pages_regression, "results", lambda name: cells_of(found))
    lines = pages_regression.peers().splitlines()
    assert lines[2].startswith("| one | 9 | 2 | 1.5 | 1.05 xRFM | 2 of 3 | 0.5 | 0.05 xRFM |")
    assert lines[3].startswith("| two | 9 | 2 | 1 | 1 xRFM | 1 of 2 |")
    lost = pages_regression.losses().splitlines()[2:]
    assert [line[:13] for line in lost] == ["| one | RMSE ", "| one | NLPD ", "| one | CRPS "]
    assert "xRFM (+0.450 ± 0.050)" in lost[0]  # two: level in the mean


def test_ranks_of_peers(monkeypatch):
    models = list(pages_regression.RIVALS)
    rng = np.random.default_rng(0)
    found = {
        (f"set {i}", model): [k + 1.0 + 0.01 * rng.random()]
        for i in range(8)
        for k, model in enumerate(models)
    }
    monkeypatch.setattr(pages_regression, "results", lambda name: cells_of(found))
    lines = pages_regression.peer_ranks(pages_regression.RIVALS).splitlines()
    assert lines[2].startswith("| ours | 1.00 |  | 1.00 |  | 1.00 |")
    assert lines[3].split(" | ")[1:3] == ["2.00", "0.008"]  # Wilcoxon's least p for eight sets
    distance = critical_distance(len(models), 8)
    assert f"| critical distance | {distance:.2f} |" in lines[-1]


def test_published_figures_are_beside_ours(monkeypatch):
    found = {("yacht", "resnet"): [0.2, 0.4]}
    monkeypatch.setattr(pages_regression, "results", lambda name: cells_of(found))
    lines = pages_regression.standard().splitlines()[2:]
    assert len(lines) == 2  # a density and a CRPS
    assert "TabPFN" in lines[0]
    assert "| 2 | \N{MINUS SIGN}0.7 | \N{MINUS SIGN}0.73 | 1.18 | 1.55 |" in lines[0]
    assert "splits of its own | 2 | 0.15 | 0.24 |" in lines[1]
