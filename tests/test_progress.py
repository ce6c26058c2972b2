import os
import threading

from resnet_gp.progress import write_atomically


def test_files_are_replaced(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as before:
        write_atomically(path, b"new")
        assert before.read() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_links_are_followed(tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder / "file")
    for data in (b"one", b"two"):  # the first to a file that is not there yet
        write_atomically(link, data)
        assert link.is_symlink()
        assert (folder / "file").read_bytes() == data
    assert [p.name for p in folder.iterdir()] == ["file"]


def test_pipes_are_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomically(pipe, b"through")
    reader.join(10)
    assert read == [b"through"]
    assert pipe.is_fifo()
