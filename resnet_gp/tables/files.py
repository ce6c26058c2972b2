"""Output files: the folder of a fit, and the CSV file of predictions."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from resnet_gp.columns.wording import quoted
from resnet_gp.progress import is_stream, write_atomically
from resnet_gp.tables.fit_report import draw, report, write_out_of_fold
from resnet_gp.tables.plan import Plan
from resnet_gp.tables.predict import Predictions
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.saved import COLUMNS, MODEL
from resnet_gp.tables.training import Result

REPORT, OUT_OF_FOLD, FIGURE = "report.json", "cross_validation.csv", "predictions.png"
FILES = (MODEL, COLUMNS, REPORT, OUT_OF_FOLD, FIGURE)


def check_folder(out: Path, data: Path, overwrite: bool) -> None:
    """Raise a TableError if files of a fit cannot be written, or exist and may not be replaced."""
    for path in (out, *(out / name for name in FILES)):
        _check_links(path)
    _check_place(out)
    there = [name for name in FILES if (out / name).exists()]
    for name in there:
        if not (out / name).is_file():
            raise TableError(f"{out / name} is no file", "--out")
    if any((out / name).resolve() == data.resolve() for name in there):
        raise TableError(f"{data} would be written over", "--out")
    if there and not overwrite:
        raise TableError(f"{out} has {quoted(there)} already: --overwrite replaces them", "--out")


def write_fit(out: Path, plan: Plan, result: Result) -> None:
    """Write ``FILES`` to a folder inside ``out``, then move all of them to ``out``.

    Other files stay. Replaced files keep their modes, and symbolic links are followed.

    Raises:
        OSError: writing failed; the old files are still there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".resnet-gp-", dir=out) as name:
        folder = Path(name)
        result.saved.save(folder)
        text = json.dumps(report(plan, result), indent=1, allow_nan=False) + "\n"
        (folder / REPORT).write_text(text, encoding="utf-8")
        write_out_of_fold(folder / OUT_OF_FOLD, plan, result.out_of_fold)
        draw(folder / FIGURE, plan, result)
        for file in FILES:
            _to_disk(folder / file)
        for file in FILES:
            if (out / file).is_symlink():
                write_atomically(out / file, (folder / file).read_bytes())
            else:
                if (out / file).exists():
                    shutil.copymode(out / file, folder / file)
                os.replace(folder / file, out / file)


def check_file(out: Path, read: Sequence[Path], overwrite: bool) -> None:
    """Raise a TableError if ``out`` cannot be written, or is a file that may not be replaced.

    Args:
        out: the file.
        read: files that are read, which it may not be.
        overwrite: whether other files may be replaced.
    """
    _check_links(out)
    if out.is_dir():
        raise TableError(f"{out} is a folder", "--out")
    if is_stream(out):
        _check_access(out)
        return
    _check_place(out.resolve().parent)
    for path in read:
        if out.exists() and out.resolve() == path.resolve():
            raise TableError(f"{path} would be written over", "--out")
    if out.exists() and not overwrite:
        raise TableError(f"{out} exists: --overwrite replaces it", "--out")


def write_predictions(out: Path, predictions: Predictions) -> None:
    """Write a CSV file, whole or not at all, or write to a stream."""
    import pandas as pd

    text = io.StringIO()
    pd.DataFrame(predictions.table).to_csv(text, index=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.getvalue().encode())


def _check_links(path: Path) -> None:
    """Check that the system can follow a path, which it cannot in a loop of symbolic links."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}", "--out") from error


def _check_place(folder: Path) -> None:
    """Check that a folder, or the closest one above it that exists, can be written to."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise TableError(f"{place} is not a folder", "--out")
    _check_access(place)


def _check_access(path: Path) -> None:
    if not os.access(path, os.W_OK):
        raise TableError(f"{path} cannot be written to", "--out")


def _to_disk(path: Path) -> None:
    """Flush a file to the disk, so that no crash leaves it empty after it was moved."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
