import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from typer.testing import CliRunner

import resnet_gp
from resnet_gp.cli import app


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def test_version():
    assert invoke("--version").stdout.strip() == resnet_gp.__version__


def test_demo(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    rows = np.arange(40)
    splits = [(rows[10:], rows[:10]), (rows[:30], rows[30:])]
    monkeypatch.setattr("resnet_gp.demo.load", lambda: (X, X[:, 0] + rng.normal(size=40), splits))
    out = tmp_path / "deep" / "out"
    result = invoke("demo", "--out", out)
    assert result.exit_code == 0, result.output
    for word in ("diabetes", "RMSE", "NLPD", "in 90% interval", "seconds", "Matern"):
        assert word in result.stdout
    assert {s["split"] for s in json.loads((out / "demo.json").read_text())["scores"]} == {0, 1}
    assert (out / "demo.png").exists()


def test_demo_names_the_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    result = invoke("demo", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "--out" in result.output


def fast_verify(monkeypatch):
    """One experiment that takes no time, in place of all."""
    from resnet_gp.verification import experiments, roles

    monkeypatch.setattr(roles, "widths", lambda lab: (1024, 4096, 16384))
    one = experiments.EXPERIMENTS["roles"]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"roles": one})


def test_verify_writes_a_report(tmp_path, monkeypatch):
    fast_verify(monkeypatch)
    out = tmp_path / "deep" / "out"
    result = invoke("verify", "--out", out, "--quick", "--device", "cpu", "--seed", 3)
    content = json.loads((out / "results.json").read_text())
    # Networks this narrow do not tell 1/L from 1/L^2: "differs" fails, and so does the command.
    assert result.exit_code == 1, result.output
    assert "2 of 5 checks failed: χ² of the fit" in result.stdout
    assert content["seed"] == 3
    assert content["device"].startswith("cpu")
    assert sum(check["passed"] for check in content["checks"]) == 3
    assert {p.name for p in out.iterdir()} == {"report.html", "results.json", "figures"}


def test_verify_exits_with_0_if_every_prediction_holds(tmp_path):
    result = invoke("verify", "--out", tmp_path, "--quick", "--experiments", "roles")
    assert result.exit_code == 0, result.output


def test_verify_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    from resnet_gp.networks import simulation
    from resnet_gp.verification import roles

    fast_verify(monkeypatch)
    arguments = ("verify", "--out", tmp_path / "one", "--quick")
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(roles, "fit_roles", stop)
        result = invoke(*arguments)
    assert result.exit_code == 130
    assert "run the same command to continue" in result.output
    kept = sorted((tmp_path / "one" / "unfinished").iterdir())
    assert len(kept) == 9
    with monkeypatch.context() as patch:
        patch.setattr(simulation, "layers", lambda *_: pytest.fail("simulated again"))
        assert invoke(*arguments).exit_code == 1
    invoke("verify", "--out", tmp_path / "two", "--quick")
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text())["checks"]
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("verify", "--experiments", "rolls"), "--experiments: no experiment rolls"),
        (("verify", "--memory", "1"), "--memory: at least"),
        (("verify", "--device", "cuda:99"), "--device: cuda:99 is not available"),
        (("mean-ode", "--device", "cuda:99"), "--device: cuda:99 is not available"),
        (("verify", "--seed", "-1"), "--seed"),
        (("verify", "--seed", "4294967296"), "--seed"),
        (("mean-ode", "--seed", "-1"), "--seed"),
    ],
)
def test_labs_name_the_argument_that_is_wrong(tmp_path, arguments, message):
    result = invoke(*arguments, "--out", tmp_path)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("command", ["verify", "mean-ode"])
def test_labs_need_a_folder_that_can_be_written(tmp_path, command):
    (tmp_path / "file").touch()
    result = invoke(command, "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "--out: cannot write to" in result.output


def in_this_process(lab):
    return nullcontext(lab)


def fast_mean_ode(monkeypatch):
    """The quickest experiment in place of all."""
    from resnet_gp.mean_ode import experiments

    one = experiments.EXPERIMENTS["dimension"]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"dimension": one})


