"""Regression sets with train and test splits, from .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_KEYS = ("X", "y", "n_splits")


class DataSet(NamedTuple):
    """A regression set with its splits.

    Attributes:
        name: name of the set.
        X: ``n x d`` features.
        y: ``n`` targets.
        splits: indices of the training rows and of the test rows, for each split.
    """

    name: str
    X: Array
    y: Array
    splits: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def load_set(path: Path, n_splits: int | None = None) -> DataSet:
    """Read an .npz archive with X, y, n_splits, train_0, test_0, train_1, ...

    Args:
        path: the archive.
        n_splits: number of splits to take; all if None, or if there are fewer.

    Raises:
        ValueError: a key is missing, or X and y are not a regression problem.
    """
    with np.load(path, allow_pickle=False) as archive:
        missing = [key for key in _KEYS if key not in archive]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}")
        X, y = archive["X"], archive["y"]
        if X.ndim != 2 or y.shape != (len(X),) or y.dtype.kind != "f":
            raise ValueError(
                f"{path} is not a regression set: X has shape {X.shape}, y {y.shape} of {y.dtype}"
            )
        available = int(archive["n_splits"])
        count = available if n_splits is None else min(n_splits, available)
        splits = [
            (archive[f"train_{i}"].astype(np.int64), archive[f"test_{i}"].astype(np.int64))
            for i in range(count)
        ]
    return DataSet(path.stem, X, y, splits)


def find_sets(folder: Path, names: list[str] | None = None) -> list[Path]:
    """Sorted .npz files of a folder, or of its folder ``regression`` if there is one.

    Raises:
        FileNotFoundError: there is no such folder, it has no sets, or it lacks one of ``names``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--data: {folder} is not a folder")
    inner = folder / "regression"
    paths = sorted((inner if inner.is_dir() else folder).glob("*.npz"))
    if not paths:
        raise FileNotFoundError(f"--data: {folder} holds no .npz sets")
    if not names:
        return paths
    known = {path.stem: path for path in paths}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise FileNotFoundError(
            f"--set: {', '.join(unknown)} not in {folder}; there are {', '.join(known)}"
        )
    return [known[name] for name in names]
