import json
import os

import pytest

pytest.importorskip("pandas")

from tables.houses import houses

from resnet_gp.progress import is_stream
from resnet_gp.tables import files
from resnet_gp.tables.files import FILES, check_file, check_folder, write_fit
from resnet_gp.tables.plan import make_plan
from resnet_gp.tables.reading import TableError
from resnet_gp.tables.training import train


@pytest.mark.parametrize("failing", ["draw", "write_out_of_fold"])
def test_what_was_there_stays_if_writing_fails(tmp_path, echo, monkeypatch, failing):
    plan = make_plan(houses(), "price")
    for name in (*FILES, "notes.txt"):
        (tmp_path / name).write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        write_fit(tmp_path, plan, train(plan))
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "notes.txt"}
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


def test_other_files_of_the_folder_stay(tmp_path, echo):
    (tmp_path / "notes.txt").write_text("mine")
    plan = make_plan(houses(), "price")
    write_fit(tmp_path, plan, train(plan))
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "notes.txt"}
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == 40


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    data = tmp_path / "data.csv"
    with pytest.raises(TableError, match="file is not a folder"):
        check_folder(tmp_path / "file" / "deep", data, False)
    (tmp_path / "report.json").touch()
    with pytest.raises(TableError, match=r"has 'report.json' already: --overwrite replaces"):
        check_folder(tmp_path, data, False)
    check_folder(tmp_path, data, True)
    with pytest.raises(TableError, match="would be written over"):
        check_folder(tmp_path, tmp_path / "report.json", True)
    (tmp_path / "model").mkdir()
    with pytest.raises(TableError, match="model is no file"):
        check_folder(tmp_path, data, True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(TableError, match="cannot be written to") as caught:
        check_folder(tmp_path / "new", data, False)
    assert caught.value.option == "--out"
    assert not (tmp_path / "new").exists()


def test_modes_of_replaced_files_are_kept(tmp_path, echo):
    for name in FILES:
        (tmp_path / name).touch(0o600)
    plan = make_plan(houses(), "price")
    write_fit(tmp_path, plan, train(plan))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_loops_of_links_are_refused(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (tmp_path / "report.json").symlink_to(loop)
    data = tmp_path / "data.csv"
    for check, out in ((check_file, loop), (check_folder, loop), (check_folder, tmp_path)):
        with pytest.raises(TableError, match="levels of symbolic links") as caught:
            check(out, data, True)
        assert caught.value.option == "--out"


def test_links_to_files_of_a_fit_are_followed(tmp_path, echo):
    out, elsewhere = tmp_path / "out", tmp_path / "report.json"
    out.mkdir()
    (out / "report.json").symlink_to(elsewhere)
    plan = make_plan(houses(), "price")
    write_fit(out, plan, train(plan))
    assert (out / "report.json").is_symlink()
    assert json.loads(elsewhere.read_text())["rows"] == 40


def test_streams_are_written_to_without_being_told_to_overwrite(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert is_stream(pipe)
    check_file(pipe, [tmp_path / "data.csv"], False)
    (tmp_path / "link").symlink_to(pipe)
    check_file(tmp_path / "link", [tmp_path / "data.csv"], False)
    assert not is_stream(tmp_path / "new.csv")


def test_a_link_to_a_file_needs_permission_to_overwrite(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with pytest.raises(TableError, match="exists: --overwrite replaces it"):
        check_file(tmp_path / "link.csv", [tmp_path / "data.csv"], False)
    check_file(tmp_path / "link.csv", [tmp_path / "data.csv"], True)