def test_mean_ode_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    from resnet_gp.mean_ode import dimension

    fast_mean_ode(monkeypatch)
    out = tmp_path / "deep" / "out"
    arguments = ("mean-ode", "--out", out, "--quick", "--device", "cpu", "--seed", 3)
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(dimension, "_slopes", stop)
        result = invoke(*arguments)
    assert result.exit_code == 130
    assert "run the same command to continue" in result.output
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "unfinished").iterdir()}
    assert len(kept) == 3
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        patch.setattr("resnet_gp.mean_ode.training_lab.TrainingLab.workers", in_this_process)
        result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "dimension" in result.stdout
    assert kept == {path.name: path.stat().st_mtime_ns for path in (out / "unfinished").iterdir()}
    content = json.loads((out / "results.json").read_text())
    assert content["passed"]
    assert content["seed"] == 3
    assert (out / "report.html").exists()
    assert (out / "figures" / "dimension.png").exists()


def test_mean_ode_exits_with_1_if_a_prediction_fails(tmp_path, monkeypatch):
    from resnet_gp.mean_ode import dimension

    fast_mean_ode(monkeypatch)
    monkeypatch.setattr("resnet_gp.mean_ode.training_lab.TrainingLab.workers", in_this_process)
    monkeypatch.setattr(dimension, "_rate_ratio", lambda D: [1.0, 1.0, 1.0])  # wrong step sizes
    result = invoke("mean-ode", "--out", tmp_path, "--quick")
    assert result.exit_code == 1, result.output
    assert "1 of 7 checks failed: critical step sizes: D/(LM) over" in result.stdout
    assert not json.loads((tmp_path / "results.json").read_text())["passed"]
    assert not (tmp_path / "unfinished").exists()


# Two tables, as small as can be told apart from noise: a fit of each serves all tests.


def houses(n=36, seed=0):
    rng = np.random.default_rng(seed)
    size, city = rng.normal(size=n), rng.choice(["Oslo", "Rome"], n)
    price = size + 2 * (city == "Rome") + 0.1 * rng.normal(size=n)
    age = np.where(rng.random(n) < 0.1, "", rng.normal(size=n).astype(str))
    names = [f"house {i}" for i in range(n)]
    return [("name", names), ("size", size), ("age", age), ("city", city), ("price [EUR]", price)]


