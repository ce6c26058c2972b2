import json

import numpy as np
import pytest
from scipy.stats import norm

from resnet_gp import demo


def save_set(folder, name="toy", n=40, **changes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2))
    arrays = {"X": X, "y": np.sin(X[:, 0]) + 0.1 * rng.normal(size=n), "n_splits": np.int64(3)}
    for i in range(3):
        order = rng.permutation(n).astype(np.int32)
        arrays |= {f"train_{i}": order[10:], f"test_{i}": order[:10]}
    arrays |= changes
    folder.mkdir(exist_ok=True, parents=True)
    np.savez(folder / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder / f"{name}.npz"


def test_scores_against_their_definitions():
    rng = np.random.default_rng(0)
    truth, mean, std = rng.normal(size=500), rng.normal(size=500), rng.uniform(0.5, 2, 500)
    rmse, nlpd, coverage = demo.scores(truth, mean, std)
    assert rmse == pytest.approx(np.sqrt(np.mean((truth - mean) ** 2)))
    assert nlpd == pytest.approx(-norm(mean, std).logpdf(truth).mean())
    low, high = norm(mean, std).interval(0.9)
    assert coverage == np.mean((low <= truth) & (truth <= high))


def test_mean_and_error():
    values = np.array([1.0, 2.0, 6.0])
    assert demo.mean_and_error(values) == pytest.approx((3, np.sqrt(7 / 3)))
    assert np.isnan(demo.mean_and_error(values[:1])[1])


def test_load_set(tmp_path):
    data = demo.load_set(save_set(tmp_path), 2)
    assert data.name == "toy"
    assert data.X.shape == (40, 2)
    assert len(data.splits) == 2
    train, test = data.splits[1]
    assert train.dtype == test.dtype == np.int64
    assert sorted([*train, *test]) == list(range(40))
    assert len(demo.load_set(tmp_path / "toy.npz", 99).splits) == 3


def test_load_set_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="lacks n_splits"):
        demo.load_set(save_set(tmp_path, n_splits=None))
    with pytest.raises(ValueError, match="not a regression set"):
        demo.load_set(save_set(tmp_path, y=np.zeros(40, dtype=np.int64)))


def test_find_sets(tmp_path):
    save_set(tmp_path / "regression", "b")
    save_set(tmp_path / "regression", "a")
    assert [p.stem for p in demo.find_sets(tmp_path)] == ["a", "b"]
    assert [p.stem for p in demo.find_sets(tmp_path / "regression", ["b"])] == ["b"]
    with pytest.raises(FileNotFoundError, match=r"c not in .* there are a, b"):
        demo.find_sets(tmp_path, ["c"])
    with pytest.raises(FileNotFoundError, match="not a folder"):
        demo.find_sets(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no \.npz sets"):
        demo.find_sets(tmp_path / "empty")


def test_shipped_set_has_the_splits_asked_for():
    data = demo.shipped_set(2)
    assert len(data.splits) == 2
    assert data.X.shape == (442, 10)


def test_run_summary_and_json(tmp_path):
    data = demo.load_set(save_set(tmp_path), 2)
    results = list(demo.run(data))
    all_scores = [score for score, _ in results]
    assert [(s.split, s.model) for s in all_scores] == [
        (split, model) for split in (0, 1) for model in demo.MODELS
    ]
    assert all(s.rmse < 0.5 and s.seconds > 0 for s in all_scores)
    assert all(np.isfinite(p.std).all() and p.truth.shape == (10,) for _, p in results)
    demo.write_json(tmp_path / "out.json", all_scores)
    content = json.loads((tmp_path / "out.json").read_text())
    assert len(content["scores"]) == 4
    ours = [s.rmse for s in all_scores if s.model == demo.OURS]
    summary = content["summary"]["toy"][demo.OURS]["rmse"]
    assert summary["mean"] == pytest.approx(np.mean(ours))
    assert summary["standard_error"] == pytest.approx(np.std(ours, ddof=1) / np.sqrt(2))
    assert content["versions"]["resnet-gp"]
    demo.draw(tmp_path / "out.png", [predictions for _, predictions in results])
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
