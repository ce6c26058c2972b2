import numpy as np
import pytest
import scripts

sets = scripts.load("benchmarks", "regression_sets")


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
    data = sets.load_set(save_set(tmp_path), 2)
    assert data.name == "toy"
    assert data.X.shape == (40, 2)
    assert len(data.splits) == 2
    train, test = data.splits[1]
    assert train.dtype == test.dtype == np.int64
    assert sorted([*train, *test]) == list(range(40))
    assert len(sets.load_set(tmp_path / "toy.npz", 99).splits) == 3


def test_load_set_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="lacks n_splits"):
        sets.load_set(save_set(tmp_path, n_splits=None))
    with pytest.raises(ValueError, match="not a regression set"):
        sets.load_set(save_set(tmp_path, y=np.zeros(40, dtype=np.int64)))


def test_find_sets(tmp_path):
    save_set(tmp_path / "regression", "b")
    save_set(tmp_path / "regression", "a")
    assert [p.stem for p in sets.find_sets(tmp_path)] == ["a", "b"]
    assert [p.stem for p in sets.find_sets(tmp_path / "regression", ["b"])] == ["b"]
    with pytest.raises(FileNotFoundError, match=r"c not in .* there are a, b"):
        sets.find_sets(tmp_path, ["c"])
    with pytest.raises(FileNotFoundError, match="not a folder"):
        sets.find_sets(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no \.npz sets"):
        sets.find_sets(tmp_path / "empty")