def flowers(n=36, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.array(["rose", "tulip", "lily"])[np.arange(n) % 3]
    length = rng.normal(size=n) + 3 * (np.arange(n) % 3)
    return [("length", length), ("width", rng.normal(size=n)), ("kind", kind)]


def save_csv(path, columns):
    rows = zip(*(values for _, values in columns), strict=True)
    lines = [",".join(name for name, _ in columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def invoke_fit(folder, columns, target, *more):
    data = save_csv(folder / "data.csv", columns)
    return invoke("fit", data, "--target", target, "--out", folder / "out", "--folds", 3, *more)


@pytest.fixture(scope="module")
def fitted_houses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("houses")
    result = invoke_fit(folder, houses(), "price [EUR]", "--drop", "name", "--seed", 1)
    assert result.exit_code == 0, result.output
    return folder / "out", result.stdout


@pytest.fixture(scope="module")
def fitted_flowers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flowers")
    result = invoke_fit(folder, flowers(), "kind")
    assert result.exit_code == 0, result.output
    return folder / "out", result.stdout


def one_line(result):
    """The message of an error, out of its box."""
    return " ".join(result.output.replace("│", " ").split())


def test_fit_prints_and_writes_what_it_found(fitted_houses):
    out, printed = fitted_houses
    assert "regression of 'price [EUR]': 36 rows, 3 columns, 5 features" in printed
    assert "categories: 'city'" in printed
    assert "column 'age': " in printed
    assert "scores: 36 of 36 rows, each predicted by a model that has not seen it (3" in printed
    assert "that has not seen it (3 folds); trivial model: " in printed
    for word in ("RMSE", "R²", "NLPD", "in 90 % interval", "mean width", "trivial", "lengthscale"):
        assert word in printed
    assert {path.name for path in out.iterdir()} == {
        "model", "columns.json", "report.json", "cross_validation.csv", "predictions.png",
    }  # fmt: skip
    report = json.loads((out / "report.json").read_text())
    ours, trivial = report["cross_validation"]["scores"].values()
    assert ours["rmse"] < 0.5 * trivial["rmse"]
    assert ours["nlpd"] < trivial["nlpd"]
    assert list(report["relevance"])[-1] == "age"
    assert report["seed"] == 1
    pd = pytest.importorskip("pandas")
    table = pd.read_csv(out / "cross_validation.csv")
    assert table["row"].tolist() == list(range(1, 37))
    assert table["truth"].to_numpy() == pytest.approx(houses()[-1][1])
    rmse = np.sqrt(np.mean((table["truth"] - table["mean"]) ** 2))
    assert rmse == pytest.approx(ours["rmse"])
    inside = (table["lower_90"] <= table["truth"]) & (table["truth"] <= table["upper_90"])
    assert inside.mean() == pytest.approx(ours["coverage"])


def test_two_networks_are_reported(tmp_path, monkeypatch):
    from resnet_gp.estimators import regressor

    chosen = regressor.choose_components
    monkeypatch.setattr(
        regressor, "choose_components", lambda kernels, _, *how: chosen(kernels, 2, *how)
    )
    result = invoke_fit(tmp_path, houses(), "price [EUR]", "--drop", "name")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["model"]["kernels"] == ["limit + limit"]
    assert set(report["relevance"]) == {"size", "age", "city"}


def test_predictions_are_those_of_the_saved_model(fitted_houses, tmp_path):
    pd = pytest.importorskip("pandas")
    from resnet_gp import ResNetGPRegressor

    out, _ = fitted_houses
    new = save_csv(tmp_path / "new.csv", houses(20, seed=5))
    result = invoke("predict", out / "model", new, "--out", tmp_path / "deep" / "new.csv")
    assert result.exit_code == 0, result.output
    assert "20 rows" in result.stdout
    assert "RMSE" in result.stdout
    assert "training row" not in result.stdout
    model = ResNetGPRegressor.load(out / "model")
    X = pd.read_csv(new)[["size", "age", "city"]]
    names = ["size", "age", "age is missing", "city=Oslo", "city=Rome"]
    assert model.columns_.feature_names == names
    assert X["age"].isna().any()
    mean, std = model.predict(X, return_std=True)
    table = pd.read_csv(tmp_path / "deep" / "new.csv")
    assert list(table.columns) == ["mean", "std", "lower_90", "upper_90"]
    assert table["mean"].to_numpy() == pytest.approx(mean, rel=1e-12)
    assert table["std"].to_numpy() == pytest.approx(std, rel=1e-12)
    upper = model.predict_quantiles(X, [0.95])[:, 0]
    assert table["upper_90"].to_numpy() == pytest.approx(upper, rel=1e-12)


def test_predictions_do_not_depend_on_the_order_of_columns(fitted_houses, tmp_path):
    out, _ = fitted_houses
    texts = []
    for columns in (houses(9, seed=5), houses(9, seed=5)[3:0:-1]):  # and not on others
        new = save_csv(tmp_path / "new.csv", columns)
        result = invoke("predict", out / "model", new, "--out", tmp_path / "p.csv", "--overwrite")
        assert result.exit_code == 0, result.output
        texts.append((tmp_path / "p.csv").read_text())
    assert texts[0] == texts[1]
    assert "RMSE" not in result.stdout


def test_scores_of_training_rows_come_with_a_warning(fitted_houses, tmp_path):
    out, _ = fitted_houses
    result = invoke("predict", out / "model", out.parent / "data.csv", "--out", tmp_path / "p.csv")
    assert "warning: 36 of 36 rows have the features of a training row" in result.stdout


def test_the_level_names_the_columns(fitted_houses, tmp_path):
    out, _ = fitted_houses
    new = save_csv(tmp_path / "new.csv", houses(5))
    result = invoke("predict", out / "model", new, "--out", tmp_path / "p.csv", "--level", "0.995")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.csv").read_text().startswith("mean,std,lower_99.5,upper_99.5\n")
    assert "in 99.5 % interval" in result.stdout


def test_strange_values_are_predicted_with_a_warning(fitted_houses, tmp_path):
    out, _ = fitted_houses
    columns = [("size", ["", 1]), ("age", ["", 2]), ("city", ["Nice [FR]", "Rome"])]
    new = save_csv(tmp_path / "new.csv", [*columns, ("price [EUR]", ["", "x"])])
    result = invoke("predict", out / "model", new, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert "warning: column 'size': 1 missing, though none were in training" in result.stdout
    assert "warning: column 'city': 'Nice [FR]' was not in training (1 row)" in result.stdout
    assert "column 'age'" not in result.stdout
    assert "2 rows without a target" in result.stdout


def test_columns_without_a_value(tmp_path):
    """One that was always empty is no feature; one that is empty in a new table has its median."""
    columns = [(name, values) for name, values in houses() if name != "name"]
    result = invoke_fit(tmp_path, [*columns, ("empty", [""] * 36)], "price [EUR]")
    assert result.exit_code == 0, result.output
    columns = [("size", [""]), ("age", [""]), ("city", ["Rome"]), ("empty", [""])]
    new = save_csv(tmp_path / "new.csv", columns)
    result = invoke("predict", tmp_path / "out" / "model", new, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert "warning: column 'size': 1 missing, though none were in training" in result.stdout
    assert len((tmp_path / "p.csv").read_text().split()) == 2


def test_classification_from_a_table(fitted_flowers, tmp_path):
    pd = pytest.importorskip("pandas")
    from resnet_gp import ResNetGPClassifier

    out, printed = fitted_flowers
    assert "classification of 'kind': 36 rows" in printed
    assert "log-loss" in printed
    report = json.loads((out / "report.json").read_text())
    ours, trivial = report["cross_validation"]["scores"].values()
    assert ours["accuracy"] > 0.8 > trivial["accuracy"]
    assert ours["log_loss"] < trivial["log_loss"] == pytest.approx(np.log(3))
    new = save_csv(tmp_path / "new.csv", flowers(15, seed=3))
    result = invoke("predict", out / "model", new, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert "accuracy" in result.stdout
    assert "training row" not in result.stdout
    model, table = ResNetGPClassifier.load(out / "model"), pd.read_csv(tmp_path / "p.csv")
    X = pd.read_csv(new)[["length", "width"]]
    labels = ["lily", "rose", "tulip"]
    assert list(table.columns) == ["class", *(f"probability_{label}" for label in labels)]
    assert table["class"].tolist() == model.predict(X).tolist()
    assert table.to_numpy()[:, 1:].astype(float) == pytest.approx(model.predict_proba(X))
    assert pd.read_csv(out / "cross_validation.csv")["truth"].tolist() == flowers()[-1][1].tolist()


def test_fit_does_not_overwrite_unless_told(fitted_flowers, tmp_path, monkeypatch):
    out, _ = fitted_flowers
    before = (out / "model").read_bytes()
    again = ("fit", out.parent / "data.csv", "--target", "kind", "--out", out)
    result = invoke(*again)
    assert result.exit_code == 2
    assert "already: --overwrite replaces them" in one_line(result)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("resnet_gp.tables.training.train", interrupt)
    result = invoke(*again, "--overwrite")
    assert result.exit_code == 130
    assert "interrupted; nothing was written" in result.stdout
    assert (out / "model").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "prise"), "Invalid value for --target: there is no column 'prise'"),
        (("--target", "size", "--folds", 1), "--folds"),
        (("--target", "size", "--task", "guess"), "--task"),
        (("--target", "size", "--separator", ";"), "Invalid value for --separator: there is one"),
        (("--target", "size"), "Invalid value for DATA.csv: column 'name' holds 36 different"),
    ],
)
def test_fit_names_what_is_wrong_and_writes_nothing(tmp_path, arguments, message):
    data = save_csv(tmp_path / "data.csv", houses())
    result = invoke("fit", data, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in one_line(result)
    assert not (tmp_path / "out").exists()


def test_fit_says_which_file_is_not_there(tmp_path):
    result = invoke("fit", tmp_path / "no.csv", "--target", "y", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Invalid value for DATA.csv: there is no file" in one_line(result)


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (houses(5)[2:], (), "Invalid value for NEW.csv: the model needs the column 'size'"),
        (houses(5), ("--level", "1"), "Invalid value for --level: must be between 0 and 1"),
        (houses(5), ("--separator", "ab"), "Invalid value for --separator: must be one character"),
        ([("size", ["x"]), ("age", [1]), ("city", ["Rome"])], (), "holds 'x' in row 1, not a num"),
    ],
)
def test_predict_names_what_is_wrong(fitted_houses, tmp_path, columns, arguments, message):
    new = save_csv(tmp_path / "new.csv", columns)
    out = tmp_path / "p.csv"
    result = invoke("predict", fitted_houses[0] / "model", new, "--out", out, *arguments)
    assert result.exit_code == 2
    assert message in one_line(result)
    assert not out.exists()


def test_predict_does_not_overwrite_unless_told(fitted_houses, tmp_path):
    new = save_csv(tmp_path / "new.csv", houses(5))
    before = new.read_text()
    (tmp_path / "p.csv").write_text("old")
    (tmp_path / "loop").symlink_to("loop")
    for arguments, message in (
        ((tmp_path / "p.csv",), "exists: --overwrite replaces it"),
        ((new, "--overwrite"), "would be written over"),
        ((fitted_houses[0] / "model", "--overwrite"), "would be written over"),
        ((fitted_houses[0] / "columns.json", "--overwrite"), "would be written over"),
        ((tmp_path,), "is a folder"),
        ((tmp_path / "loop",), "Too many levels of symbolic links"),
    ):
        result = invoke("predict", fitted_houses[0] / "model", new, "--out", *arguments)
        assert result.exit_code == 2
        assert message in one_line(result)
    assert (tmp_path / "p.csv").read_text() == "old"
    assert new.read_text() == before


def test_predict_says_what_is_wrong_with_a_model(fitted_houses, fitted_flowers, tmp_path):
    new = save_csv(tmp_path / "new.csv", houses(5))
    model, columns = tmp_path / "model", tmp_path / "columns.json"

    def message():
        result = invoke("predict", model, new, "--out", tmp_path / "p.csv")
        assert result.exit_code == 2
        return one_line(result)

    assert "Invalid value for MODEL: no such file" in message()
    shutil.copy(fitted_houses[0] / "model", model)
    assert "columns.json is missing" in message()
    columns.write_text("{")
    assert "columns.json cannot be read" in message()
    columns.write_text('{"format": 99}')
    assert "has format 99" in message()
    columns.write_text('{"format": 2, "task": "regression"}')
    assert "columns.json is damaged" in message()
    shutil.copy(fitted_flowers[0] / "columns.json", columns)
    assert "holds a ResNetGPRegressor" in message()
    content = json.loads((fitted_houses[0] / "columns.json").read_text())
    columns.write_text(json.dumps(content | {"training_digest": "0"}))
    assert "are of two different fits" in message()
    model.unlink()
    model.mkdir()
    assert "is a folder: name the file" in message()


def test_predictions_go_through_pipes_and_links(fitted_houses, tmp_path):
    new = save_csv(tmp_path / "new.csv", houses(5, seed=5))
    real, link, pipe = tmp_path / "real.csv", tmp_path / "link.csv", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    for arguments in ((pipe,), (link, "--overwrite")):
        result = invoke("predict", fitted_houses[0] / "model", new, "--out", *arguments)
        assert result.exit_code == 0, result.output
        assert (result.stdout == "") == (arguments == (pipe,))  # which may be the standard output
    reader.join(10)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert read == [real.read_text()]
    assert len(real.read_text().splitlines()) == 6


def test_a_row_that_is_too_far_is_named(fitted_houses, tmp_path):
    columns = [("size", [1, 2, "-1.797e308"]), ("age", [1, 2, 3]), ("city", ["Rome"] * 3)]
    new = save_csv(tmp_path / "new.csv", columns)
    result = invoke("predict", fitted_houses[0] / "model", new, "--out", tmp_path / "p.csv")
    assert result.exit_code == 2
    assert "NEW.csv: column 'size', row 3 holds -1.797e+308, more than" in one_line(result)
    assert not (tmp_path / "p.csv").exists()


def test_codes_labels_and_rounded_columns_of_a_table(tmp_path):
    pd = pytest.importorskip("pandas")
    ids = ["90071992547409931", "90071992547409932", "90071992547409933"] * 12
    labels = np.where(np.array(ids) == ids[1], "00501", "01067")
    rounded = [0.1 + 0.2, 0.3] * 18
    result = invoke_fit(
        tmp_path,
        [("id", ids), ("x", range(36)), ("rounded", rounded), ("label", labels)],
        "label", "--task", "classification", "--categorical", "id",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "36 rows, 2 columns, 4 features" in result.stdout
    assert "constant, not used: 'rounded'" in result.stdout
    new = save_csv(tmp_path / "new.csv", [("id", ids[:3]), ("x", [5] * 3), ("rounded", [0.31] * 3)])
    result = invoke("predict", tmp_path / "out" / "model", new, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "p.csv", dtype=str)
    assert table["class"].tolist() == ["01067", "00501", "01067"]
    assert list(table.columns) == ["class", "probability_00501", "probability_01067"]


def test_the_command_line_starts_without_what_single_commands_need():
    code = "import resnet_gp.cli, sys; print({'pandas', 'sklearn', 'matplotlib'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_compile(monkeypatch):
    monkeypatch.setattr("resnet_gp.models.warm_up.compile_loops", lambda: iter(["float64"]))
    result = invoke("compile")
    assert result.exit_code == 0, result.output
    assert "compiled for float64" in result.stdout
