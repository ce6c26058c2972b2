"""Every benchmark has a quick mode, and what it finds is plausible."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scripts import load
from sklearn.datasets import load_digits

HARTMANN3 = [0.114614, 0.555649, 0.852547]  # where it is largest


def test_first_use():
    result = load("benchmarks", "first_use").main(["--quick"])
    assert result["first matrix"]["compiling"] > 0


def test_neighbours():
    cells = load("benchmarks", "neighbours").main(["--quick"]).all
    assert [cell["k"] for cell in cells] == [8, 16, 32, 64, 128, 200]
    assert cells[-1]["mean"] < 1e-9  # all rows are neighbours
    assert cells[0]["mean"] > cells[3]["mean"] > 1e-3
    assert cells[0]["log_deviation"] > cells[3]["log_deviation"] > 1e-3


def test_import_time():
    times = load("benchmarks", "import_time").main(["--quick"])
    assert times["resnet_gp"]["seconds"] < times["gpytorch"]["seconds"]


def test_kernels(capsys):
    results = load("benchmarks", "kernels").main(["--quick"])
    assert results["kept for backward, float64, ResNetLimitKernel"]["ratio"] < 0.25
    assert results["kept for backward, float64, InfiniteWidthBNNKernel"]["ratio"] > 3
    [product] = [one for name, one in results.items() if "product" in name]
    assert product["error"] < 1e-12
    assert "with gradients" in capsys.readouterr().out


def test_regression_saves_every_cell_and_resumes(tmp_path, monkeypatch, capsys):
    benchmark = load("benchmarks", "regression")
    out = tmp_path / "cells.json"
    cells = benchmark.main(["--quick", "--out", str(out)])
    assert len(cells) == 10
    assert all(cell["rmse"] < 0.5 for cell in cells if cell["model"] != "ibnn")
    assert "mean rank" in capsys.readouterr().out
    monkeypatch.setattr(benchmark, "cells", lambda *_: pytest.fail("a cell was run twice"))
    assert benchmark.main(["--quick", "--out", str(out)]) == cells


def test_regression_compares_kernels_on_small_sets_only(monkeypatch):
    benchmark = load("benchmarks", "regression")
    monkeypatch.setattr(benchmark, "SMALL", 40)
    monkeypatch.setattr(benchmark, "SPLITS_ABOVE", 1)
    data = benchmark.simulated(60, 10, splits=2)
    options = SimpleNamespace(max_rows=None, models=[*benchmark.MODELS, *benchmark.PEERS])
    found = {model: splits for _, splits, model in benchmark.work([data], options, set())}
    assert found == {key: [0] for key in ["resnet", *benchmark.PEERS]}
    monkeypatch.setattr(benchmark, "SMALL", 50)
    found = {model: splits for _, splits, model in benchmark.work([data], options, set())}
    assert found == {key: [0, 1] for key in options.models}


def test_fit_time():
    result = load("benchmarks", "fit_time").main(["--quick"])
    assert len(result["log posterior density of each run"]) == 2
    assert result["nats below the best"] < 0.5


def test_likelihood():
    results = load("benchmarks", "likelihood").main(["--quick"])
    assert results["processor"]
    assert results["likelihood, one network, n = 200"]["ratio"] > 1


def test_activations(capsys):
    cells = load("benchmarks", "activations").main(["--quick"])
    assert [cell["model"] for cell in cells] == ["relu", "relu, one", "erf"]
    assert all(cell["rmse"] < 0.5 for cell in cells)
    assert "mean ranks, sets: 1" in capsys.readouterr().out


def test_samplers():
    result = load("benchmarks", "samplers").main(["--quick"])
    assert result["n = L = 200, m = 2, 8 networks"]["peak MiB"] < 1024


def test_mean_ode_trainer():
    result = load("benchmarks", "mean_ode_trainer").main(["--quick"])
    ratios, peaks = result["time against the batched trainer"], result["added peak MiB"]
    assert ratios["autograd, loop"] > 1  # sixteen on an idle machine
    assert peaks["batched trainer"] < peaks["autograd, batched"]


def test_classification(tmp_path, capsys):
    benchmark = load("benchmarks", "classification")
    out = tmp_path / "classification.json"
    cells = benchmark.main(["--quick", "--out", str(out), "--models", "resnet", "rbf"])
    assert len(cells) == 4
    assert min(cell["accuracy"] for cell in cells) > 0.5
    assert all(0 < cell["brier"] < 0.6 for cell in cells)
    assert len({cell["brier"] for cell in cells}) == 4  # other kernels, other probabilities
    assert "Wilcoxon" in capsys.readouterr().out
    assert benchmark.main(["--quick", "--out", str(out), "--models", "resnet", "rbf"]) == cells
    before = json.loads(out.read_text())["sets"]
    out.with_suffix(".cells.jsonl").unlink()  # as in the repository: its models stay
    benchmark.main(["--quick", "--out", str(out), "--models", "forest"])
    after = json.loads(out.read_text())["sets"]
    assert after[:2] == before
    assert [row["model"] for row in after[2:]] == ["forest", "forest, temperature"]


def test_classifiers_of_packages_are_tuned_once_for_a_set(tmp_path):
    pytest.importorskip("lightgbm", reason="lightgbm is in the extra peers")
    benchmark = load("benchmarks", "classification")
    out = tmp_path / "classification.json"
    cells = benchmark.main(["--quick", "--out", str(out), "--models", "lightgbm"])
    assert ["setting" in cell for cell in cells] == [True, False]
    assert min(cell["accuracy"] for cell in cells) > 0.6


def test_brier_score():
    benchmark = load("benchmarks", "classification")
    p = np.array([[0.8, 0.2], [0.5, 0.5], [1.0, 0.0]])
    truth = np.array([0, 3, 7])  # class 7 has no training rows
    score = benchmark.brier(truth, p, np.array([0, 3]))
    assert score == pytest.approx((0.08 + 0.5 + 2) / 3)


def test_dask_fit():
    result = load("benchmarks", "dask_fit").main(["--quick"])
    assert result["rmse to the truth"] < 0.4 * result["rmse of the mean"]
    assert 0.9 < result["deviation"] / result["noise"] < 1.5
    assert 0.9 < result["within two deviations"] < 1


def test_sparse_fit():
    cells = load("benchmarks", "sparse_fit").main(["--quick"])
    assert len(cells) == 3
    assert all(cell["rmse"] < 0.5 for cell in cells)


def test_accuracy(capsys):
    result = load("benchmarks", "accuracy").main(["--quick"])
    for one in result["largest errors"]["float64"].values():
        assert max(one["c"], one["gap"], one["slope"]) < 2e-14
        assert one["blocks"] < 1e-13
        assert one["naive"] > 1e-9  # the arccosine is what the tables avoid
    assert result["terms"]["1"]["table"] < result["terms"]["1"]["c"] / 20
    assert "| 10 | " in capsys.readouterr().out


def test_peers_are_tuned_once_for_a_set(tmp_path, monkeypatch):
    benchmark = load("benchmarks", "regression")
    out = tmp_path / "cells.json"
    run = ["--quick", "--models", "forest", "--out", str(out)]
    cells = benchmark.main(run)
    assert [cell["split"] for cell in cells] == [0, 1]
    assert [cell.get("setting", {}).get("settings_tried", 0) > 0 for cell in cells] == [True, False]
    assert all(0 < cell["ms_per_prediction"] < 100 for cell in cells)
    out.write_text(json.dumps(cells[:1]))
    monkeypatch.setattr(benchmark.peers, "search", lambda *_: pytest.fail("tuned again"))
    resumed = benchmark.main(run)
    assert resumed[1]["rmse"] == cells[1]["rmse"]


def test_absent_peer_is_named_before_anything_runs(monkeypatch):
    benchmark = load("benchmarks", "regression")
    monkeypatch.setitem(sys.modules, "ngboost", None)
    with pytest.raises(ImportError, match=r'pip install "resnet-gp\[peers\]"'):
        benchmark.main(["--quick", "--models", "resnet", "ngboost"])


def test_bayesian_optimisation(capsys):
    benchmark = load("benchmarks", "bayesian_optimisation")
    cells = benchmark.main(["--quick"])
    assert [cell["kernel"] for cell in cells.all] == benchmark.USUAL
    [start] = {cell["regrets"][0] for cell in cells.all}
    assert 0 < min(cell["regrets"][-1] for cell in cells.all) < start
    assert all(cell["failures"] == 0 for cell in cells.all)
    assert "levy8: regret" in capsys.readouterr().out


def test_regret_is_that_of_the_best_point_and_a_failed_step_is_counted(monkeypatch):
    benchmark = load("benchmarks", "bayesian_optimisation")
    points = [torch.tensor([HARTMANN3], dtype=torch.float64), torch.zeros(1, 3).double()]

    def step(x, y, model, noisy):
        assert not noisy
        if not points:
            raise RuntimeError
        return points.pop(0)

    monkeypatch.setattr(benchmark, "step", step)
    cell = benchmark.run("hartmann3", "ours", seed=0, steps=3)
    assert cell["regrets"][0] > 0.1
    assert cell["regrets"][1:] == pytest.approx([0, 0, 0], abs=1e-4)
    assert cell["failures"] == 1


def test_problems_of_bayesian_optimisation_have_these_maxima():
    problems = load("benchmarks", "bayesian_optimisation").PROBLEMS
    assert len(problems) >= 10
    assert sum(problem.noisy for problem in problems.values()) == 2
    for problem in problems.values():
        low, high = problem.function.bounds
        if problem.function._optimizers is not None:
            best = (torch.tensor(problem.function._optimizers).double() - low) / (high - low)
            assert problem(best).max().item() == pytest.approx(problem.maximum, rel=1e-3, abs=1e-3)
            # Kernels with their origin at the centre would know a maximum there.
            assert (best - 0.5).abs().amax(-1).min() > 0.05
        values = problem(torch.rand(200, problem.d, dtype=torch.float64))
        assert (values < problem.maximum + 1e-6).all()
        assert problem.deviation > 0


def test_mean_ranks_are_those_of_common_seeds(tmp_path):
    benchmark = load("benchmarks", "bayesian_optimisation")
    cells = load("benchmarks", "harness").Cells(tmp_path / "x.json", ["problem", "kernel", "seed"])
    for kernel, seeds, regret in (("ours", 2, 1.0), ("matern", 1, 2.0)):
        for seed in range(seeds):
            own = {"problem": "levy8", "kernel": kernel, "seed": seed}
            cells.add([own | {"regrets": [3.0, regret + 10 * seed]}])
    names, means = benchmark.final_means(cells, ["ours", "matern"])
    assert names == ["levy8"]
    assert means.tolist() == [[1.0, 2.0]]


def test_scaling():
    benchmark = load("benchmarks", "scaling")
    cells = benchmark.main(["--quick"])
    assert [cell["inference"] for cell in cells.all] == ["exact", "sparse"]
    spread = benchmark.truth(torch.randn(5000, 6).numpy()).std()
    assert all(cell["rmse"] < 0.95 * spread for cell in cells.all)


def test_small_data(capsys):
    cells = load("benchmarks", "small_data").main(["--quick"])
    assert len(cells.all) == 10
    assert cells.values("rmse", model="resnet").mean() < 75  # the targets' deviation is 77
    assert 0.6 < cells.values("coverage", model="resnet").mean() < 0.98
    assert "diabetes: nlpd" in capsys.readouterr().out


def test_nominal(capsys):
    cells = load("benchmarks", "nominal").main(["--quick"])
    codes, frame = cells.all
    assert (codes["way"], frame["way"]) == ("numbers", "frame")
    assert frame["crps"] < codes["crps"]
    assert frame["rmse"] < 0.5
    assert "regression: crps" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["numbers", "frame", "unrelated", "skrub", "1"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_ways_to_read_nominal_columns(task, way, tmp_path, monkeypatch):
    if way == "skrub":
        pytest.importorskip("skrub")
    benchmark = load("benchmarks", "nominal")
    rng = np.random.default_rng(0)
    kinds, x = rng.integers(4, size=200), rng.normal(size=200)
    y = x + np.array([0, 2, -2, 1])[kinds]
    y = y if task == "regression" else (y > 0).astype(int)
    X, parts = np.column_stack([kinds, x]), [np.arange(60)]
    monkeypatch.setattr(benchmark, "data_of", lambda *_: (X, y, parts))
    cell = benchmark.measure(None, task, "any", 0, way, choose=True)
    assert cell.get("rmse", 0) < 0.6
    assert cell.get("accuracy", 1) > 0.8


def test_rows_outside_are_those_of_extreme_predictions():
    benchmark = load("benchmarks", "small_data")
    train, test = benchmark.rows("outside", 0)
    assert not set(train) & set(test)
    assert len(train) + len(test) == pytest.approx(221, abs=40)
    X, y = benchmark.diabetes()
    line = benchmark.LinearRegression().fit(X, y).predict(X)
    assert line[test].std() > 1.5 * line[train].std()


def test_ablation():
    cells = load("benchmarks", "ablation").main(["--quick"])
    assert len(cells) == 3 * 2 * 2  # components, hyperparameters, residuals
    assert all(np.isfinite([cell["nlpd"], cell["crps"]]).all() for cell in cells)
    alike = [c for c in cells if c["components"] == 1 and c["hyperparameters"] == "map"]
    assert alike[0]["rmse"] == alike[1]["rmse"]  # the residual law leaves means as they are
    assert alike[0]["nlpd"] != alike[1]["nlpd"]


def test_calibration(capsys):
    benchmark = load("benchmarks", "calibration")
    cells = benchmark.main(["--quick"])
    assert len(cells.all) == len(benchmark.SETTINGS)
    pits = np.concatenate([cell["pit"] for cell in cells.all])
    assert ((pits > 0) & (pits < 1)).all()
    assert "in 90 % interval" in capsys.readouterr().out


def test_uniformity_is_told_from_its_opposite():
    uniformity = load("benchmarks", "calibration").uniformity
    rng = np.random.default_rng(0)
    assert uniformity(rng.uniform(size=(200, 20))) > 0.001
    assert uniformity(rng.beta(2, 2, size=(200, 20))) < 1e-6


def test_gpu(monkeypatch, tmp_path, capsys):
    """Everything but the experiments, which have tests of their own; one part fails."""
    benchmark = load("benchmarks", "gpu")
    monkeypatch.setitem(benchmark.PARTS, "verify", lambda clock, quick: iter([{}["missing"]]))
    figure = tmp_path / "gpu.png"
    wanted = ["verify", "kernels", "products", "fits"]
    parts = benchmark.main(["--quick", "--figure", str(figure), "--only", *wanted])["parts"]
    assert "KeyError" in parts["verify"]["failed"]
    assert not any("failed" in parts[name] for name in wanted[1:])
    errors = [cell["error"] for cell in parts["kernels"]["cells"] if "error" in cell]
    assert len(errors) == 6
    assert max(errors) < 1e-5
    assert [cell["way"] for cell in parts["products"]["cells"]] == [*benchmark.PRODUCTS] * 2
    assert all(cell["seconds"] > 0 for cell in parts["products"]["cells"])
    assert all(cell["rmse"] < 0.8 for cell in parts["fits"]["cells"])
    assert figure.exists()
    assert "Matern-5/2" in capsys.readouterr().out


def test_gpu_leaves_out_what_has_no_time():
    parts = load("benchmarks", "gpu").main(["--quick", "--seconds", "1e-9", "--only", "fits"])
    assert all("left out" in cell["error"] for cell in parts["parts"]["fits"]["cells"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_needs_one(capsys):
    with pytest.raises(SystemExit) as stop:
        load("benchmarks", "gpu").main([])
    assert stop.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_large():
    cells = load("benchmarks", "large").main(["--quick", "--models", "resnet", "svgp"])
    assert [cell["model"] for cell in cells] == ["resnet", "svgp"]
    assert cells[0]["rmse"] < 0.8  # the function's deviation is 1.7
    assert all(cell["seconds"] > 0 for cell in cells)


def test_images():
    cells = load("benchmarks", "images").main(["--quick"])
    assert {cell["model"] for cell in cells.all} == {
        "convolutional", "connected", "grid", "svm", "trained"
    }  # fmt: skip
    assert all(cell["accuracy"] > 0.8 for cell in cells.all)
    assert all(cell["log_loss"] < 0.8 for cell in cells.all)


def test_convolution():
    result = load("benchmarks", "convolution").main(["--quick"])
    assert [row["evaluations"] for row in result["accuracy"]] == [23, 23]
    for row in result["accuracy"]:
        assert 0 < row["error with half the step"] < row["error"] < 1e-6
    assert all(row["seconds"] > 0 for row in result["matrices"])


def test_images_with_a_stored_matrix(tmp_path, monkeypatch):
    images, digits = load("benchmarks", "images"), load_digits()
    monkeypatch.setattr(images, "BLOCK", 50)
    X, y = images.standardised(digits.images[:180]), digits.target[:180]
    file = tmp_path / "matrix.npy"
    whole = images.AllImages(file, X).matrix.copy()
    np.load(file, mmap_mode="r+")[50:100, 50:] = np.nan  # as if it had been stopped
    stored = images.AllImages(file, X)
    np.testing.assert_array_equal(stored.matrix, whole)
    data = X[:120], y[:120], X[120:]
    computed, original = [], images.ConvResNetLimitKernel.forward

    def watched(self, x1, *arguments, **options):
        computed.append(len(x1))
        return original(self, x1, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(images.ConvResNetLimitKernel, "forward", watched)
        found = images.from_stored(stored, *data)
    assert set(computed) <= {2}  # the check of a kernel, on two unit vectors
    np.testing.assert_allclose(found, images.convolutional(*data), atol=1e-5)
    with pytest.raises(SystemExit, match="is not of these 100 images"):
        images.AllImages(file, X[:100])
