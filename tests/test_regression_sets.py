import numpy as np
import pytest

from resnet_gp.regression_sets import find_sets, load_set, shipped_set


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


def test_load_set(tmp_path):
    data = load_set(save_set(tmp_path), 2)
    assert data.name == "toy"
    assert data.X.shape == (40, 2)
    assert len(data.splits) == 2
    train, test = data.splits[1]
    assert train.dtype == test.dtype == np.int64
    assert sorted([*train, *test]) == list(range(40))
    assert len(load_set(tmp_path / "toy.npz", 99).splits) == 3


def test_load_set_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="lacks n_splits"):
        load_set(save_set(tmp_path, n_splits=None))
    with pytest.raises(ValueError, match="not a regression set"):
        load_set(save_set(tmp_path, y=np.zeros(40, dtype=np.int64)))


def test_find_sets(tmp_path):
    save_set(tmp_path / "regression", "b")
    save_set(tmp_path / "regression", "a")
    assert [p.stem for p in find_sets(tmp_path)] == ["a", "b"]
    assert [p.stem for p in find_sets(tmp_path / "regression", ["b"])] == ["b"]
    with pytest.raises(FileNotFoundError, match=r"c not in .* there are a, b"):
        find_sets(tmp_path, ["c"])
    with pytest.raises(FileNotFoundError, match="not a folder"):
        find_sets(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no \.npz sets"):
        find_sets(tmp_path / "empty")


def test_shipped_set_has_the_splits_asked_for():
    data = shipped_set(2)
    assert len(data.splits) == 2
    assert data.X.shape == (442, 10)
